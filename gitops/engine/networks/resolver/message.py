"""DNS messages: a cheap and strict reading of questions, answers packed by dnslib.

A question comes from a container and is hostile until read: only what a resolver library sends is understood, anything
else is `None` and is dropped. No exception leaves `parse` for any input.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import dnslib

A = 1
PTR = 12
ANY = 255
IN = 1

NOERROR = 0
SERVFAIL = 2
NXDOMAIN = 3

TTL_S = 5
"""Short: tasks come and go, and asking again costs a local round trip."""
_HEADER = struct.Struct(">6H")
_OPT = 41
_PLAIN_PAYLOAD = 512
_MOST_PAYLOAD = 4096
_ANSWER_SIZE = 16
_REVERSE = ".in-addr.arpa"


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `name` is lower case without the last dot; bytes beyond ASCII stand as in Latin-1."""

    id: int
    is_recursive: bool
    name: str
    labels: tuple[bytes, ...]
    kind: int
    klass: int
    payload: int
    """Bytes of an answer that the asker takes over UDP."""
    question: bytes
    """As it was asked: labels, type, class."""


def parse(data: bytes) -> Query | None:
    """Read a query; None for a response, for several questions, and for anything that is malformed."""
    if len(data) < _HEADER.size:
        return None
    identity, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & 0xF800 or questions != 1 or answers or authorities:
        return None
    labels = _labels(data)
    if labels is None:
        return None
    end = _HEADER.size + sum(len(label) + 1 for label in labels) + 1
    if len(data) < end + 4:
        return None
    kind, klass = struct.unpack_from(">2H", data, end)
    return Query(
        id=identity,
        is_recursive=bool(flags & 0x0100),
        name=b".".join(labels).decode("latin-1").lower(),
        labels=labels,
        kind=kind,
        klass=klass,
        payload=_payload(data, end + 4) if additional else _PLAIN_PAYLOAD,
        question=data[_HEADER.size : end + 4],
    )


def _labels(data: bytes) -> tuple[bytes, ...] | None:
    labels: list[bytes] = []
    position = _HEADER.size
    while position < len(data):
        length = data[position]
        if length == 0:
            return tuple(labels)
        # Two high bits are a pointer, which has nothing to point at in a first question.
        if length > 63 or position + 1 + length >= len(data) or position + length - _HEADER.size > 253:
            return None
        labels.append(data[position + 1 : position + 1 + length])
        position += length + 1
    return None


def _payload(data: bytes, position: int) -> int:
    """What an EDNS record right after the question says."""
    if len(data) < position + 5 or data[position] != 0:
        return _PLAIN_PAYLOAD
    kind, size = struct.unpack_from(">2H", data, position + 1)
    return min(max(size, _PLAIN_PAYLOAD), _MOST_PAYLOAD) if kind == _OPT else _PLAIN_PAYLOAD


def reverse_address(name: str) -> ipaddress.IPv4Address | None:
    """The address that a PTR question is about."""
    if not name.endswith(_REVERSE):
        return None
    try:
        return ipaddress.IPv4Address(".".join(reversed(name.removesuffix(_REVERSE).split("."))))
    except ValueError:
        return None


def addresses(query: Query, found: Sequence[str], limit: int) -> bytes:
    """An answer with A records, as many as `limit` bytes hold; fewer than all are marked as truncated."""
    room = max(1, (limit - _HEADER.size - len(query.question)) // _ANSWER_SIZE)
    reply = _reply(query, NOERROR, is_truncated=len(found) > room)
    label = dnslib.DNSLabel(query.labels)
    for address in found[:room]:
        reply.add_answer(dnslib.RR(label, dnslib.QTYPE.A, ttl=TTL_S, rdata=dnslib.A(address)))
    return bytes(reply.pack())


def pointer(query: Query, name: str) -> bytes:
    """An answer with a PTR record."""
    reply = _reply(query, NOERROR)
    labels = [label.encode("idna" if not label.isascii() else "ascii")[:63] for label in name.split(".") if label]
    target = dnslib.DNSLabel(tuple(labels))
    reply.add_answer(dnslib.RR(dnslib.DNSLabel(query.labels), dnslib.QTYPE.PTR, ttl=TTL_S, rdata=dnslib.PTR(target)))
    return bytes(reply.pack())


def empty(query: Query, code: int = NOERROR) -> bytes:
    """An answer without records."""
    return bytes(_reply(query, code).pack())


def _reply(query: Query, code: int, *, is_truncated: bool = False) -> dnslib.DNSRecord:
    header = dnslib.DNSHeader(
        id=query.id, qr=1, aa=0, tc=int(is_truncated), rd=int(query.is_recursive), ra=1, rcode=code
    )
    return dnslib.DNSRecord(header, q=dnslib.DNSQuestion(dnslib.DNSLabel(query.labels), query.kind, query.klass))


def with_id(data: bytes, identity: int) -> bytes:
    """The message under another id."""
    return struct.pack(">H", identity) + data[2:]


def answers(data: bytes, asked: bytes, identity: int) -> bool:
    """Whether `data` is a response to the message `asked` that was sent under `identity`."""
    if len(data) < _HEADER.size:
        return False
    found, flags, questions = struct.unpack_from(">3H", data)
    if found != identity or not flags & 0x8000:
        return False
    query = parse(asked)
    # Some servers leave the question out of an error.
    return query is None or questions == 0 or data[12 : 12 + len(query.question)].lower() == query.question.lower()
