"""How an application is served to the API server: HTTP/1.1 over TLS, on one core.

uvicorn with httptools and uvloop (h11 costs 1.7 times the CPU of a request). Connections are kept:
the API server calls seldom, and a handshake costs more than an answer. Signals are not uvicorn's
here: readiness fails first, then the listener closes.

Anybody on the pod network may connect, and uvicorn bounds neither what stands around a body, nor
the requests that wait for one another (one connection could fill the memory within seconds), nor
how long a request may take to come. Each has its bound here.
"""

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024  # of all that is no body; an API server's head has a few hundred
REQUEST_SECONDS: Final = 10.0  # for one to come whole; the API server gives up after 5 at most
KEEP_ALIVE_SECONDS: Final = 120
GRACE_SECONDS: Final = 10  # for requests in flight; the API server gives up after 3
# A thread that computes (an explanation, an edit of the catalog) is waited for at each read of a
# socket: with Python's 5 ms, a request would take ten times as long meanwhile.
SWITCH_SECONDS: Final = 0.0005


class ServingError(ValueError):
    """What was asked for cannot be served; `str()` is one clause."""


class PipelinedRequestError(ValueError):
    """A request that came before the one before it was answered, as no client of ours sends it."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol: what goes beyond a bound gets 400, what takes too long no answer."""

    _head_bytes = 0
    _too_slow: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # narrowed as uvicorn does
        self, transport: asyncio.Transport
    ) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._await_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, as long as what is no body stays small."""
        self._head_bytes += len(data)
        self._await_request()
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The request is too large; accepted: {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """Refuse a request that does not wait for its turn."""
        if self.cycle and not self.cycle.response_complete:
            raise PipelinedRequestError
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Bodies are bounded by who reads them."""
        self._head_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there."""
        self._head_bytes = 0
        self._await_nothing()
        super().on_message_complete()

    def _await_request(self) -> None:
        if self._too_slow is None:
            self._too_slow = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _await_nothing(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None


class Server(uvicorn.Server):
    """uvicorn's server, which leaves signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; what was made until now stays and needs no collector."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # a full collection of it would stop requests for 20 ms
        sys.setswitchinterval(SWITCH_SECONDS)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the program."""
        yield


def server_config(app: FastAPI, context: ssl.SSLContext) -> uvicorn.Config:
    """How the application is served."""
    return uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="none",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_context_factory=lambda *_: context,
    )


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ServingError` if the address is taken or none of ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ServingError(f"cannot listen on {host} port {port}: {error.strerror}") from error
