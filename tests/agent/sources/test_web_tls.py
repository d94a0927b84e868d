"""HTTPS: whom the agent trusts, and that nothing leads it back to plain HTTP."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from agent.sources.web import Timeouts, Web
from larder.errors import SourceUnavailableError
from tests.fakes.certificates import issue

CONTENT = b"over TLS"


@dataclass
class Secure:
    """A server over TLS; `location` makes it redirect."""

    url: str = ""
    authority: Path = Path()
    location: str | None = None
    tokens: list[str | None] = field(default_factory=list)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Secure]:
    said = Secure()
    said.authority, leaf = issue(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said.tokens.append(self.headers["Authorization"])
            self.send_response(302 if said.location else 200)
            if said.location:
                self.send_header("Location", said.location)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing: clients that do not trust us hang up."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        said.url = f"https://127.0.0.1:{server.server_port}/x"
        yield said
        server.shutdown()
        thread.join()


def get(url: str) -> bytes:
    buffer = memoryview(bytearray(100))
    with (
        closing(Web(Timeouts(5.0, 5.0))) as web,
        web.get(url, {}, {"Authorization": "Bearer t"}) as answer,
    ):
        count = answer.readinto(buffer)
    return bytes(buffer[:count])


def test_an_authority_of_the_environment_is_trusted(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority))
    assert get(secure.url) == CONTENT
    assert secure.tokens == ["Bearer t"]


def test_an_authority_that_nobody_knows_is_not_and_gets_no_token(secure: Secure) -> None:
    with pytest.raises(SourceUnavailableError, match="certificate that is not trusted"):
        get(secure.url)
    assert secure.tokens == []


def test_a_certificate_of_another_host_is_not_trusted(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority))
    with pytest.raises(SourceUnavailableError, match="certificate that is not trusted"):
        get(secure.url.replace("127.0.0.1", "localhost"))
    assert secure.tokens == []


def test_a_redirect_to_plain_http_is_refused(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority))
    secure.location = "http://127.0.0.1:1/x"
    with pytest.raises(SourceUnavailableError, match="from https to http; refused"):
        get(secure.url)


def test_plain_http_from_a_tls_server_is_one_sentence(secure: Secure) -> None:
    with pytest.raises(SourceUnavailableError) as refused:
        get(secure.url.replace("https", "http"))
    assert str(refused.value).startswith("127.0.0.1 ")
