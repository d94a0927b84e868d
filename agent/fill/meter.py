"""How far a fill is: told to its parent a few times a second, and at every change of state.

Streams and cursors tell it what they did, each from its own thread.
"""

import threading
from collections.abc import Callable
from typing import Final

from agent.fill.job import Event, Progress
from larder.status import ModelState
from runtime.clock import Clock

INTERVAL_SECONDS: Final = 0.25


class Meter:
    """Counts bytes of one fill."""

    def __init__(self, bytes_total: int, clock: Clock, emit: Callable[[Event], None]) -> None:
        self._bytes_total = bytes_total
        self._clock = clock
        self._emit = emit
        self._state = ModelState.DOWNLOADING
        self._bytes_done = 0
        self._bytes_fetched = 0
        self._is_set_aside = False
        self._lock = threading.Lock()
        self._told_at = clock.monotonic()
        self._tell()

    @property
    def bytes_fetched(self) -> int:
        """How many bytes came from the source."""
        return self._bytes_fetched

    def set_aside(self) -> None:
        """The disk has room for all of the model, which nobody else can take."""
        with self._lock:
            self._is_set_aside = True
            self._tell()

    def moved(self, count_bytes: int) -> None:
        """So many more bytes of the model are on disk; fewer if some are thrown away."""
        with self._lock:
            self._bytes_done += count_bytes
            self._tell_sometimes()

    def fetched(self, count_bytes: int) -> None:
        """So many bytes came from the source."""
        with self._lock:
            self._bytes_fetched += count_bytes
            self._tell_sometimes()

    def verifying(self) -> None:
        """All bytes are there; what is left is the disk's work."""
        with self._lock:
            self._state = ModelState.VERIFYING
            self._tell()

    def _tell_sometimes(self) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= INTERVAL_SECONDS:
            self._told_at = now
            self._tell()

    def _tell(self) -> None:
        counts = (self._bytes_done, self._bytes_total, self._bytes_fetched)
        self._emit(Progress(self._state, *counts, self._is_set_aside))
