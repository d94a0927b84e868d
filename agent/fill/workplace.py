"""What a child works with, made once in `__main__` and by tests of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event as Signal

from agent.fill.job import Event, Steering
from agent.sources.interface import Source
from runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Workplace:
    """Handles, the source, and the world.

    `wait` takes seconds, and a signal that ends it; `jitter` draws from [0, 1); `steering` says
    what holds now.
    """

    root_fd: int
    staging_fd: int
    source: Source
    clock: Clock
    emit: Callable[[Event], None]
    wait: Callable[[float, Signal], None]
    jitter: Callable[[], float]
    steering: Callable[[], Steering]
