"""The words in which swarm mode refuses: Docker's, with the prefix that its clients print.

Clients match on these texts, so they are kept to the letter, gRPC codes included.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitops import errors


def invalid(*reasons: str) -> errors.Invalid:
    """Bad input; several reasons are told at once."""
    return errors.Invalid(f"rpc error: code = InvalidArgument desc = {'; '.join(reasons)}")


def precondition(reason: str) -> errors.Invalid:
    """The state of the swarm forbids it. Docker answers 400, so this is no `Conflict`."""
    return errors.Invalid(f"rpc error: code = FailedPrecondition desc = {reason}")


def exists(reason: str) -> errors.Conflict:
    """The name is taken."""
    return errors.Conflict(f"rpc error: code = AlreadyExists desc = {reason}")


def unimplemented(reason: str) -> errors.Unsupported:
    """Known and not there."""
    return errors.Unsupported(f"rpc error: code = Unimplemented desc = {reason}")


def check(problems: Sequence[str]) -> None:
    """Raise errors.Invalid with all `problems`, if there are any."""
    if problems:
        raise invalid(*problems)


def listed(noun: str, names: Sequence[str]) -> str:
    """`service: a` or `services: a, b`."""
    return f"{noun}{'' if len(names) == 1 else 's'}: {', '.join(names)}"
