import base64
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from runtime.kube.client import KubeClient
from runtime.kube.errors import ForbiddenError, UnauthorizedError
from runtime.kube.paths import collection_path
from tests.runtime.kube.kube_contract import KubeContract, Site


class TestApiServer(KubeContract):
    @pytest.fixture
    def site(self, admin: KubeClient, namespace: str) -> Iterator[Site]:
        site = Site(admin, namespace)
        yield site
        site.close()


@pytest.fixture
def account(admin: KubeClient, namespace: str, tmp_path: Path) -> Iterator[KubeClient]:
    """A service account without any permission, as a pod has it: token, CA, two variables."""
    accounts = collection_path("v1", "serviceaccounts", namespace=namespace)
    admin.create(accounts, {"metadata": {"name": "nobody"}})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = admin.create(f"{accounts}/nobody/token", request)
    (tmp_path / "token").write_text(answer["status"]["token"])
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    ca = base64.b64decode(cluster.get("certificate-authority-data", ""))
    (tmp_path / "ca.crt").write_bytes(ca or Path(cluster["certificate-authority"]).read_bytes())
    url = urlsplit(cluster["server"])
    environ = {
        "KUBERNETES_SERVICE_HOST": str(url.hostname),
        "KUBERNETES_SERVICE_PORT": str(url.port or 443),
    }
    client = KubeClient.in_cluster(
        "larder-test",
        token_path=tmp_path / "token",
        ca_path=tmp_path / "ca.crt",
        environ=environ,
    )
    yield client
    client.close()


def test_a_service_account_is_who_it_is_and_may_no_more(
    account: KubeClient, namespace: str
) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = account.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:nobody"
    with pytest.raises(ForbiddenError, match=r"secrets: not allowed$"):
        account.list(collection_path("v1", "secrets", namespace=namespace))


def test_a_token_that_is_none_is_not_accepted_until_it_is_renewed(
    account: KubeClient, namespace: str, tmp_path: Path
) -> None:
    token = (tmp_path / "token").read_text()
    (tmp_path / "token").write_text("nonsense")
    with pytest.raises(UnauthorizedError, match="our credentials are not accepted"):
        account.get(collection_path("v1", "secrets", namespace=namespace))
    (tmp_path / "token").write_text(token)
    with pytest.raises(ForbiddenError):
        account.get(collection_path("v1", "secrets", namespace=namespace))
