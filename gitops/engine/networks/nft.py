"""libnftables by ctypes: commands as text in, one transaction, JSON out.

A context belongs to the network namespace of the thread that opened it, for as long as it lives. It is not safe for
several threads at once.
"""

from __future__ import annotations

import ctypes
import functools
import json
import socket
import struct
from typing import Any

from gitops import errors

_OUTPUT_JSON = 1 << 4
_LIBRARY = "libnftables.so.1"
_NETLINK_NETFILTER = 12
_GETGEN = (10 << 8) | 16
_NLMSG_ERROR = 2
_NO_TABLES = "load the module (modprobe nf_tables) or use a kernel that has it"
_TIMEOUT_S = 5.0
_GENERATION = struct.Struct(">I")


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise errors.RuntimeFailure(
            f"can't load {_LIBRARY}: {error}; install it (Debian and Ubuntu: apt install libnftables1)"
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name, result in (
        ("nft_ctx_free", None),
        ("nft_ctx_buffer_error", ctypes.c_int),
        ("nft_ctx_buffer_output", ctypes.c_int),
        ("nft_ctx_get_error_buffer", ctypes.c_char_p),
        ("nft_ctx_get_output_buffer", ctypes.c_char_p),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_void_p], result
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    return library


class Tables:
    """A context in the namespace of the calling thread."""

    def __init__(self) -> None:
        """Open it. Raises errors.RuntimeFailure where the library is missing."""
        self._library = _library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise errors.RuntimeFailure("can't open a context of libnftables: out of memory, or no netlink")
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)

    def run(self, commands: str) -> None:
        """Run commands, all or none.

        Raises:
            errors.RuntimeFailure: refused; the message has nft's own words.
        """
        self._run(commands, 0)

    def list(self, what: str) -> dict[str, Any]:
        """The JSON of `list WHAT`. Raises errors.RuntimeFailure, errors.NotFound where it doesn't exist."""
        try:
            text = self._run(f"list {what}", _OUTPUT_JSON)
        except errors.RuntimeFailure as error:
            if "No such file or directory" in str(error):
                raise errors.NotFound(f"no {what} in nftables") from error
            raise
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def close(self) -> None:
        """Free it; twice does no harm."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def _run(self, commands: str, flags: int) -> str:
        self._library.nft_ctx_output_set_flags(self._context, flags)
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        problem = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise errors.RuntimeFailure(f"nftables refused: {_explain(problem.decode(errors='replace'))}")
        return bytes(output).decode(errors="replace")


def _explain(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and set(line.strip()) - {"^", "~"}]
    if any("Operation not supported" in line or "No such file or directory" in line for line in lines):
        lines.append("(the kernel may lack a module: nf_tables, nft_chain_nat, nft_numgen, nft_fib_ipv4, nft_masq)")
    return " ".join(lines)[:600]


class Counter:
    """The number that the kernel counts up at each change of any table in the namespace of the thread that opens it.

    The socket is kept: to close one waits for what was deleted before, some 10 ms.
    """

    def __init__(self) -> None:
        """Open it. Raises errors.RuntimeFailure where the kernel has no nf_tables."""
        try:
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
            self._sock.settimeout(_TIMEOUT_S)
            self._sock.bind((0, 0))
        except OSError as error:
            raise errors.RuntimeFailure(f"can't reach nf_tables: {error.strerror}; {_NO_TABLES}") from error

    def read(self) -> int:
        """The number at present."""
        try:
            self._sock.send(struct.pack("=IHHIIBBH", 20, _GETGEN, 1, 1, 0, 0, 0, 0))
            reply = self._sock.recv(4096)
        except OSError as error:
            raise errors.RuntimeFailure(f"can't reach nf_tables: {error.strerror}; {_NO_TABLES}") from error
        if len(reply) < 28 or struct.unpack_from("=H", reply, 4)[0] == _NLMSG_ERROR:
            raise errors.RuntimeFailure(f"the kernel has no nf_tables; {_NO_TABLES}")
        # Header 16, nfgenmsg 4, attribute header 4, then the number.
        return int(_GENERATION.unpack_from(reply, 24)[0])

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
