"""An authority that gives access tokens, as OAuth 2.0's do, for forms or to whoever asks."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Self
from urllib.parse import parse_qsl


class TokenServer:
    """Answers everybody with `status` and `answer`.

    `forms` is what came, with their paths; `asked` are paths and headers of GETs.
    """

    def __init__(self, token: str) -> None:
        self.status = 200
        self.answer = json.dumps({"access_token": token, "expires_in": 3599}).encode()
        self.headers: dict[str, str] = {}
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.tokens = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(HTTPServer):
    tokens: TokenServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        said = self.server.tokens
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        said.forms.append((self.path, dict(parse_qsl(form))))
        self._answer(said)

    def do_GET(self) -> None:
        said = self.server.tokens
        said.asked.append((self.path, dict(self.headers.items())))
        self._answer(said)

    def _answer(self, said: TokenServer) -> None:
        self.send_response(said.status)
        for name, value in said.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said.answer)))
        self.end_headers()
        self.wfile.write(said.answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""
