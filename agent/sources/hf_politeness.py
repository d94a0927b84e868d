"""Asking a hub no more often than need be: it counts who asks, and answers 429 beyond its limits.

A signed link that it gave for a large file serves that file's other ranges as long as it is good
for. Small files are asked for at a rate; large ones take their own time.
"""

import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import urljoin

from agent.planning.values import RemoteFile
from agent.sources.web import Answer, Origin
from runtime.clock import Clock

LARGE_BYTES: Final = 8 * 1024 * 1024
BURST_REQUESTS: Final = 600
REQUESTS_PER_SECOND: Final = 10.0
"""Of a node, which its fills share. The Hub allows an address 3,000 in five minutes."""
LINKS_KEPT: Final = 64


def wait_out(seconds: float) -> None:
    """Wait; whoever wants a fill's child gone ends it."""
    threading.Event().wait(seconds)


class Allowance:
    """How often one of a node's `fills` may ask: so often at once, and then at a rate.

    Each has an equal share, whether it needs it or not. Several threads may take.
    """

    def __init__(
        self, clock: Clock, fills: int = 1, wait: Callable[[float], None] = wait_out
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._per_second = REQUESTS_PER_SECOND / fills
        self._next_at = 0.0

    def take(self, file: RemoteFile) -> None:
        """Wait until a file may be asked for."""
        if file.size_bytes >= LARGE_BYTES:
            return
        with self._lock:
            now = self._clock.monotonic()
            earliest = now - BURST_REQUESTS / REQUESTS_PER_SECOND
            self._next_at = max(self._next_at, earliest) + 1 / self._per_second
            seconds = self._next_at - now
        if seconds > 0:
            self._wait(seconds)


class Links:
    """The links of the large files that were asked for last, by path. They are secrets."""

    def __init__(self, hub: Origin) -> None:
        self._hub = hub
        self._links: dict[str, str] = {}

    def of(self, file: RemoteFile) -> str | None:
        """A file's link, if it has one."""
        return self._links.get(file.path)

    def keep(self, file: RemoteFile, url: str, answer: Answer) -> None:
        """Keep where one redirect of a URL led, if that is another origin."""
        if file.size_bytes < LARGE_BYTES or len(answer.hops) != 1 or answer.origin == self._hub:
            return
        for oldest in list(self._links)[: len(self._links) + 1 - LINKS_KEPT]:
            self.drop(oldest)
        self._links[file.path] = urljoin(url, answer.hops[0].get("Location", ""))

    def drop(self, path: str) -> None:
        """Forget a link that is good no more."""
        self._links.pop(path, None)
