"""What a layer or an archive may cost at most. Beyond it, it is refused; sizes in bytes."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Limits on one tar stream; the defaults let every honest image through.

    A limit on the ratio of compression would be of no use: honest zeros reach 1000:1. Bytes are limited instead.
    """

    members: int = 1_000_000
    """Entries of a layer; headers (long names, extended attributes) may be twice as many."""
    layer_bytes: int = 64 << 30
    """Content of all files of a layer, holes included."""
    file_bytes: int = 64 << 30
    """One file, holes included."""
    reserve_bytes: int = 256 << 20
    """What must stay free on the disk that a layer is written to."""
    sparse_pieces: int = 65_536
    name_bytes: int = 255
    path_bytes: int = 4_095
    depth: int = 256
    header_bytes: int = 1 << 20
    """One extension header."""
    xattrs: int = 64
    xattr_bytes: int = 64 << 10
    symlink_hops: int = 40
    trailing_bytes: int = 64 << 20
    """Padding after the end of the archive; it is read because the diff id covers it."""


DEFAULT = Limits()
