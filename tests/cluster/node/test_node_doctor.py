"""`larder doctor` on a node at work: a healthy install is fine, a model that fails is found."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.paths import object_path
from tests.cluster.node.node_cluster import kubectl, until
from tests.cluster.node.whole import write_catalog
from tests.cluster.test_cluster_doctor import Told, doctor

CATALOG = """\
apiVersion: larder.dev/v1alpha1
kind: Catalog
models:
- name: gated
  storageUri: hf://acme/gated
  revision: main
  namespaces: [default]
  credentials: {secretName: nobody-made-it}
"""


def told() -> Told:
    return doctor(Path(os.environ["KUBECONFIG"]))


def found(told: Told) -> set[tuple[str, str]]:
    """What is amiss; no test has KServe in its cluster."""
    return {(f["check"], f["verdict"]) for f in told.findings} - {("kserve", "warning")}


@pytest.fixture
def emptied(admin: KubeClient) -> Iterator[None]:
    """The catalog is put back."""
    yield
    write_catalog(admin)


@pytest.mark.usefixtures("installed")
def test_a_healthy_install_is_ok_in_every_check() -> None:
    kubectl("-n", SYSTEM_NAMESPACE, "rollout", "status", "deployment/larder-controller")
    until(lambda: {verdict for _, verdict in found(told())} == {"ok"}, "all is well")
    assert told().status == 0


@pytest.mark.usefixtures("installed", "emptied")
def test_a_model_without_its_secret_is_found_with_the_agents_words(admin: KubeClient) -> None:
    path = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
    admin.patch(path, {"data": {"catalog.yaml": CATALOG}})
    wanted = {("credentials", "broken"), ("slots", "warning"), ("models", "broken")}
    until(lambda: wanted <= found(told()), "the model failed, and doctor says so")
    (failed,) = [f["sentence"] for f in told().findings if f["check"] == "slots"]
    assert failed.startswith("model gated on ")
    words = "model 'gated': Secret larder-credentials/nobody-made-it is not there"
    assert failed.endswith(f": AccessDenied: {words}")
