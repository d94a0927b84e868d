from collections.abc import Iterator

import pytest

from demo.hub import Hub
from tests.agent.sources.contract.remotes import (
    BIG,
    CONTENT,
    HubServer,
    Remote,
    Server,
    WebServer,
)
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.file_server import FileServer

SCHEMES = ("hf", "https")


@pytest.fixture
def hub() -> Iterator[Server]:
    with Hub({}) as hub:
        yield HubServer(hub)


@pytest.fixture
def web_server() -> Iterator[Server]:
    with FileServer({}) as server:
        yield WebServer(server)


@pytest.fixture(params=SCHEMES)
def server(request: pytest.FixtureRequest) -> Server:
    name = {"hf": "hub", "https": "web_server"}[request.param]
    server: Server = request.getfixturevalue(name)
    server.put({BIG: CONTENT})
    return server


@pytest.fixture
def remote(server: Server) -> Iterator[Remote]:
    with FaultProxy(server.url) as proxy:
        yield Remote(server, proxy)
