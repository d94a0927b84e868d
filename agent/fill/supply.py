"""The files of a fill that are still to be fetched, and what a stream fetches next.

First a file that was begun and that no stream is at; then one that nobody has begun, so that the
hashing has more than one core; then the begun one of which the most is missing. A file counts as
begun until it is hashed, and there are at most as many of them as streams, and one.
"""

from collections import deque
from collections.abc import Callable, Iterable
from threading import Condition, Lock

from agent.fill.partial import Partial
from agent.planning.window import Claim


class Supply:
    """What is left to do. `begin` opens a file, by its index, and sets its cursor going."""

    def __init__(self, lock: Lock, indexes: Iterable[int], begin: Callable[[int], Partial]) -> None:
        self.is_stopped = False
        self._news = Condition(lock)
        self._waiting = deque(indexes)
        self._begun: list[Partial] = []
        self._begin = begin
        self._streams = 0

    def claim(self, number: int) -> tuple[Partial, Claim] | None:
        """Work for the stream of that number, as soon as there is some; None: it is to end."""
        with self._news:
            while not self.is_stopped and number < self._streams:
                if (found := self._find()) is not None:
                    return found
                if not self._waiting and not self._begun:
                    break
                self._news.wait()
        return None

    def set_streams(self, count: int) -> None:
        """How many streams there are to be: those with numbers below."""
        with self._news:
            self._streams = count
            self._news.notify_all()

    def complete(self, partial: Partial) -> None:
        """A file is hashed, to its end."""
        with self._news:
            self._begun.remove(partial)
            self._news.notify_all()

    def tell(self) -> None:
        """There may be more to claim."""
        with self._news:
            self._news.notify_all()

    def stop(self) -> None:
        """Nothing is left to do: every stream and cursor is to end."""
        with self._news:
            self.is_stopped = True
            self._news.notify_all()
            for partial in self._begun:
                partial.stop()

    def _find(self) -> tuple[Partial, Claim] | None:
        for partial in self._begun:
            if not partial.stream_count and (claim := partial.claim(self._streams)):
                return partial, claim
        while self._waiting and len(self._begun) <= self._streams:
            partial = self._begin(self._waiting.popleft())
            self._begun.append(partial)
            if claim := partial.claim(self._streams):
                return partial, claim
        for partial in sorted(self._begun, key=lambda partial: -partial.left_bytes):
            if claim := partial.claim(self._streams):
                return partial, claim
        return None
