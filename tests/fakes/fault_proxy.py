"""A proxy between a source and a real server that breaks what it is told to break.

    with FaultProxy(server.url) as proxy:
        proxy.faults.append(Fault(Cut(after_bytes=1000), times=1))

It forwards a request with the Host it came with, so that signatures over it stay right, and gives
the answer back as it is; it serves as a forward proxy, too, whatever host is asked for. The actions
are the demo hub's, and two more. `requests` is all that came.
"""

import contextlib
import http.client
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from demo.hub_faults import Cut, Drip, FlipBit, Headers, IgnoreRange, Stall, Status, Truncate

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "proxy-connection"})
_STEP_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection with a TCP reset after so many bytes of the body."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Edit:
    """Give back another body."""

    change: Callable[[bytes], bytes]


Action = Edit | Status | Headers | Stall | Drip | Cut | Truncate | FlipBit | IgnoreRange | Reset


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)


def anything(asked: Asked) -> bool:
    """Befalls every request."""
    del asked
    return True


@dataclass(slots=True, eq=False)
class Fault:
    """An action, the requests that it befalls, and how many of them."""

    action: Action
    on: Callable[[Asked], bool] = anything
    times: int | None = None
    hits: int = 0

    def befalls(self, asked: Asked) -> bool:
        return self.on(asked) and (self.times is None or self.hits < self.times)


class FaultProxy:
    """One listener before one server; with `certificate` (leaf and key) it speaks TLS."""

    def __init__(self, upstream: str, certificate: Path | None = None) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.faults: list[Fault] = []
        self.requests: list[Asked] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(self)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.end()

    def befalling(self, asked: Asked) -> list[Action]:
        """Note a request; what is to go wrong with it."""
        with self._lock:
            self.requests.append(asked)
            befallen = [fault for fault in self.faults if fault.befalls(asked)]
            for fault in befallen:
                fault.hits += 1
        return [fault.action for fault in befallen]


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        self._connections: set[socket.socket] = set()

    def process_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]  # typeshed's alias is private
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:  # type: ignore[no-untyped-def]  # as above
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that do not trust us hang up."""

    def end(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client went away
            super().handle()

    def do_GET(self) -> None:
        target = re.sub(r"^http://[^/]+", "", self.path)  # a forward proxy is given whole URLs
        asked = Asked(self.command, target, dict(self.headers.items()))
        actions = self.server.proxy.befalling(asked)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for action in actions:
            if isinstance(action, Status):
                self._answer_status(action)
                return
        with self._forwarded(asked, actions, sent) as answer:
            self._give_back(answer, actions)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the names http.server looks up

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: requests are kept as values."""

    def _answer_status(self, action: Status) -> None:
        self.send_response(action.status)
        for name, value in action.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in action.headers:
            self.send_header("Content-Length", "0")
        self.end_headers()

    @contextlib.contextmanager
    def _forwarded(
        self, asked: Asked, actions: list[Action], body: bytes
    ) -> Iterator[http.client.HTTPResponse]:
        ignored = {"range"} if any(isinstance(a, IgnoreRange) for a in actions) else set()
        upstream = http.client.HTTPConnection(*self.server.proxy.upstream, timeout=60)
        with contextlib.closing(upstream):
            upstream.putrequest(
                asked.method, asked.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in asked.headers.items():
                if name.lower() not in _HOP_BY_HOP | ignored:
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            yield upstream.getresponse()

    def _give_back(self, answer: http.client.HTTPResponse, actions: list[Action]) -> None:
        headers = {n: v for n, v in answer.getheaders() if n.lower() not in _HOP_BY_HOP}
        known = {name.lower() for name in headers}
        length = int(answer.getheader("Content-Length") or 0)
        edits = [action.change for action in actions if isinstance(action, Edit)]
        if self.command != "HEAD" and (edits or "content-length" not in known):
            answer_body = answer.read()
            for edit in edits:
                answer_body = edit(answer_body)
            length = len(answer_body)
            headers = {n: v for n, v in headers.items() if n.lower() != "content-length"}
            headers["Content-Length"] = str(length)
            chunks = iter([answer_body])
        else:
            chunks = iter(lambda: answer.read(_STEP_BYTES), b"")
        for action in actions:
            if isinstance(action, Truncate):
                length = min(length, action.to_bytes)
                headers = {n: v for n, v in headers.items() if n.lower() != "content-length"}
                headers["Content-Length"] = str(length)
            if isinstance(action, Headers):
                for name, value in action.values.items():
                    headers = {n: v for n, v in headers.items() if n.lower() != name.lower()}
                    headers |= {} if value is None else {name: value}
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._give_body(chunks, length, actions)

    def _give_body(self, chunks: Iterator[bytes], length: int, actions: list[Action]) -> None:
        drip = next((a for a in actions if isinstance(a, Drip)), None)
        stops = [a for a in actions if isinstance(a, Cut | Stall | Reset)]
        position = 0
        for given in chunks:
            chunk = bytearray(given[: length - position])
            for action in actions:
                if isinstance(action, FlipBit) and 0 <= action.offset - position < len(chunk):
                    chunk[action.offset - position] ^= 1
            for stop in stops:
                if stop.after_bytes <= position + len(chunk):
                    self._write(bytes(chunk[: stop.after_bytes - position]), drip)
                    self._stop(stop)
                    return
            self._write(bytes(chunk), drip)
            position += len(chunk)

    def _write(self, chunk: bytes, drip: Drip | None) -> None:
        step_bytes = drip.step_bytes if drip else max(1, len(chunk))
        for start in range(0, len(chunk), step_bytes):
            if self.server.proxy.closing.wait(drip.pause_seconds if drip else 0):
                raise ConnectionAbortedError
            self.wfile.write(chunk[start : start + step_bytes])

    def _stop(self, action: Cut | Stall | Reset) -> None:
        self.close_connection = True
        if isinstance(action, Stall):
            self.server.proxy.closing.wait()
        if isinstance(action, Reset):
            now = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            self.connection.close()
