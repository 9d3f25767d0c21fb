"""Spans of time and sizes in Docker's words, as its listings have them."""

from __future__ import annotations

from gitops.objects import base


def human(span_ns: int) -> str:
    """A span of time in Docker's words."""
    seconds = max(0, span_ns) // base.SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    minutes, hours = seconds // 60, round(seconds / 3600)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for days, unit in ((1, 14), (7, 60), (30, 730)):
        if hours < 24 * unit:
            return f"{hours // (24 * days)} {({1: 'days', 7: 'weeks', 30: 'months'})[days]}"
    return f"{hours // 24 // 365} years"


def size(count: int, digits: int = 3) -> str:
    """Bytes with `digits` significant digits, in powers of a thousand: `1.98MB`."""
    number, unit = float(count), "B"
    for bigger in ("kB", "MB", "GB", "TB", "PB"):
        if number < 1000:
            break
        number, unit = number / 1000, bigger
    text = f"{number:.{digits}g}"
    return f"{number:.0f}{unit}" if "e" in text else f"{text}{unit}"
