from collections.abc import Iterator

import pytest

from runtime.kube.client import KubeClient
from tests.runtime.kube.api_server import ApiServer
from tests.runtime.kube.kube_contract import KubeContract, Site


class TestServerOfOurOwn(KubeContract):
    @pytest.fixture
    def site(self, server: ApiServer, client: KubeClient) -> Iterator[Site]:
        server.world.oldest = 100
        site = Site(client, "models")
        yield site
        site.close()
