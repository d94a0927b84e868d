"""A link that is far away and breaks: a proxy that delays what comes, and now and then resets.

Each connection has at most a window of bytes on the way, so that one connection brings a window a
round trip and no more, as TCP would over such a link.
"""

import contextlib
import random
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
                far = socket.create_connection(self._target)
                for source, sink, is_answer in ((near, far, False), (far, near, True)):
                    work = (source, sink, is_answer)
                    threading.Thread(target=self._pump, args=work, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:  # noqa: FBT001 - a thread's
        buffer = memoryview(bytearray(WINDOW_BYTES))
        with contextlib.suppress(OSError):  # either side went away
            while count := _filled(source, buffer, is_whole=is_answer):
                if self._closing.wait(self._pause_seconds / (1 if is_answer else 2)):
                    return
                if is_answer and self._chance.random() < count / RESET_EVERY_BYTES:
                    self.resets += 1
                    sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    break
                sink.sendall(buffer[:count])
        for end in (source, sink):
            with contextlib.suppress(OSError):
                if end is not sink or not is_answer:
                    end.shutdown(socket.SHUT_RDWR)
            end.close()


def _filled(source: socket.socket, buffer: memoryview, *, is_whole: bool) -> int:
    """What is there, up to a window; an answer's window is waited for a moment."""
    count = source.recv_into(buffer)
    while is_whole and 0 < count < len(buffer):
        source.settimeout(0.002)
        try:
            more = source.recv_into(buffer[count:])
        except TimeoutError:
            break
        finally:
            source.settimeout(None)
        if not more:
            break
        count += more
    return count


@contextlib.contextmanager
def slow_link(target_url: str, round_trip_seconds: float) -> Iterator[SlowLink]:
    """A link that is there for as long as the context."""
    link = SlowLink(target_url, round_trip_seconds)
    try:
        yield link
    finally:
        link.close()
