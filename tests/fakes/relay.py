"""A relay before a server, on loopback, that can be cut: bytes of TCP, whatever they say.

with Relay("10.0.0.1", 6443) as relay:
    relay.cut()     # what is open breaks, new connections are refused
    relay.mend()    # again, at the same port
"""

import contextlib
import socket
import threading
from typing import Self

_STEP_BYTES = 64 * 1024


class Relay:
    """`refused` counts the connections that came while it was cut."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.refused = 0
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Break every connection; those that come are closed at once."""
        with self._lock:
            self._is_cut = True
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let new connections through."""
        with self._lock:
            self._is_cut = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                self._connect(self._listener.accept()[0])

    def _connect(self, near: socket.socket) -> None:
        with self._lock:
            if self._is_cut:
                self.refused += 1
                near.close()
                return
            far = socket.create_connection(self._upstream)
            self._open |= {near, far}
        for source, sink in ((near, far), (far, near)):
            thread = threading.Thread(target=self._copy, args=(source, sink))
            thread.start()
            self._threads.append(thread)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_STEP_BYTES):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()
