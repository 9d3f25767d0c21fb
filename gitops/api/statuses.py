"""Errors as HTTP statuses. Pure."""

from __future__ import annotations

from gitops import errors

# Most specific first: the first class that an error is an instance of decides.
_STATUSES: tuple[tuple[type[errors.GitopsError], int], ...] = (
    # Docker answers a stale version with 500, and clients match on the text.
    (errors.OutOfSequence, 500),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Invalid, 400),
    (errors.Denied, 403),
    (errors.Refused, 403),
    (errors.Unavailable, 503),
    (errors.Unsupported, 501),
    (errors.Unschedulable, 400),
)


def status_of(error: errors.GitopsError) -> int:
    """The status that an error is answered with; 500 where nothing fits."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def message_of(error: errors.GitopsError) -> str:
    """What the client shows after "Error response from daemon: ".

    A stale version keeps SwarmKit's prefix and text, which clients look for before they read again and retry.
    """
    text = str(error) or type(error).__name__
    if isinstance(error, errors.OutOfSequence):
        return "rpc error: code = Unknown desc = update out of sequence"
    return text
