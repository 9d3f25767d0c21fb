"""Signals by name or number, as Docker takes them."""

from __future__ import annotations

import signal

from gitops import errors


def parse(text: str) -> int:
    """`TERM`, `SIGTERM`, `15`, `RTMIN+3` as a number.

    Raises:
        errors.Invalid: there is no such signal.
    """
    name = text.strip().upper().removeprefix("SIG")
    # Three digits are enough; Python refuses to read some thousands of them.
    if name.isascii() and name.isdigit() and len(name) <= 3 and 1 <= int(name) <= signal.SIGRTMAX:
        return int(name)
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    if sign and base in ("RTMIN", "RTMAX") and offset.isascii() and offset.isdigit() and len(offset) <= 3:
        number = getattr(signal, f"SIG{base}") + (int(offset) if sign == "+" else -int(offset))
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return int(number)
    found = getattr(signal.Signals, f"SIG{name}", None)
    if found is None:
        raise errors.Invalid(f"invalid signal: {text}")
    return int(found)
