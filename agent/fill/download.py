"""All missing files of a fill: set aside, fetched by streams, each hashed by a cursor of its own.

The calling thread sits in the middle. It takes what cursors finish and what goes wrong, has as many
streams as measuring says, and breaks off those that hardly move; the first fault ends everything.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent.fill.cursor import follow
from agent.fill.ground import Ground
from agent.fill.partial import Partial, StoppedError, prepare
from agent.fill.streams import Streams
from agent.fill.supply import Supply
from agent.planning.streams import StreamCount, next_count
from agent.store import at
from larder.errors import IntegrityError
from larder.layout import Digest

TICK_SECONDS: Final = 0.1
MEASURE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Hashed:
    """A cursor's end: a digest, or why there is none."""

    partial: Partial
    digest: Digest | BaseException


class Download:
    """The files with some indexes of a listing, until each is complete. To be closed."""

    def __init__(self, ground: Ground, indexes: Sequence[int]) -> None:
        self._ground = ground
        self._left = len(indexes)
        self._outcomes: queue.SimpleQueue[_Hashed | BaseException] = queue.SimpleQueue()
        self._cursors: dict[Partial, threading.Thread] = {}
        prepared = {n: prepare(ground, n) for n in indexes}
        self._kept_bytes = {n: file.kept_bytes for n, file in prepared.items()}
        if all(file.is_set_aside for file in prepared.values()):
            ground.meter.set_aside()
        self._supply = Supply(ground.lock, indexes, self._begin)
        self._streams = Streams(ground, self._supply, self._outcomes.put)
        self._count = StreamCount(ground.job.pace.first_streams)
        self._measured_at, self._measured_bytes = ground.place.clock.monotonic(), 0

    def completed(self) -> Iterator[tuple[int, Digest]]:
        """Each file's index and digest, as soon as its bytes are synced and as they were listed.

        Raises what went wrong first; a file that is not as it was listed is gone then.
        """
        self._streams.set_count(self._count.count)
        while self._left:
            outcome = self._next_outcome()
            if isinstance(outcome, BaseException):
                raise outcome
            partial, digest = outcome.partial, outcome.digest
            if isinstance(digest, IntegrityError):
                self._ground.meter.moved(-partial.file.size_bytes)
                at.unlink(self._ground.partial_fd, str(partial.index))
            if isinstance(digest, BaseException):
                raise digest
            self._forget(partial)
            self._left -= 1
            yield partial.index, digest

    def close(self) -> None:
        """End every thread, and wait for it."""
        self._streams.stop()
        for partial, cursor in self._cursors.items():
            cursor.join()
            partial.close()

    def _begin(self, index: int) -> Partial:
        """Open a file and set its cursor going."""
        partial = Partial(self._ground, index, self._kept_bytes[index], self._supply.tell)
        cursor = threading.Thread(
            target=self._follow, args=(partial,), name=f"cursor-{index}", daemon=True
        )
        self._cursors[partial] = cursor
        cursor.start()
        return partial

    def _follow(self, partial: Partial) -> None:
        try:
            self._outcomes.put(_Hashed(partial, follow(partial, self._ground)))
        except StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits for us
            self._outcomes.put(_Hashed(partial, error))

    def _forget(self, partial: Partial) -> None:
        self._supply.complete(partial)
        self._cursors.pop(partial).join()
        partial.close()

    def _next_outcome(self) -> _Hashed | BaseException:
        while True:
            try:
                return self._outcomes.get(timeout=TICK_SECONDS)
            except queue.Empty:
                pass
            self._tick()

    def _tick(self) -> None:
        """What is to be done now and then."""
        self._ground.throttle.set_rate(self._ground.place.steering().bytes_per_second)
        self._streams.watch()
        now, fetched = self._ground.place.clock.monotonic(), self._ground.meter.bytes_fetched
        seconds = now - self._measured_at
        if seconds >= MEASURE_SECONDS:
            rate = (fetched - self._measured_bytes) / seconds
            self._measured_at, self._measured_bytes = now, fetched
            self._count = next_count(self._count, rate, self._ground.job.pace.most_streams)
            self._streams.set_count(self._count.count)
