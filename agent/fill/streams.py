"""The threads that fetch, as many as they are told to be: each has one claim at a time."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Final

from agent.fill.fetcher import Fetcher
from agent.fill.ground import Ground
from agent.fill.partial import StoppedError
from agent.fill.supply import Supply

_SILENCE_SECONDS: Final = 1.0


class Streams:
    """The streams of a fill; all methods are for one other thread.

    `failed` takes what ends a stream, from the stream's thread.
    """

    def __init__(
        self, ground: Ground, supply: Supply, failed: Callable[[BaseException], None]
    ) -> None:
        self._ground = ground
        self._supply = supply
        self._failed = failed
        self._stopped = Event()
        self._fetchers: list[Fetcher] = []
        self._threads: list[Thread] = []

    def set_count(self, count: int) -> None:
        """Have so many. Those that are too many end when they are done with their claims."""
        self._supply.set_streams(count)
        for number in range(count):
            if number == len(self._threads):
                self._fetchers.append(Fetcher(self._ground, self._stopped))
                self._threads.append(self._started(number))
            elif not self._threads[number].is_alive():
                self._threads[number] = self._started(number)

    def watch(self) -> None:
        """Break off connections that hardly move; to be called every second or so."""
        for fetcher in self._fetchers:
            fetcher.abort_if_slow()

    def stop(self) -> None:
        """End all of them, wherever they are.

        Waits until they are gone; but a second only, all in all, for those whose source has not
        answered yet, and who touch no file any more: no fault is told later for their silence.
        """
        self._stopped.set()
        self._supply.stop()
        silence_seconds = _SILENCE_SECONDS
        for fetcher, thread in zip(self._fetchers, self._threads, strict=True):
            fetcher.abort()
            if fetcher.is_asking:
                thread.join(silence_seconds)
                silence_seconds = 0.0 if thread.is_alive() else silence_seconds
            else:
                thread.join()

    def _started(self, number: int) -> Thread:
        thread = Thread(target=self._work, args=(number,), name=f"stream-{number}", daemon=True)
        thread.start()
        return thread

    def _work(self, number: int) -> None:
        try:
            while (work := self._supply.claim(number)) is not None:
                partial, claim = work
                try:
                    self._fetchers[number].fetch(partial, claim)
                finally:
                    partial.release(claim)
        except StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits for us
            self._failed(error)
