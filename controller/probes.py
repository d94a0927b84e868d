"""Probes and metrics over HTTP: /livez, /readyz, /metrics, and nothing else."""

import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

_TEXT: Final = "text/plain; charset=utf-8"
REQUEST_SECONDS: Final = 5.0  # a client that says nothing is hung up on

Fault = Callable[[], str | None]


class Probes:
    """Serves from threads of its own. Raises OSError where it cannot listen.

    `unready` and `dead` say what is wrong, or None.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, *, unready: Fault, dead: Fault
    ) -> None:
        self._server = _Server((host, port), _Handler)
        self._server.answers = {
            "/livez": lambda: _probe(dead()),
            "/readyz": lambda: _probe(unready()),
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)),
        }
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="probes", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


Answer = tuple[HTTPStatus, str, bytes]


class _Server(ThreadingHTTPServer):
    answers: dict[str, Callable[[], Answer]]
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer one of the paths."""
        answer = cast("_Server", self.server).answers.get(self.path)
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        code, content_type, body = answer()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        """Answer; a client that hung up is none of our business."""
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Probes are no news."""


def _probe(fault: str | None) -> Answer:
    code = HTTPStatus.OK if fault is None else HTTPStatus.SERVICE_UNAVAILABLE
    return code, _TEXT, (fault or "ok").encode()
