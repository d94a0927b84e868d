"""`larder-webhook` as one of a cluster: a real API server, its namespaces and the catalog in it.

Reviews are handed to the webhook by the test, as an API server would: what is real is what it
knows. Pods are those that a running KServe made.
"""

import base64
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.errors import AlreadyExistsError, NotFoundError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.test_cluster_agent import until
from tests.webhook.test_webhook_process import REASONS
from webhook.certificates import SECRET

pytest_plugins = ["tests.webhook.conftest"]  # the real process, the recorded reviews

CATALOG = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
CERTIFICATES = object_path("v1", "secrets", SECRET, namespace=SYSTEM_NAMESPACE)
WITHIN_SECONDS = 5.0  # from an edit to the first decision that knows of it
MAX_RESIDENT_KIB = 100 * 1024


class Cluster:
    """What an admin does, and what the webhook answers to pods of one namespace."""

    def __init__(self, admin: KubeClient, webhook: Any, namespace: str) -> None:
        self.admin, self.webhook, self.namespace = admin, webhook, namespace

    def label(self, **labels: str | None) -> None:
        path = object_path("v1", "namespaces", self.namespace)
        named = {f"larder.dev/{name}": value for name, value in labels.items()}
        self.admin.patch(path, {"metadata": {"labels": named}})

    def ask(self, review: Any) -> tuple[str, Any]:
        """A review as if it came from this namespace: the reason, and the response."""
        review["request"]["namespace"] = self.namespace
        status, answer = self.webhook.post(json.dumps(review).encode())
        assert status == 200
        reason = self.webhook.wait_for("pod decided", uid=review["request"]["uid"])["reason"]
        return reason, answer["response"]

    @property
    def logged(self) -> list[dict[str, Any]]:
        """What the webhook said that nobody read: who else wrote the catalog shows here."""
        lines = self.webhook.lines
        return [lines.get_nowait() for _ in range(lines.qsize())]

    def ready(self) -> None:
        deadline = time.monotonic() + WITHIN_SECONDS
        while self.webhook.get("/readyz") != (200, "ok"):
            assert time.monotonic() < deadline, self.logged

    def settle(self, review: Any, wanted: str) -> None:
        """Ask until the reason is the wanted one."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while (reason := self.ask(review)[0]) != wanted:
            assert time.monotonic() < deadline, f"{reason} and not {wanted}: {self.logged}"

    def gives_host_path(self, review: Any) -> bool:
        """Whether the pod gets a hostPath; where a controller makes claims, it may get one."""
        return b'"hostPath"' in base64.b64decode(self.ask(review)[1].get("patch", ""))

    def await_host_path(self, review: Any, *, given: bool) -> None:
        """Ask until the pod gets a hostPath, or none any more."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while self.gives_host_path(review) != given:
            assert time.monotonic() < deadline, self.logged


@pytest.fixture
def write_catalog(
    admin: KubeClient, namespace: str, catalog_text: str
) -> Iterator[Callable[..., None]]:
    """Puts the tests' catalog, for this test's namespace instead of `chat`, with one change."""
    with contextlib.suppress(AlreadyExistsError):
        path = collection_path("v1", "namespaces")
        admin.create(path, {"metadata": {"name": SYSTEM_NAMESPACE}})

    def write(old: str = "", new: str = "") -> None:
        text = catalog_text.replace("[chat]", f"[{namespace}]")
        content = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE},
            "data": {"catalog.yaml": text.replace(old, new) if old else text},
        }
        admin.apply(CATALOG, content, field_manager="admin")

    yield write
    with contextlib.suppress(NotFoundError):
        admin.delete(CATALOG)


@pytest.fixture
def cluster(
    admin: KubeClient, namespace: str, write_catalog: Callable[..., None], start_webhook: Any
) -> Iterator[Cluster]:
    write_catalog()
    webhook = start_webhook("--kubeconfig", os.environ["KUBECONFIG"], "--log-level", "debug")
    webhook.wait_first_for("admission path known")
    path = admin.get(CERTIFICATES)["data"]["path"]
    webhook.admission_path = f"/{base64.b64decode(path).decode()}"
    cluster = Cluster(admin, webhook, namespace)
    cluster.ready()
    yield cluster
    assert webhook.stop() == 0


