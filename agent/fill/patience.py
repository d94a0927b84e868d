"""When a source that failed is asked again by the same child, and when the fault is reported.

A few tries, each after a longer wait with jitter; bytes that arrived in between start the count
again. A source that names a time beyond our longest wait is not waited for here: the parent plans
that, and something else can be filled meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.fill.job import Pace
from larder.errors import SourceUnavailableError

PROGRESS_BYTES: Final = 1024 * 1024
"""Fewer bytes than these between two faults are no progress."""


@dataclass(slots=True)
class Patience:
    """Counts faults of one range of a file. `wait` takes seconds; `jitter` draws from [0, 1)."""

    pace: Pace
    wait: Callable[[float], None]
    jitter: Callable[[], float]
    faults: int = 0
    position: int = 0

    def endure(self, error: SourceUnavailableError, position: int) -> None:
        """Wait before the next try, or raise the error if there is none. `position` is in bytes."""
        if position - self.position >= PROGRESS_BYTES:
            self.faults = 0
        self.position = max(self.position, position)  # what is fetched again is no progress
        self.faults += 1
        wanted = error.retry_after_seconds or 0.0
        if self.faults >= self.pace.tries or wanted > self.pace.longest_wait_seconds:
            raise error
        step = min(
            self.pace.longest_wait_seconds,
            self.pace.first_wait_seconds * 2.0 ** (self.faults - 1),
        )
        self.wait(max(wanted, step * (0.5 + self.jitter() / 2)))
