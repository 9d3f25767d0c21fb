from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops import errors
from gitops.oci import tarheader
from gitops.oci.tarheader import Member
from gitops.oci.tarstream import TarReader
from gitops.oci.tarwriter import TarWriter


def write(*entries: tuple[Member, bytes]) -> bytes:
    output = io.BytesIO()
    writer = TarWriter(output)
    for member, content in entries:
        writer.add(member, io.BytesIO(content))
    writer.close()
    return output.getvalue()


members = st.builds(
    Member,
    name=st.binary(min_size=1, max_size=300).filter(lambda name: 0 not in name and not name.endswith(b"/")),
    kind=st.sampled_from([tarheader.FILE, tarheader.SYMLINK, tarheader.FIFO]),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    size=st.just(0),
    mtime_ns=st.integers(-(10**18), 10**20),
    linkname=st.binary(max_size=200).filter(lambda name: 0 not in name),
    xattrs=st.dictionaries(st.sampled_from([b"user.a", b"user.b"]), st.binary(min_size=1, max_size=50), max_size=2),
)


@given(st.lists(st.tuples(members, st.binary(max_size=1500)), max_size=4))
def test_what_is_written_reads_back_the_same(entries: list[tuple[Member, bytes]]) -> None:
    for member, content in entries:
        member.size = len(content) if member.kind == tarheader.FILE else 0
    data = write(*entries)
    pieces = iter([data])
    reader = TarReader(lambda: next(pieces, b""))
    for member, content in entries:
        assert reader.next() == member
        assert b"".join(reader.data()) == (content if member.size else b"")
    assert reader.next() is None


def test_plain_entries_need_no_extension() -> None:
    member = Member(b"d" * 90 + b"/" + b"f" * 90, tarheader.FILE, 0o644, 1, 2, 3, 10**9)
    data = write((member, b"abc"))
    assert len(data) == 512 + 512 + 1024
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        [info] = tar.getmembers()
        assert (info.name.encode(), info.uid, info.gid, info.mtime, info.size) == (member.name, 1, 2, 1, 3)


@pytest.mark.parametrize("content", [b"ab", b"abcd"])
def test_a_file_that_changed_its_length_is_refused(content: bytes) -> None:
    with pytest.raises(errors.Conflict, match="changed while it was read"):
        write((Member(b"f", tarheader.FILE, 0o644, 0, 0, 3, 0), content))
