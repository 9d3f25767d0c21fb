"""What comes out of a task group when several calls fail."""

from __future__ import annotations

import pytest

from gitops import errors
from gitops.reconciler import groups


async def fail(error: BaseException) -> None:
    raise error


async def test_one_error_comes_out_as_itself() -> None:
    with pytest.raises(errors.NotInSwarm, match=r"^not a swarm$"):
        async with groups.group() as group:
            group.create_task(fail(errors.NotInSwarm("not a swarm")))
            group.create_task(fail(errors.NotInSwarm("not a swarm")))


async def test_several_errors_come_out_as_one_with_the_texts_of_the_first_few() -> None:
    with pytest.raises(errors.Conflict, match=r"^e0; e1; e2; and 1 more$"):
        async with groups.group() as group:
            for number in range(4):
                group.create_task(fail(errors.Conflict(f"e{number}")))


async def test_groups_in_groups_are_read_to_the_ground() -> None:
    with pytest.raises(errors.Denied, match="inner"):
        async with groups.group() as outer:
            outer.create_task(_nested())


async def _nested() -> None:
    async with groups.group() as group:
        group.create_task(fail(errors.Denied("inner")))


async def test_a_defect_is_not_dressed_up_as_an_error_of_ours() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with groups.group() as group:
            group.create_task(fail(errors.Conflict("ours")))
            group.create_task(fail(ZeroDivisionError()))
    assert caught.group_contains(ZeroDivisionError)
