"""A hub server: serves models as the Hugging Face Hub does, and misbehaves when it is told to.

The demo downloads from it, and so do the tests and the benchmarks. `demo.hub_repos` is what it
holds, `demo.hub_protocol` what it answers, `demo.hub_faults` what can go wrong; here are the
threads and sockets.

    with Hub({"acme/tiny": Repo({"config.json": b"{}"})}) as hub:
        HfApi(endpoint=hub.url).model_info("acme/tiny")

    python -m demo.hub DIR --port 8000      # every owner/model folder below DIR

A token must never leave the hub's origin: `hub.authorizations("cdn")` says whether one did.
"""

import argparse
import contextlib
import socket
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Self

from demo.hub_faults import (
    Action,
    Cut,
    Drip,
    Fault,
    FlipBit,
    Gzip,
    Headers,
    IgnoreRange,
    Kind,
    Listing,
    NextPage,
    Stall,
    Status,
    Truncate,
    file_entry,
)
from demo.hub_protocol import Answer, Origin, Protocol, Request, XetStore, read_request
from demo.hub_repos import Repo, repos_below

__all__ = [
    "Cut",
    "Drip",
    "Fault",
    "FlipBit",
    "Gzip",
    "Headers",
    "Hub",
    "IgnoreRange",
    "Listing",
    "NextPage",
    "Repo",
    "Request",
    "Stall",
    "Status",
    "Truncate",
    "XetStore",
    "file_entry",
]

STEP_BYTES = 1024 * 1024
LIMITED_STEP_SECONDS = 0.05


