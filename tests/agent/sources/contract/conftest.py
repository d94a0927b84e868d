from collections.abc import Iterator
from contextlib import closing

import pytest

from demo.hub import Hub
from tests.agent.sources.contract.remotes import (
    BIG,
    CONTENT,
    AzureServer,
    GcsServer,
    HubServer,
    Remote,
    S3Server,
    Server,
    WebServer,
)
from tests.fakes.azure_server import Container
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.file_server import FileServer
from tests.fakes.gcs_server import GcsBucket
from tests.fakes.s3_server import Bucket
from tests.fakes.servers import installed

collect_ignore = [] if installed("versitygw") else ["test_s3_checksums.py"]

SERVERS = ["hub", "web_server", "moto_server"]
SERVERS += ["versitygw_server"] if installed("versitygw") else []
SERVERS += ["azurite_server"] if installed("azurite-blob") else []
SERVERS += ["fake_gcs_server"] if installed("fake-gcs-server") else []


@pytest.fixture
def hub() -> Iterator[Server]:
    with Hub({}) as hub:
        yield HubServer(hub)


@pytest.fixture
def web_server() -> Iterator[Server]:
    with FileServer({}) as server:
        yield WebServer(server)


@pytest.fixture
def moto_server(moto_url: str, bucket_name: str) -> Iterator[Server]:
    with closing(Bucket(moto_url, bucket_name)) as bucket:
        yield S3Server(bucket)


@pytest.fixture
def versitygw_server(versitygw_url: str, bucket_name: str) -> Iterator[Server]:
    with closing(Bucket(versitygw_url, bucket_name)) as bucket:
        yield S3Server(bucket)


@pytest.fixture
def fake_gcs_server(fake_gcs_url: str, bucket_name: str) -> Iterator[Server]:
    with closing(GcsBucket(fake_gcs_url, bucket_name)) as bucket:
        yield GcsServer(bucket)


@pytest.fixture
def azurite_server(azurite_url: str, bucket_name: str) -> Iterator[Server]:
    with closing(Container(azurite_url, bucket_name, "container")) as container:
        yield AzureServer(container)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    server.put({BIG: CONTENT})
    return server


@pytest.fixture
def remote(server: Server) -> Iterator[Remote]:
    with FaultProxy(server.url) as proxy:
        yield Remote(server, proxy)
