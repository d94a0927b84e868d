"""Which bytes of one file are there, which are under way, and which are to be asked for next.

    |■■■■■■■■■■|▒▒▒▒      |■■■■■■■|▒▒▒       |                     |
    0          ^ readable          a claim    ^ next               size

Ranges are claimed in the order of the file, and only so far ahead of what was hashed. Once nothing
is left to claim, the largest claim is halved: no slow stream holds up the end, or those whose
bytes wait behind its own. Not safe by itself for several threads.
"""

from dataclasses import dataclass
from typing import Final

LEAST_CLAIM_BYTES: Final = 16 * 1024 * 1024
"""No claim is halved to less: hubs count requests."""


@dataclass(slots=True, eq=False)
class Claim:
    """A range that one stream fetches: the bytes from `position` to `end` are still to come."""

    position: int
    end: int

    @property
    def left_bytes(self) -> int:
        """How many bytes are still to come; none either if the claim was taken away."""
        return self.end - self.position

    def wrote(self, stop: int) -> None:
        """Every byte before `stop` is there now."""
        self.position = max(self.position, min(self.end, stop))


class Window:
    """The ranges of one file. `kept_bytes` at its start are there from an earlier run."""

    def __init__(self, size_bytes: int, range_bytes: int, kept_bytes: int = 0) -> None:
        self._size_bytes = size_bytes
        self._range_bytes = range_bytes
        self._kept_bytes = kept_bytes
        self._next = kept_bytes
        self._claims: list[Claim] = []
        self._lost: list[Claim] = []
        self._is_alone = False
        self._unsure = size_bytes  # from here on nobody knows what is there

    @property
    def readable_bytes(self) -> int:
        """So many bytes are there without a gap, from the file's start on."""
        gaps = [c.position for c in (*self._claims, *self._lost) if c.left_bytes]
        return min(self._next, self._unsure, *gaps)

    @property
    def left_bytes(self) -> int:
        """How many bytes are not there yet."""
        gaps = sum(c.left_bytes for c in (*self._claims, *self._lost))
        return self._size_bytes - self._next + gaps

    @property
    def stream_count(self) -> int:
        """How many claims are out."""
        return len(self._claims)

    def claim(self, hashed_bytes: int, ahead_bytes: int) -> Claim | None:
        """The range to fetch next, if any begins less than `ahead_bytes` beyond what was hashed."""
        if self._is_alone and (self._claims or not self._lost):
            return None
        claim = self._next_range(max(hashed_bytes, self._kept_bytes) + ahead_bytes)
        claim = claim or self._half()
        if claim is not None:
            self._claims.append(claim)
        return claim

    def release(self, claim: Claim) -> None:
        """A claim's stream is done with it, and writes no more; what is left is a gap still."""
        self._claims.remove(claim)
        if claim.left_bytes:
            self.lose(claim.position, claim.end)

    def lose(self, start: int, stop: int) -> None:
        """There is nothing, or nothing that is right: it is to be fetched again."""
        self._lost.append(Claim(start, stop))

    def leave_to(self, claim: Claim) -> int | None:
        """Take every other claim away, for a server that gives no ranges; there is only one now.

        Returns where the first gap is, from which on one stream is to fetch everything; None if
        this claim was taken away before.
        """
        if not claim.left_bytes:
            return None
        self._unsure = start = self.readable_bytes
        self._is_alone = True
        self._lost.clear()
        for other in self._claims:
            if other is not claim:
                other.end = other.position
        return start

    def begin_alone(self, claim: Claim, start: int) -> None:
        """Once every other claim is released: the one that is left is all from `start` on."""
        claim.position, claim.end = start, self._size_bytes
        self._next = self._unsure = self._size_bytes

    def _next_range(self, bound: int) -> Claim | None:
        if self._lost:
            return self._lost.pop(0)
        if self._next >= min(bound, self._size_bytes):
            return None
        start = self._next
        self._next = min(self._size_bytes, (start // self._range_bytes + 1) * self._range_bytes)
        return Claim(start, self._next)

    def _half(self) -> Claim | None:
        largest = max(self._claims, key=lambda claim: claim.left_bytes, default=None)
        if largest is None or largest.left_bytes < 2 * LEAST_CLAIM_BYTES:
            return None
        end, largest.end = largest.end, largest.position + largest.left_bytes // 2
        return Claim(largest.end, end)
