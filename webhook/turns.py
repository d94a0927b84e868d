"""Work that comes back: one turn after the other, until the program is asked to stop."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress


async def take_turns(turn: Callable[[], Awaitable[float]], stop: asyncio.Event) -> None:
    """Take turns until asked to stop; each gives the seconds until the next one."""
    while not stop.is_set():
        seconds = await turn()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
