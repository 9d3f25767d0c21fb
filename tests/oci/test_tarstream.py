from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitops import errors
from gitops.oci import tarheader
from gitops.oci.limits import Limits
from gitops.oci.tarheader import Member
from gitops.oci.tarstream import TarReader


def chunks(data: bytes, size: int) -> Callable[[], bytes]:
    pieces: Iterator[bytes] = (data[at : at + size] for at in range(0, len(data), size))
    return lambda: next(pieces, b"")


def read(data: bytes, size: int = 1000, limits: Limits | None = None) -> list[tuple[Member, bytes]]:
    reader = TarReader(chunks(data, size), limits or Limits())
    found = [(member, b"".join(reader.data())) for member in reader]
    assert reader.offset == len(data)
    return found


def pack(*entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=form) as tar:
        for entry in entries:
            info, data = entry if isinstance(entry, tuple) else (entry, b"")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return output.getvalue()


def entry(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def patch(data: bytes, at: int, value: bytes) -> bytes:
    """Change a field of the first header and mend the check sum."""
    block = bytearray(data[:512])
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


def one(data: bytes) -> Member:
    [(member, _)] = read(data)
    return member


names = st.text(alphabet="ab/.é\U0001f600", min_size=1, max_size=300).filter(lambda name: name.strip("/"))
infos = st.builds(
    entry,
    name=names,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 65535),
    mtime=st.integers(0, 2**34),
    type=st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
    linkname=st.text(alphabet="xy/", max_size=200),
)


@given(
    st.lists(st.tuples(infos, st.binary(max_size=2000)), max_size=6),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from([1, 7, 512, 100_000]),
)
def test_what_the_standard_library_writes_is_read_the_same(
    entries: list[tuple[tarfile.TarInfo, bytes]], form: int, size: int
) -> None:
    wanted = [(info, data if info.isreg() else b"") for info, data in entries]
    found = read(pack(*wanted, form=form), size)
    assert len(found) == len(wanted)
    for (member, content), (info, data) in zip(found, wanted, strict=True):
        assert content == data
        assert member.name.rstrip(b"/") == info.name.encode().rstrip(b"/")
        assert (member.mode, member.uid, member.gid) == (info.mode, info.uid, info.gid)
        assert member.mtime_ns == info.mtime * 1_000_000_000
        assert member.linkname == info.linkname.encode()
        assert member.kind == info.type


SAMPLE = pack(
    (entry("a" * 150, pax_headers={"SCHILY.xattr.user.k": "v", "mtime": "1.25"}), b"x" * 700),
    entry("d", type=tarfile.DIRTYPE),
    entry("l", type=tarfile.SYMTYPE, linkname="t" * 120),
    (entry("z"), b"zz"),
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(SAMPLE))
)
def test_damaged_streams_are_read_or_refused_cleanly(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(SAMPLE)
    for at, value in changes:
        data[at] = value
    reader = TarReader(chunks(bytes(data[: cut or None]), 512))
    try:
        for _ in reader:
            for _ in reader.data():
                pass
    except errors.Invalid:
        pass


def test_extended_headers_give_attributes_and_nanoseconds() -> None:
    headers = {"SCHILY.xattr.user.k": "v=\n1", "mtime": "-1.5", "SCHILY.xattr.user.empty": "", "uid": "4000000000"}
    member = one(pack(entry("f", pax_headers=headers)))
    assert member.xattrs == {b"user.k": b"v=\n1"}
    assert member.mtime_ns == -1_500_000_000
    assert member.uid == 4_000_000_000


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        (b"1", 10**9),
        (b"0.000000001", 1),
        (b"1234567890.123456789999", 1234567890123456789),
        (b"-0.5", -500_000_000),
        (b"16725225600.", 16725225600 * 10**9),
    ],
)
def test_times_keep_their_nanoseconds(text: bytes, time_ns: int) -> None:
    assert tarheader.parse_time(text) == time_ns


@pytest.mark.parametrize("text", [b"", b"1e3", b".5", b"--1", b"1.x", b"9" * 19, b"+1"])
def test_what_is_no_time_is_refused(text: bytes) -> None:
    with pytest.raises(errors.Invalid):
        tarheader.parse_time(text)


def test_a_global_header_is_read_and_ignored() -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "evil"}) as tar:
        tar.addfile(entry("good"))
    assert one(output.getvalue()).name == b"good"


def test_a_trailing_slash_makes_a_directory_only_of_the_old_type() -> None:
    data = pack(entry("d/"), form=tarfile.USTAR_FORMAT)
    assert one(patch(data, 156, b"\0")).kind == tarheader.DIRECTORY
    assert one(patch(data, 156, b"0")).kind == tarheader.FILE
    assert one(patch(data, 156, b"7")).kind == tarheader.FILE


def test_types_without_data_have_none_whatever_their_size_says() -> None:
    data = pack(entry("d", type=tarfile.DIRTYPE), entry("e"), form=tarfile.USTAR_FORMAT)
    assert [member.name for member, _ in read(patch(data, 124, b"00000001000\0"))] == [b"d/", b"e"]


@pytest.mark.parametrize(
    "number", [b"+000007\0", b"-000007\0", b"0o00007\0", b"1_7\0\0\0\0\0", b"0000009\0", b"\xff" * 8]
)
def test_numbers_that_are_not_octal_are_refused_or_negative(number: bytes) -> None:
    data = patch(pack(entry("f"), form=tarfile.USTAR_FORMAT), 108, number)
    if number[0] == 0xFF:
        assert one(data).uid == -1
    else:
        with pytest.raises(errors.Invalid, match="invalid uid"):
            read(data)


