"""What the controller remembers between turns: who said no, and what the watches must still show.

Both only spare requests: a controller that starts anew knows nothing of them and does no harm.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from larder.claims import Claim
from runtime.clock import Clock

FIRST_RETRY_SECONDS: Final = 30.0
LAST_RETRY_SECONDS: Final = 600.0
SHOWN_SECONDS: Final = 30.0  # a watch that shows nothing by then missed nothing

Shown = tuple[str | None, str | None]  # resource versions of a claim and of its volume
Versions = Callable[[Claim], Shown]


@dataclass(frozen=True, slots=True)
class _Refusal:
    retry_at: float
    wait_seconds: float


class Refusals:
    """Namespaces and claims that the API server refused, left alone for longer each time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._refusals: dict[str | Claim, _Refusal] = {}

    def add(self, what: str | Claim) -> bool:
        """Take note of a refusal; whether it is the first one."""
        with self._lock:
            before = self._refusals.get(what)
            wait = FIRST_RETRY_SECONDS
            if before:
                wait = min(before.wait_seconds * 2, LAST_RETRY_SECONDS)
            self._refusals[what] = _Refusal(self._clock.monotonic() + wait, wait)
            return before is None

    def clear(self, claim: Claim) -> None:
        """A claim was made, so neither it nor its namespace is refused any more."""
        with self._lock:
            self._refusals.pop(claim, None)
            self._refusals.pop(claim.namespace, None)

    def holds(self, claim: Claim) -> bool:
        """Whether a claim is left alone for now."""
        now = self._clock.monotonic()
        with self._lock:
            found = [self._refusals.get(what) for what in (claim, claim.namespace)]
        return any(refusal and now < refusal.retry_at for refusal in found)

    def among(self, claims: Iterable[Claim]) -> frozenset[Claim]:
        """Those that are left alone for now."""
        if not self._refusals:
            return frozenset()
        return frozenset(claim for claim in claims if self.holds(claim))

    def next_retry(self) -> float | None:
        """When the next one may be tried again, in monotonic seconds."""
        with self._lock:
            now = self._clock.monotonic()
            later = [r.retry_at for r in self._refusals.values() if r.retry_at > now]
        return min(later, default=None)


class Expectations:
    """Claims that we changed and whose change the watches did not show yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._expected: dict[tuple[Claim, bool], tuple[str | None, float]] = {}

    def add(self, claim: Claim, before: Shown, *, is_volume: bool) -> None:
        """Something was done to a claim, or to its volume, when the watches showed `before`."""
        deadline = self._clock.monotonic() + SHOWN_SECONDS
        with self._lock:
            self._expected[claim, is_volume] = before[is_volume], deadline

    def unmet(self, versions: Versions) -> frozenset[Claim]:
        """Claims of which the watches, by `versions`, show what they showed before."""
        now = self._clock.monotonic()
        with self._lock:
            self._expected = {
                (claim, is_volume): (before, deadline)
                for (claim, is_volume), (before, deadline) in self._expected.items()
                if now < deadline and versions(claim)[is_volume] == before
            }
            return frozenset(claim for claim, _ in self._expected)