def is_there(admin: KubeClient, path: str) -> bool:
    with contextlib.suppress(NotFoundError):
        return bool(admin.get(path))
    return False


@pytest.fixture
def predictor(review: Callable[[str], Any]) -> Any:
    return review("hf-raw.after-kserve")


def test_a_namespaces_labels_decide_as_they_are_edited(cluster: Cluster, predictor: Any) -> None:
    assert not cluster.gives_host_path(predictor)
    cluster.label(volume="hostPath")
    cluster.await_host_path(predictor, given=True)
    cluster.label(mode="Observe")
    cluster.settle(predictor, "Observing")
    cluster.label(cache="disabled")
    cluster.settle(predictor, "OptedOut")
    cluster.label(cache=None, mode=None, volume=None)
    cluster.await_host_path(predictor, given=False)


def test_a_namespace_made_while_it_runs_is_known(
    cluster: Cluster, predictor: Any, admin: KubeClient, write_catalog: Callable[..., None]
) -> None:
    later = f"{cluster.namespace}-later"
    metadata = {"name": later, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}
    path = object_path("v1", "namespaces", later)
    write_catalog(f"[{cluster.namespace}]", f"[{cluster.namespace}, {later}]")
    admin.create(collection_path("v1", "namespaces"), {"metadata": metadata})
    try:
        Cluster(admin, cluster.webhook, later).settle(predictor, "Cached")
    finally:
        admin.delete(path)


@pytest.mark.usefixtures("unguarded")
def test_an_edit_of_the_catalog_is_followed_and_a_bad_one_is_not(
    cluster: Cluster, predictor: Any, write_catalog: Callable[..., None], admin: KubeClient
) -> None:
    cluster.label(volume="hostPath")
    cluster.settle(predictor, "Cached")
    write_catalog("Qwen/Qwen2", "Qwen/Qwen3")
    cluster.settle(predictor, "ModelNotInCatalog")
    write_catalog()
    cluster.settle(predictor, "Cached")

    write_catalog("kind: Catalog", "kind: Pantry\ntypo: 1")
    refusal = cluster.webhook.wait_for("catalog refused")
    assert len(refusal["problems"]) == 2
    assert refusal["in_force"] == "the last good catalog"
    assert cluster.ask(predictor)[0] == "Cached"
    version = admin.get(CATALOG)["metadata"]["resourceVersion"]
    path = object_path(
        "events.k8s.io/v1", "events", f"larder-catalog.{version}", namespace=SYSTEM_NAMESPACE
    )
    until(lambda: is_there(admin, path), "no CatalogInvalid")
    event = admin.get(path)
    assert (event["reason"], event["regarding"]["name"]) == ("CatalogInvalid", CATALOG_CONFIG_MAP)
    admin.delete(CATALOG)
    refusal = cluster.webhook.wait_for("catalog refused")
    assert refusal["problems"] == ["ConfigMap larder-system/larder-catalog: is not there"]
    assert cluster.ask(predictor)[0] == "Cached"
    assert cluster.webhook.get("/readyz") == (200, "ok")


def test_recorded_reviews_are_decided_in_a_real_namespace(
    cluster: Cluster, review: Callable[[str], Any]
) -> None:
    cluster.label(volume="hostPath")
    cluster.settle(review("hf-raw.after-kserve"), "Cached")
    answers = {name: cluster.ask(review(name)) for name in REASONS}
    assert {name: reason for name, (reason, _) in answers.items()} == REASONS
    for reason, response in answers.values():
        assert response["allowed"] is True
        assert ("patch" in response) == (reason == "Cached")


def test_it_takes_less_than_100_mb(cluster: Cluster, predictor: Any) -> None:
    cluster.ask(predictor)
    status = Path(f"/proc/{cluster.webhook.process.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    print(resident)  # noqa: T201 - the figure, with -s
    assert int(resident.split()[1]) < MAX_RESIDENT_KIB
