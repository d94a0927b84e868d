from collections.abc import Iterator

import pytest
from kubernetes.client.configuration import Configuration

from runtime.kube.client import KubeClient
from tests.runtime.kube.api_server import ApiServer


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.stop()


@pytest.fixture
def client(server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient(Configuration(host=server.host), program="larder-test")
    yield client
    client.close()
