"""A part that ends early ends the process in good order, so that somebody starts it anew."""

import asyncio
from collections.abc import Coroutine

import pytest

from webhook.__main__ import TaskEndedError, supervise

CLOSED: list[str] = []


async def lives_until(stop: asyncio.Event) -> None:
    await stop.wait()
    CLOSED.append("closed")


async def ends() -> None:
    return


async def fails() -> None:
    raise ZeroDivisionError


async def run_beside_another(work: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    CLOSED.clear()
    other = asyncio.create_task(lives_until(stop), name="other")
    await supervise([asyncio.create_task(work, name="watch"), other], stop)


async def test_a_task_that_ends_unasked_is_an_error_and_the_others_close() -> None:
    with pytest.raises(TaskEndedError, match="ended without being asked to: watch"):
        await run_beside_another(ends(), asyncio.Event())
    assert CLOSED == ["closed"]


async def test_a_task_that_fails_is_an_error_and_the_others_close() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_beside_another(fails(), asyncio.Event())
    assert CLOSED == ["closed"]


async def test_tasks_that_end_when_asked_are_fine() -> None:
    stop = asyncio.Event()
    stop.set()
    await run_beside_another(lives_until(stop), stop)
    assert CLOSED == ["closed", "closed"]
