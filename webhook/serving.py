"""How an application is served to the API server: HTTP/1.1 over TLS, on one core.

uvicorn with httptools and uvloop (h11 costs 1.7 times the CPU of a request). Connections are kept:
the API server calls seldom, and a handshake costs more than an answer. Signals are not uvicorn's
here: readiness fails first, then the listener closes.
"""

import contextlib
import gc
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE_SECONDS: Final = 120
GRACE_SECONDS: Final = 10  # for requests in flight; the API server gives up after 3


class ServingError(ValueError):
    """What was asked for cannot be served; `str()` is one clause."""


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
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the program."""
        yield


def server_config(app: FastAPI, context: ssl.SSLContext) -> uvicorn.Config:
    """How the application is served."""
    return uvicorn.Config(
        app,
        http="httptools",
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
