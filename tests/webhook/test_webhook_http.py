"""What one connection may cost the webhook: whatever it sends, little memory and a bounded time."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from uvicorn.server import ServerState

from certs.serving import ServingCertificate
from runtime.clock import SystemClock
from tests.webhook.conftest import PATIENCE_SECONDS
from webhook.app import create_app
from webhook.metrics import Metrics
from webhook.mutation import VolumeMode
from webhook.serving import BoundedHttp, server_config
from webhook.state import State

Connection = tuple[list[BoundedHttp], asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Connection]]

PIECE_BYTES = 64 * 1024
MORE_MIB = 16  # than at its start; a flood is four times as much
HEAD = b"POST /mutate-pods HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MANY_HEADERS = b"".join(b"X-%d: %s\r\n" % (i, b"a" * 100) for i in range(600))
FLOODS = {
    "headers without end": (HEAD, MANY_HEADERS),
    "a header without end": (HEAD + b"X: ", b"a" * PIECE_BYTES),
    "a path without end": (b"GET /", b"a" * PIECE_BYTES),
    "an extension of a chunk without end": (CHUNKED + b"1;a=", b"a" * PIECE_BYTES),
    "trailers without end": (CHUNKED + b"0\r\n", MANY_HEADERS),
    "a body without end": (HEAD + b"Content-Length: 99999999999\r\n\r\n", b" " * PIECE_BYTES),
    "requests that wait for no answer": (b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 1800),
}


@pytest.fixture(scope="module")
def webhook(start_webhook: Any, catalog_text: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    catalog = tmp_path_factory.mktemp("catalog") / "catalog.yaml"
    catalog.write_text(catalog_text)
    return start_webhook("--catalog", str(catalog))


@pytest.fixture
def connection(webhook: Any) -> Iterator[socket.socket]:
    plain = socket.create_connection(("127.0.0.1", webhook.port), timeout=30)
    with webhook.identity.trusted.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        yield connection


def resident_mib(webhook: Any) -> float:
    """The most that it ever took."""
    lines = Path(f"/proc/{webhook.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@pytest.mark.parametrize("name", FLOODS)
def test_a_connection_cannot_fill_the_memory_with(
    webhook: Any, connection: socket.socket, review: Callable[[str], Any], name: str
) -> None:
    first, piece = FLOODS[name]
    before = resident_mib(webhook)
    with suppress(OSError):  # it is closed, as it should be
        connection.sendall(first)
        for _ in range(64 * 2**20 // len(piece)):
            connection.sendall(piece)
    status, answer = webhook.post(json.dumps(review("hf-raw.after-kserve")).encode())
    assert (status, "patch" in answer["response"]) == (200, True)
    assert resident_mib(webhook) < before + MORE_MIB


def test_a_request_that_does_not_wait_for_its_turn_is_refused(connection: socket.socket) -> None:
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_nobody_is_redirected(webhook: Any) -> None:
    assert webhook.get("/livez/")[0] == 404


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect to a server in this process: its ends of all connections, and our end of this one."""
    state = State(PurePosixPath("/var/lib/larder"), VolumeMode.HOST_PATH)
    app = create_app(state, Metrics(), SystemClock())
    config = server_config(app, ServingCertificate().context)
    config.load()
    protocols: list[BoundedHttp] = []

    def protocol() -> BoundedHttp:
        protocols.append(BoundedHttp(config, ServerState(), {}))
        return protocols[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0)

    async def connect() -> Connection:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writers.append(writer)
        return protocols, reader, writer

    writers: list[asyncio.StreamWriter] = []
    yield connect
    for writer in writers:
        writer.close()
    server.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(HEAD, id="a part of a head"),
        pytest.param(HEAD + b"Content-Length: 9\r\n\r\n{", id="a part of a body"),
    ],
)
async def test_a_request_that_does_not_come_whole_in_time_ends_its_connection(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("webhook.serving.REQUEST_SECONDS", 0.05)
    _, reader, writer = await connect()
    writer.write(sent)
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""


async def test_between_two_requests_a_connection_is_kept(connect: Connect) -> None:
    protocols, reader, writer = await connect()
    for _ in range(2):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
        assert protocols[0]._too_slow is None
