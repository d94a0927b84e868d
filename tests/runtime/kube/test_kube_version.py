"""A cluster that is too old for the policies is told from one that is not, or that does not say."""

import pytest

from runtime.kube.client import KubeClient
from runtime.kube.errors import UnavailableError
from runtime.kube.version import OldClusterError, is_too_old, refuse_old_cluster
from tests.runtime.kube.api_server import ApiServer, refusing


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param("v1.29.15", True, id="too old"),
        pytest.param("v1.9.0", True, id="with one digit"),
        pytest.param("v1.30.0", False, id="just new enough"),
        pytest.param("v1.31.4-eks-1a2b3c", False, id="of a vendor"),
        pytest.param("v2.0.0", False, id="far newer"),
        pytest.param("", False, id="one that does not say"),
        pytest.param("unknown", False, id="one that is none"),
    ],
)
def test_a_version_is_read(version: str, expected: bool) -> None:
    assert is_too_old(version) is expected


def test_only_an_api_server_that_says_so_is_refused(server: ApiServer, client: KubeClient) -> None:
    refuse_old_cluster(client)  # it has no such page
    server.discovery["/version"] = {"gitVersion": "v1.30.0"}
    refuse_old_cluster(client)
    server.discovery["/version"] = {"gitVersion": "v1.29.0"}
    with pytest.raises(OldClusterError, match=r"^Kubernetes v1\.29\.0 is older than 1\.30"):
        refuse_old_cluster(client)
    server.standing["GET", "/version"] = refusing(403)
    refuse_old_cluster(client)
    server.standing["GET", "/version"] = refusing(503)
    with pytest.raises(UnavailableError):
        refuse_old_cluster(client)
