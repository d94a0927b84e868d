"""The two clocks a program takes as an argument, so that tests can move time by hand.

Only this module reads the system's time. Waiting is not a clock's work: whoever waits does so on
its stop event, so that SIGTERM is honoured.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a program gets the time from."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""

    def now(self) -> float:
        """Unix seconds, for what people and files are shown."""

    def minute_of_day(self) -> int:
        """Minutes since midnight, where the program thinks that it is (`TZ`; in pods UTC)."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def minute_of_day(self) -> int:
        """Minutes since midnight."""
        here = time.localtime()
        return here.tm_hour * 60 + here.tm_min


class ManualClock:
    """Time that stands still until it is moved."""

    def __init__(self, *, now: float = 1_700_000_000.0, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._monotonic

    def now(self) -> float:
        """Unix seconds."""
        return self._now

    def minute_of_day(self) -> int:
        """Minutes since midnight, UTC."""
        return int(self._now) // 60 % (24 * 60)

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._now += seconds
        self._monotonic += seconds
