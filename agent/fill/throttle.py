"""A limit on the bytes that all streams of a child fetch, which may change at any time."""

from collections.abc import Callable
from threading import Event, Lock
from typing import Final

from runtime.clock import Clock

BURST_SECONDS: Final = 0.25


class Throttle:
    """Lets streams go on when it is their turn. `wait` takes seconds, and an event that ends it."""

    def __init__(self, clock: Clock, wait: Callable[[float, Event], None]) -> None:
        self._clock = clock
        self._wait = wait
        self._lock = Lock()
        self._rate = 0
        self._free_at = 0.0

    def set_rate(self, bytes_per_second: int) -> None:
        """So many from now on; 0 is no limit."""
        self._rate = bytes_per_second

    def chunk_bytes(self, most: int) -> int:
        """How much to read at once, so that no pause is long."""
        rate = self._rate
        return min(most, max(1, int(rate * BURST_SECONDS))) if rate else most

    def pause(self, count_bytes: int, stopped: Event) -> None:
        """Wait until so many bytes, which were just read, are within the limit."""
        with self._lock:
            rate, now = self._rate, self._clock.monotonic()
            if not rate:
                return
            self._free_at = max(self._free_at, now - BURST_SECONDS) + count_bytes / rate
            seconds = self._free_at - now
        if seconds > 0:
            self._wait(seconds, stopped)
