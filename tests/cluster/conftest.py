"""Tests against a real API server, the one that KUBECONFIG names. They make what they need, in
namespaces of their own, and take it away again. `make test` leaves them out.
"""

import base64
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from larder.contract import SYSTEM_NAMESPACE
from runtime.kube.client import MERGE_PATCH, KubeClient
from runtime.kube.errors import AlreadyExistsError, NotFoundError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.accounts import CONTROLLER, DRY_RUN, NODES, PODS, Accounts, Identity
from tests.cluster.claims import is_refused
from tests.controller.conftest import until

DEMO_NAMESPACE = "larder-demo"
BASE = Path(__file__).parents[2] / "deploy/base"


@pytest.fixture(scope="session")
def admin() -> Iterator[KubeClient]:
    """A client that may do everything."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG names no cluster")
    client = KubeClient.from_kubeconfig("larder-test", Path(os.environ["KUBECONFIG"]))
    yield client
    client.close()


@pytest.fixture
def namespace(admin: KubeClient) -> Iterator[str]:
    """A namespace for one test."""
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    admin.create(collection_path("v1", "namespaces"), {"metadata": {"name": name}})
    yield name
    admin.delete(object_path("v1", "namespaces", name))


@pytest.fixture
def unguarded(admin: KubeClient) -> None:
    """Bad catalogs get through to the programs: no webhook of an install refuses them."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    with suppress(NotFoundError):
        admin.delete(f"{path}/larder.dev")


@pytest.fixture(scope="module")
def accounts(admin: KubeClient, tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    """Larder's base, installed."""
    subprocess.run(  # noqa: S603 - ours
        ["kubectl", "apply", "--server-side", "-k", str(BASE)],  # noqa: S607 - the one on the PATH
        check=True,
        stdout=subprocess.DEVNULL,
    )
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    inline = base64.b64decode(cluster.get("certificate-authority-data", ""))
    ca = tmp_path_factory.mktemp("ca") / "ca.crt"
    ca.write_bytes(inline or Path(cluster["certificate-authority"]).read_bytes())
    return Accounts(admin, config, ca)


@pytest.fixture(scope="module")
def nodes(admin: KubeClient) -> Iterator[tuple[str, str]]:
    """Two nodes made by hand."""
    names = [f"larder-test-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        metadata = {"name": name, "labels": {"gpu": "h100"}, "annotations": {"owner": "admin"}}
        admin.create(NODES, {"metadata": metadata})
    yield names[0], names[1]
    for name in names:
        admin.delete(f"{NODES}/{name}")


@pytest.fixture(scope="module")
def agent(accounts: Accounts, nodes: tuple[str, str]) -> Iterator[Identity]:
    """An agent's token, bound to its pod on a node; the policy that holds it is in force."""
    identity, pod = accounts.agent_on(*nodes)
    other = f"{NODES}/{{other}}{DRY_RUN}"
    until(lambda: is_refused(identity.ask("PATCH", other, {}, MERGE_PATCH)), "the policy holds")
    yield identity
    accounts.admin.delete(pod, options={"gracePeriodSeconds": 0})


@pytest.fixture(scope="module")
def controller(accounts: Accounts, nodes: tuple[str, str]) -> Identity:
    """The controller's account, as shipped."""
    return accounts.identity(CONTROLLER, *nodes, None)


@pytest.fixture(scope="module")
def no_other_controller(accounts: Accounts) -> Iterator[None]:
    """The install's own replicas stand aside."""
    admin = accounts.admin
    path = object_path("apps/v1", "deployments", CONTROLLER, namespace=SYSTEM_NAMESPACE)
    replicas = admin.get(path)["spec"]["replicas"]
    admin.patch(path, {"spec": {"replicas": 0}})
    query = [("labelSelector", f"app.kubernetes.io/name={CONTROLLER}")]
    until(lambda: not admin.list(PODS, query=query).items, "its replicas end")
    yield
    admin.patch(path, {"spec": {"replicas": replicas}})


@pytest.fixture
def demo_namespace(admin: KubeClient) -> Iterator[str]:
    """The demo's namespace; it stays if it was there before."""
    try:
        path = collection_path("v1", "namespaces")
        admin.create(path, {"metadata": {"name": DEMO_NAMESPACE}})
    except AlreadyExistsError:
        yield DEMO_NAMESPACE
        return
    yield DEMO_NAMESPACE
    path = object_path("v1", "namespaces", DEMO_NAMESPACE)
    admin.delete(path)

    def is_gone() -> bool:
        with suppress(NotFoundError):
            admin.get(path)
            return False
        return True

    until(is_gone, "the demo's namespace stays")
