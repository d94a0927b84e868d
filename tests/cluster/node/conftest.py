"""Tests that need a node with a kubelet: Larder installed from deploy/, from images built here.

installed    once: the base, an empty catalog, an agent on the node, both webhooks ready
cluster      each test: all of it, the demo's hub, an empty cache; predictors and models are
             gone after it
"""

import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from larder.contract import SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path, object_path
from tests.cluster.node.node_cluster import AGENT_LABEL, ROOT, Node, is_ready, kubectl
from tests.cluster.node.predictors import HubPod
from tests.cluster.node.whole import (
    Cluster,
    await_deployments,
    await_webhooks,
    empty_cache,
    write_catalog,
)

HERE = Path(__file__).parent
DEMO_NAMESPACE = "larder-demo"

OURS = ("-n", SYSTEM_NAMESPACE, "logs", "--tail=40", "--prefix", "-l")
STORY = {
    "pods": ("get", "pods", "--all-namespaces", "-o", "wide"),
    "events": ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
    "agent": (*OURS, "app.kubernetes.io/name=larder-agent"),
    "webhook": (*OURS, "app.kubernetes.io/name=larder-webhook"),
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the cluster says: nobody can look at CI's afterwards."""
    report = yield
    if report.failed:
        said = {what: kubectl(*words, check=False) for what, words in STORY.items()}
        report.sections += [(what, text[-6000:]) for what, text in said.items()]
    return report


@pytest.fixture(scope="session")
def node(admin: KubeClient) -> Node:
    """A node that is ready and labelled for agents."""
    query = [("labelSelector", f"{AGENT_LABEL}=worker")]
    nodes = admin.list(collection_path("v1", "nodes"), query=query).items
    ready = [node["metadata"]["name"] for node in nodes if is_ready(node)]
    if not ready:
        pytest.fail(
            f"no node is ready and labelled {AGENT_LABEL}=worker; label one, or leave these tests "
            "out: make test-cluster NODE="
        )
    return Node(admin, ready[0])


@pytest.fixture(scope="session")
def installed(admin: KubeClient, node: Node) -> Node:
    """Larder on the node, from deploy/base, without predictors of the demo. It stays."""
    kubectl("delete", "namespace", DEMO_NAMESPACE, "--ignore-not-found")
    install(admin, node)
    return node


def install(admin: KubeClient, node: Node) -> None:
    """Apply the base with an empty catalog, and wait until it runs."""
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(HERE / "install"))
    write_catalog(admin)
    node.await_agent()
    await_webhooks(admin)
    for owner in ("daemonset/larder-agent", "deployment/larder-webhook"):
        kubectl("-n", SYSTEM_NAMESPACE, "rollout", "status", owner, "--timeout=90s")


@pytest.fixture(scope="session")
def hub(admin: KubeClient, installed: Node) -> Iterator[HubPod]:
    """The demo's hub, in a namespace whose pods may have hostPath volumes, says its admin."""
    empty_cache(admin, installed)
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    metadata = {"name": name, "labels": {"larder.dev/volume": "hostPath"}}
    admin.create(collection_path("v1", "namespaces"), {"metadata": metadata})
    yield HubPod.start(admin, name)
    admin.delete(object_path("v1", "namespaces", name))


@pytest.fixture
def cluster(admin: KubeClient, installed: Node, hub: HubPod) -> Iterator[Cluster]:
    """Everything, with nothing cached and no predictor."""
    cluster = Cluster(admin, installed, hub)
    yield cluster
    cluster.tidy()


@pytest.fixture
def demo(admin: KubeClient, installed: Node) -> Iterator[None]:
    """The demo runs, on a node that had nothing cached; the base is put back."""
    empty_cache(admin, installed)
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "deploy/overlays/demo"))
    await_deployments(DEMO_NAMESPACE)
    yield
    kubectl("delete", "namespace", DEMO_NAMESPACE, "--ignore-not-found")
    install(admin, installed)
    empty_cache(admin, installed)
