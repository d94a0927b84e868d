"""A link that is far away and breaks: a proxy that delays what comes, and now and then resets.

Each connection has at most a window of bytes on the way, so that one connection brings a window a
round trip and no more, as TCP would over such a link.
"""

import contextlib
import random
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

WINDOW_BYTES: Final = 256 * 1024
RESET_EVERY_BYTES: Final = 100 * WINDOW_BYTES  # one window in a hundred, by chance
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


class SlowLink:
    """A port in front of another one."""

    def __init__(self, target_url: str, round_trip_seconds: float, seed: int = 7) -> None:
        parts = urlsplit(target_url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._pause_seconds = round_trip_seconds
        self._chance = random.Random(seed)  # noqa: S311 - the same breaks in every run
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._closing = threading.Event()
        self.resets = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the link begins."""
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        """Take no more connections."""
        self._closing.set()
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while not self._closing.is_set():
                near, _ = self._server.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        """One connection, both ways in turns: one thread, so that a reset is one at once."""
        buffer = memoryview(bytearray(WINDOW_BYTES))
        with contextlib.suppress(OSError), near, socket.create_connection(self._target) as far:
            while not self._closing.is_set():
                ready, _, _ = select.select([near, far], [], [])
                source, sink = (near, far) if near in ready else (far, near)
                count = source.recv_into(buffer) if source is near else _filled(source, buffer)
                if not count or self._closing.wait(self._pause_seconds / 2):
                    return
                if source is far and self._is_lost(count):
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    return
                if source is far and self._closing.wait(self._pause_seconds / 2):
                    return
                sink.sendall(buffer[:count])

    def _is_lost(self, count_bytes: int) -> bool:
        is_lost = self._chance.random() < count_bytes / RESET_EVERY_BYTES
        self.resets += is_lost
        return is_lost


def _filled(source: socket.socket, buffer: memoryview) -> int:
    """What comes within a moment, up to a window."""
    count = 0
    source.settimeout(0.002)
    with contextlib.suppress(TimeoutError):
        while count < len(buffer) and (more := source.recv_into(buffer[count:])):
            count += more
    source.settimeout(None)
    return count


@contextlib.contextmanager
def slow_link(target_url: str, round_trip_seconds: float) -> Iterator[SlowLink]:
    """A link that is there for as long as the context."""
    link = SlowLink(target_url, round_trip_seconds)
    try:
        yield link
    finally:
        link.close()
