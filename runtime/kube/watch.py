"""A watch of one collection: list, follow, and come back after whatever happens.

Rules: every failure waits, from the first one on, with growing jittered delays, on the stop event;
a resource version that is too old is routine and lists again at once (twice in a row is a failure);
a connection that breaks goes on from the last resource version, so nothing is lost; silence beyond
`SILENCE_SECONDS`, twice as long as bookmarks are apart, is a dead peer, and the next list tells
what was missed. What was known stays in the mirror all the while.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from runtime.clock import Clock
from runtime.kube.backoff import RANDOM, Backoff
from runtime.kube.client import KubeClient
from runtime.kube.errors import GoneError, KubeError, LostPlaceError, UnavailableError
from runtime.kube.mirror import Change, Mirror
from runtime.kube.objects import KubeObject, without_managed_fields
from runtime.kube.stream import Stream
from runtime.kube.watch_protocol import Target, read_event
from runtime.logs import get_logger

SILENCE_SECONDS: Final = 120.0
STEADY_SECONDS: Final = 5.0  # a stream that lasted this long ends earlier failures

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the watches of a program share.

    `on_failure` is called with a watch's name and the error, in its thread, when it ends although
    nobody asked it to: a defect, and reason enough to end the program. `wait` stands in for waiting
    on `stop`.
    """

    client: KubeClient
    clock: Clock
    stop: threading.Event
    on_failure: Callable[[str, Exception], object]
    random: Callable[[], float] = RANDOM
    wait: Callable[[float], object] | None = None


class Watch:
    """Keeps `mirror` like the collection, in a thread of its own. `on_change` runs in it.

    `keep` is what of each object the mirror holds, its name and versions at least.
    """

    def __init__(
        self,
        target: Target,
        around: Surroundings,
        on_change: Callable[[], object] | None = None,
        *,
        silence_seconds: float = SILENCE_SECONDS,
        keep: Callable[[KubeObject], KubeObject] = without_managed_fields,
    ) -> None:
        self.mirror = Mirror(on_change)
        self.name = f"watch of {target}"
        self._target = target
        self._around = around
        self._silence_seconds = silence_seconds
        self._keep = keep
        self._wait = around.wait or around.stop.wait
        self._backoff = Backoff(around.random)
        self._resource_version: str | None = None
        self._is_expired = False
        self._complaint = ""
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run_supervised, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def close(self, timeout_seconds: float = 5.0) -> bool:
        """Set the stop event and wait for the thread; whether it ended in time."""
        self._around.stop.set()
        with self._lock:
            if self._stream:
                self._stream.interrupt()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def run(self) -> None:
        """List and follow until the stop event is set."""
        while not self._around.stop.is_set():
            try:
                self._follow(self._resource_version or self._list())
            except GoneError as error:
                self._expired(error)
            except KubeError as error:
                self._away(error)

    def _run_supervised(self) -> None:
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - whatever it was, the program must know
            self.mirror.lost()
            self._around.on_failure(self.name, error)

    def _list(self) -> str:
        target = self._target
        listing = self._around.client.list(
            target.path, query=target.selectors, metadata_only=target.metadata_only
        )
        self.mirror.fill([self._keep(item) for item in listing.items])
        self._resource_version = listing.resource_version
        return listing.resource_version

    def _follow(self, resource_version: str) -> None:
        query = [
            *self._target.selectors,
            ("resourceVersion", resource_version),
            ("allowWatchBookmarks", "true"),
        ]
        with (
            self._around.client.watch(
                self._target.path,
                query=query,
                metadata_only=self._target.metadata_only,
                silence_seconds=self._silence_seconds,
            ) as stream,
            self._held(stream),
        ):
            opened_at = self._around.clock.monotonic()
            self._back()
            try:
                for lines in stream.batches():
                    self._take(lines)
            finally:
                is_steady = self._around.clock.monotonic() - opened_at >= STEADY_SECONDS
                if is_steady:
                    self._backoff.reset()
                    self._is_expired = False
        if not is_steady:
            raise UnavailableError(f"{self.name}: ended as soon as it began")

    def _take(self, lines: tuple[bytes, ...]) -> None:
        """Take what one piece of the answer tells as one change of the mirror."""
        changes = []
        try:
            for line in lines:
                event = read_event(line, self.name)
                self._resource_version = event.resource_version
                if event.change:
                    changes.append(self._kept(event.change))
        finally:  # the place in the stream and the mirror belong together
            self.mirror.change(changes)

    def _kept(self, change: Change) -> Change:
        if change.content is None:
            return change
        return replace(change, content=self._keep(change.content))

    def _expired(self, error: GoneError) -> None:
        self._resource_version = None
        if self._is_expired:
            self._away(error)
        else:
            self._is_expired = True
            self.mirror.lost()

    def _away(self, error: KubeError) -> None:
        if self._around.stop.is_set():
            return
        self.mirror.lost()
        if isinstance(error, LostPlaceError):
            self._resource_version = None
        asked = error.retry_after_seconds if isinstance(error, UnavailableError) else None
        delay_seconds = self._backoff.next_seconds(asked)
        complaint = str(error)
        log = _log.debug if complaint == self._complaint else _log.warning
        log("watch interrupted", watch=self.name, error=complaint, delay_seconds=delay_seconds)
        self._complaint = complaint
        self._wait(delay_seconds)

    def _back(self) -> None:
        self.mirror.heard()
        if self._complaint:
            _log.info("watch resumed", watch=self.name)
            self._complaint = ""

    @contextmanager
    def _held(self, stream: Stream) -> Generator[None]:
        """Let `close` reach the stream while it is read."""
        with self._lock:
            self._stream = stream
        if self._around.stop.is_set():
            stream.interrupt()
        try:
            yield
        finally:
            with self._lock:
                self._stream = None