def test_base_256_numbers_are_read() -> None:
    data = patch(pack(entry("f"), form=tarfile.USTAR_FORMAT), 108, b"\x80\0\0\0\xee\x6b\x28\x00")
    assert one(data).uid == 4_000_000_000


def test_the_prefix_counts_only_where_the_magic_says_so() -> None:
    data = pack(entry("f"), form=tarfile.USTAR_FORMAT)
    assert one(patch(data, 345, b"dir")).name == b"dir/f"
    assert one(patch(patch(data, 345, b"dir"), 257, bytes(8))).name == b"f"


def test_signed_check_sums_of_old_writers_are_taken() -> None:
    block = bytearray(patch(pack(entry("f"), form=tarfile.USTAR_FORMAT), 0, b"\xe9")[:512])
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) - 256)
    assert one(bytes(block) + bytes(1024)).name == b"\xe9"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SAMPLE[:100], "unexpected end in a header"),
        (SAMPLE[:2000], "unexpected end in the data"),
        (bytes(512) + SAMPLE, "lone zero block"),
        (b"x" + SAMPLE[1:], "checksum"),
        (patch(pack(entry("f"), form=tarfile.USTAR_FORMAT), 156, b"V"), "unknown type"),
        (patch(pack(entry("f"), form=tarfile.USTAR_FORMAT), 124, b"\xff" * 12), "negative size"),
        (patch(pack(entry("f"), form=tarfile.USTAR_FORMAT), 124, b"\x80" + b"\x7f" * 11), "out of range"),
        (pack(entry("f", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})), "sparse map"),
    ],
)
def test_damage_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(errors.Invalid, match=reason):
        read(data)


def test_an_end_without_zero_blocks_is_fine_and_what_follows_the_end_is_bounded() -> None:
    data = pack((entry("f"), b"x" * 10))
    assert len(read(data[:1024])) == 1
    assert len(read(data[: 512 + 10])) == 1
    padded = data + bytes(100_000)
    assert len(read(padded)) == 1
    with pytest.raises(errors.Invalid, match="after the end"):
        read(padded, limits=Limits(trailing_bytes=50_000))


@pytest.mark.parametrize(
    ("data", "limits", "reason"),
    [
        (pack(*(entry(str(number)) for number in range(9))), Limits(members=4), "headers"),
        (pack((entry("f"), b"x" * 100)), Limits(file_bytes=99), "the limit is 99"),
        (pack(entry("a" * 5000)), Limits(header_bytes=4000), "extension header"),
        (pack(entry("a", pax_headers={"SCHILY.xattr.user.a": "x" * 10})), Limits(xattr_bytes=9), "attributes"),
        (
            pack(entry("a", pax_headers={f"SCHILY.xattr.user.{n}": "x" for n in range(3)})),
            Limits(xattrs=2),
            "attributes",
        ),
    ],
)
def test_limits_hold(data: bytes, limits: Limits, reason: str) -> None:
    with pytest.raises(errors.Invalid, match=reason):
        read(data, limits=limits)


@pytest.mark.parametrize(
    "record",
    [
        b"5 a=\n",
        b"6 a=b\n7",
        b"x a=b\n",
        b"99 a=b\n",
        b"6 a=b ",
        b"7 a\0=b\n",
        b"11 path=\0b\n",
        b"5 =b\n",
        b"4 a\n",
        b"-6 a=b\n",
    ],
)
def test_malformed_records_are_refused_and_empty_values_kept(record: bytes) -> None:
    if record == b"5 a=\n":
        assert tarheader.parse_pax(record) == {b"a": b""}
        return
    with pytest.raises(errors.Invalid):
        tarheader.parse_pax(record)


def sparse_entry(headers: dict[str, str], stored: bytes) -> bytes:
    return pack((entry("GNUSparseFile.0/f", pax_headers=headers), stored))


@pytest.mark.parametrize(
    "data",
    [
        sparse_entry(
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": "1000"},
            b"2\n0\n3\n500\n2\n".ljust(512, b"\0") + b"abcde",
        ),
        sparse_entry(
            {
                "GNU.sparse.major": "0",
                "GNU.sparse.minor": "1",
                "GNU.sparse.name": "f",
                "GNU.sparse.size": "1000",
                "GNU.sparse.numblocks": "2",
                "GNU.sparse.map": "0,3,500,2",
            },
            b"abcde",
        ),
    ],
)
def test_sparse_files_give_their_pieces(data: bytes) -> None:
    [(member, stored)] = read(data)
    assert (member.name, member.size, stored) == (b"f", 1000, b"abcde")
    assert list(member.pieces or ()) == [(0, 3), (500, 2)]


@pytest.mark.parametrize("sparse_map", ["0,3,1,2", "0,3,999,2", "0,3", "0,3,500,3", "-1,3,500,2", "0,3,500,x"])
def test_sparse_maps_that_cannot_be_are_refused(sparse_map: str) -> None:
    headers = {
        "GNU.sparse.name": "f",
        "GNU.sparse.size": "1000",
        "GNU.sparse.numblocks": "2",
        "GNU.sparse.map": sparse_map,
    }
    with pytest.raises(errors.Invalid, match="sparse"):
        read(sparse_entry(headers, b"abcde"))


def test_names_are_shown_without_control_characters_and_cut() -> None:
    shown = tarheader.show(b"a\n\x1b[31m\xff" + b"x" * 500)
    assert shown.isprintable()
    assert shown.startswith("a\\n\\x1b[31m\\xff")
    assert len(shown) == 200
