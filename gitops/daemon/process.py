"""What a daemon does to its own process: limits, umask, logging, a word to systemd."""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import time

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"
_JOURNAL_FORMAT = "%(levelname)s %(name)s: %(message)s"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JournalFormatter(logging.Formatter):
    """The journal has the time already, and reads the priority in front."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def set_up_logging(level: str) -> None:
    """One line an entry, to stderr; without the time where stderr is the journal."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter(_JOURNAL_FORMAT))
    else:
        formatter = logging.Formatter(_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # Each says at INFO what it is asked for at every request; theirs are DEBUG messages to us.
    for noisy in ("asyncio", "pyroute2", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def raise_limits() -> None:
    """As many open files as the machine allows: a few for each container, client and download."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def notify(state: str) -> None:
    """Tell the service manager, where one listens (sd_notify's protocol: a datagram)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError as error:
            logging.getLogger(__name__).warning("the service manager can't be told %r: %s", state, error)
