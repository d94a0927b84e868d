from collections.abc import Iterator

import pytest

from demo.hub import Hub
from tests.agent.sources.contract.remotes import (
    BIG,
    CONTENT,
    HubServer,
    Remote,
    S3Server,
    Server,
    WebServer,
)
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.file_server import FileServer
from tests.fakes.s3_server import Bucket
from tests.fakes.servers import installed

SERVERS = ["hub", "web_server", "moto_server"]
SERVERS += ["versitygw_server"] if installed("versitygw") else []


@pytest.fixture
def hub() -> Iterator[Server]:
    with Hub({}) as hub:
        yield HubServer(hub)


@pytest.fixture
def web_server() -> Iterator[Server]:
    with FileServer({}) as server:
        yield WebServer(server)


@pytest.fixture
def moto_server(moto_url: str, bucket_name: str) -> Server:
    return S3Server(Bucket(moto_url, bucket_name), f"s3://{bucket_name}/pub/m")


@pytest.fixture
def versitygw_server(versitygw_url: str, bucket_name: str) -> Server:
    return S3Server(Bucket(versitygw_url, bucket_name), f"s3://{bucket_name}/pub/m")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    server.put({BIG: CONTENT})
    return server


@pytest.fixture
def remote(server: Server) -> Iterator[Remote]:
    with FaultProxy(server.url) as proxy:
        yield Remote(server, proxy)
