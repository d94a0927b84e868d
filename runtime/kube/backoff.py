"""How long to wait before the next try: exponential, with full jitter, from the first failure on.

Full jitter (anything from nothing to the step) keeps a thousand nodes from coming back together.
"""

from collections.abc import Callable
from random import SystemRandom
from typing import Final

BASE_SECONDS: Final = 1.0
CAP_SECONDS: Final = 30.0
RANDOM: Final[Callable[[], float]] = SystemRandom().random
MAX_RETRY_AFTER_SECONDS: Final = 120.0


class Backoff:
    """Delays that grow until `reset`. `random` gives numbers from 0 to 1."""

    def __init__(self, random: Callable[[], float] = RANDOM) -> None:
        self._random = random
        self._step_seconds = BASE_SECONDS

    def next_seconds(self, retry_after_seconds: float | None = None) -> float:
        """The next delay; on top of what the server asked for, within reason."""
        asked = min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS)
        delay = self._random() * self._step_seconds
        self._step_seconds = min(self._step_seconds * 2, CAP_SECONDS)
        return asked + delay

    def reset(self) -> None:
        """Begin again with the shortest step."""
        self._step_seconds = BASE_SECONDS