class Hub:
    """A hub on a port of its own; entering it starts its threads, leaving it ends them.

    `repos` and `faults` may be changed at any time. `cdn`: LFS files are at a second origin,
    behind signed links. `limit_rate` is in bytes a second, for each response. At
    0.0.0.0 links to a next page or a second origin lead nowhere.
    """

    def __init__(
        self,
        repos: Mapping[str, Repo],
        *,
        address: tuple[str, int] = ("127.0.0.1", 0),
        cdn: bool = False,
        page_entries: int = 1000,
        limit_rate: int | None = None,
    ) -> None:
        self.repos = dict(repos)
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.bytes_sent = 0
        """Bodies of every kind, counted just before they are sent, so that no client that has a
        body sees a count without it; one that leaves in the middle is counted a step too many."""
        self.limit = None if limit_rate is None else drip_at(limit_rate)
        self.stalled = threading.Event()
        """Set while a response stands still because of a `Stall`."""
        self.closing = threading.Event()
        self._released = threading.Condition()
        self._lock = threading.Lock()
        self._host, self._port = address
        self._has_cdn = cdn
        self._protocol = Protocol(self.repos, page_entries)
        self._servers: list[_Server] = []

    @property
    def url(self) -> str:
        """The hub's origin, without a trailing slash."""
        return self._protocol.url

    @property
    def xet(self) -> XetStore | None:
        """The store that has the files' chunks, too; None: there is none."""
        return self._protocol.xet

    @xet.setter
    def xet(self, store: XetStore | None) -> None:
        self._protocol.xet = store

    @property
    def cdn_url(self) -> str:
        """The second origin; empty without one."""
        return self._protocol.cdn_url

    def counts(self) -> Counter[Kind]:
        """How many requests of each kind came."""
        return Counter(request.kind for request in self.requests)

    def authorizations(self, origin: Origin) -> list[str]:
        """Every Authorization header that reached an origin."""
        given = [r.authorization for r in self.requests if r.origin == origin]
        return [text for text in given if text is not None]

    def expire_links(self) -> None:
        """Make every signed link given so far invalid."""
        self._protocol.expire_links()

    def release(self) -> None:
        """Let the responses that stand still go on."""
        with self._released:
            self.stalled.clear()
            self._released.notify_all()

    def __enter__(self) -> Self:
        self._protocol.url = self._serve("hub", self._port)
        if self._has_cdn:
            self._protocol.cdn_url = self._serve("cdn", 0)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every response and thread; once closed it does not open again."""
        self.closing.set()
        self.release()
        for server in self._servers:
            server.end()

    def answer(self, request: Request) -> tuple[Answer, list[Action]]:
        """Answer a request, and say what else is to go wrong with it."""
        with self._lock:
            self.requests.append(request)
            befallen = [f for f in self.faults if f.befalls(request.kind, request.path)]
            hidden = next((n for n, f in enumerate(befallen) if isinstance(f.action, Status)), None)
            befallen = befallen[: None if hidden is None else hidden + 1]
            for fault in befallen:
                fault.hits += 1
        actions = [fault.action for fault in befallen]
        return self._protocol.answer(request, actions), actions

    def count_sent(self, sent_bytes: int) -> None:
        """Bytes of bodies, added up over all threads."""
        with self._lock:
            self.bytes_sent += sent_bytes

    def stand_still(self) -> None:
        """Wait for `release` or `close`."""
        with self._released:
            if not self.closing.is_set():
                self.stalled.set()
                self._released.wait()

    def _serve(self, origin: Origin, port: int) -> str:
        server = _Server(self, origin, (self._host, port))
        self._servers.append(server)
        server.begin()
        return f"http://{self._host}:{server.server_port}"


class _Server(ThreadingHTTPServer):
    """One origin. Its handler threads are joined at the end: none outlives the hub."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, hub: Hub, origin: Origin, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.hub = hub
        self.origin: Origin = origin
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(
            target=self.serve_forever, args=(LIMITED_STEP_SECONDS,), name=f"{origin}-accept"
        )

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Accept no more, end the connections that are kept alive, wait for their threads."""
        self.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the other side was faster
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def server_bind(self) -> None:
        """Without HTTPServer's reverse lookup of the host name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()

    def process_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]  # typeshed's alias for a socket is private
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:  # type: ignore[no-untyped-def]  # as above
        self._connections.discard(request)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept alive from request to request."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client went away, or the hub closes
            super().handle()

    def do_GET(self) -> None:
        headers = {name: self.headers.get(name) for name in ("Range", "Authorization")}
        request = read_request(self.server.origin, self.command, self.path, headers)
        answer, actions = self.server.hub.answer(request)
        answer = _truncated(answer, actions)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            self._send_body(answer, actions)

    do_HEAD = do_GET  # noqa: N815 - the name http.server looks up

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the hub keeps its requests as values."""

    def _send_body(self, answer: Answer, actions: Sequence[Action]) -> None:
        """Send content[start:stop], doing at each place what a fault wants done there."""
        drips = [action for action in actions if isinstance(action, Drip)]
        drip = drips[0] if drips else self.server.hub.limit
        position = answer.start
        for place, action in _places(answer, actions):
            self._send(answer, position, place, drip)
            position = place
            match action:
                case FlipBit():
                    self._write(bytes([_byte_at(answer.content, place) ^ 1]))
                    position += 1
                case Stall():
                    self.server.hub.stand_still()
                case _:
                    self.close_connection = True
                    return
        self._send(answer, position, answer.stop, drip)

    def _send(self, answer: Answer, start: int, stop: int, drip: Drip | None) -> None:
        step_bytes = STEP_BYTES if drip is None else drip.step_bytes
        with contextlib.ExitStack() as opened:
            content = answer.content
            file = None if isinstance(content, bytes) else opened.enter_context(content.open("rb"))
            for position in range(start, stop, step_bytes):
                if self.server.hub.closing.wait(drip.pause_seconds if drip else 0):
                    raise ConnectionAbortedError
                count = min(step_bytes, stop - position)
                if file is not None:
                    self.server.hub.count_sent(count)
                    self.connection.sendfile(file, position, count)
                elif isinstance(content, bytes):
                    self._write(content[position : position + count])

    def _write(self, content: bytes) -> None:
        self.server.hub.count_sent(len(content))
        self.connection.sendall(content)


def _truncated(answer: Answer, actions: Sequence[Action]) -> Answer:
    for action in actions:
        if isinstance(action, Truncate):
            stop = min(answer.stop, answer.start + action.to_bytes)
            headers = {**answer.headers, "Content-Length": str(stop - answer.start)}
            answer = Answer(answer.status, headers, answer.content, answer.start, stop)
    return answer


def _places(answer: Answer, actions: Sequence[Action]) -> list[tuple[int, Action]]:
    """Where in the file something is to happen, in the order of the bytes."""
    places: list[tuple[int, Action]] = []
    for action in actions:
        match action:
            case FlipBit(offset) if answer.start <= offset < answer.stop:
                places.append((offset, action))
            case Cut(after_bytes) | Stall(after_bytes):
                places.append((min(answer.start + after_bytes, answer.stop), action))
            case _:
                pass
    return sorted(places, key=lambda place: place[0])


def _byte_at(content: bytes | Path, offset: int) -> int:
    if isinstance(content, bytes):
        return content[offset]
    with content.open("rb") as file:
        file.seek(offset)
        return file.read(1)[0]


def drip_at(bytes_per_second: int) -> Drip:
    step_bytes = max(1, int(bytes_per_second * LIMITED_STEP_SECONDS))
    return Drip(step_bytes, step_bytes / bytes_per_second)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.hub",
        description="Serve every owner/model folder below DIR as the Hugging Face Hub would. "
        "The first line printed is the hub's URL.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument(
        "--limit-rate",
        type=int,
        metavar="BYTES_PER_SECOND",
        help="for each response; default: unlimited",
    )
    asked = parser.parse_args(argv)
    repos = repos_below(asked.directory)
    if not repos:
        parser.error(f"{asked.directory}: no owner/model folder in it")
    hub = Hub(repos, address=("127.0.0.1", asked.port), limit_rate=asked.limit_rate)
    with hub, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(hub.url + "\n")
        sys.stdout.flush()
        hub.closing.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
