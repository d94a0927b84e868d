"""What Larder makes of every shape of pod is what a real API server takes, and is stable there.

Nothing is kept: pods are created in a dry run, past admission and validation, in namespaces that
no installed webhook looks at. KServe is the model of it that recordings hold.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from larder.catalog import read_catalog
from larder.claims import Claim
from larder.contract import DecisionReason
from larder.matching import CatalogIndex
from runtime.kube.client import KubeClient
from runtime.kube.errors import AlreadyExistsError, KubeError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.kustomize import kubectl
from tests.fakes.kserve_mutator import KServe
from tests.fakes.predictor_pods import SHAPES, Shape, recorded, shape, spec
from tests.fuzz.odd_reviews import OddReviews
from tests.webhook.conftest import CATALOG
from webhook.mutation import AdmissionRequest, View, apply_patch, decide

Pod = Any

ROOT = PurePosixPath("/var/lib/larder")
ACCOUNTS = ("default", "s3sa", "llm-pd-kserve")
ODD_REVIEWS = 3000
ROWS = [
    pytest.param(row, KServe(release, row.around), id=f"{name}, {release.name}")
    for name, row in SHAPES.items()
    for release in row.releases
    if row.slots
]
REQUIRED = [
    "raw deployment",
    "Knative behind Istio",
    "collocated transformer",
    "credentials of GCS",
    "EKS' identity for service accounts",
    "LLM, single",
]


class Pods:
    """The pods of a namespace, created in a dry run."""

    def __init__(self, admin: KubeClient, namespace: str) -> None:
        self._admin = admin
        self._namespace = namespace

    def created(self, pod: Pod) -> Pod:
        """The pod as the API server would keep it. Raises `KubeError` with what it says."""
        metadata = {**pod["metadata"], "namespace": self._namespace}
        path = collection_path("v1", "pods", namespace=self._namespace)
        return self._admin.create(f"{path}?dryRun=All", {**pod, "metadata": metadata})

    def refusal_of(self, pod: Pod, folder: Path) -> str:
        """The words in which a pod is refused."""
        file = folder / "pod.json"
        metadata = {**pod["metadata"], "namespace": self._namespace}
        file.write_text(
            json.dumps({"apiVersion": "v1", "kind": "Pod", **pod, "metadata": metadata})
        )
        return kubectl("create", "--dry-run=server", "-f", str(file)).stderr

    def takes(self, pod: Pod) -> bool:
        with suppress(KubeError):
            self.created(pod)
            return True
        return False


def made(admin: KubeClient, profile: str) -> Iterator[Pods]:
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    labels = {"control-plane": "none", "pod-security.kubernetes.io/enforce": profile}
    admin.create(
        collection_path("v1", "namespaces"), {"metadata": {"name": name, "labels": labels}}
    )
    for account in ACCOUNTS:
        with suppress(AlreadyExistsError):
            path = collection_path("v1", "serviceaccounts", namespace=name)
            admin.create(path, {"metadata": {"name": account}})
    yield Pods(admin, name)
    admin.delete(object_path("v1", "namespaces", name))


@pytest.fixture(scope="module")
def privileged(admin: KubeClient) -> Iterator[Pods]:
    yield from made(admin, "privileged")


@pytest.fixture(scope="module")
def restricted(admin: KubeClient) -> Iterator[Pods]:
    yield from made(admin, "restricted")


def view_of(catalog: str) -> View:
    index = CatalogIndex(read_catalog(catalog.encode(), standalone=True))
    return View(index, ROOT, ready=frozenset(m.key for m in index.catalog.models))


def asked(pod: Pod, view: View) -> Any:
    return decide(AdmissionRequest(pod, "chat"), view)


def is_stable(pods: Pods, pod: Pod, view: View) -> bool:
    """Larder's pod is taken, and as the API server gives it back, there is nothing left to do."""
    decision = asked(pod, view)
    assert decision.reason is DecisionReason.CACHED
    kept = pods.created(apply_patch(pod, decision.operations))
    again = asked(kept, view)
    return (again.reason, again.operations) == (DecisionReason.ALREADY_REWRITTEN, ())


@pytest.mark.parametrize(("row", "kserve"), ROWS)
def test_a_shape_is_taken_with_slots_from_the_host(
    row: Shape, kserve: KServe, privileged: Pods
) -> None:
    assert is_stable(privileged, kserve.mutate(row.before), view_of(CATALOG))


@pytest.mark.parametrize(("row", "kserve"), ROWS)
def test_a_shape_is_taken_with_slots_from_claims(
    row: Shape, kserve: KServe, privileged: Pods
) -> None:
    view = with_claims(view_of(CATALOG))
    assert is_stable(privileged, kserve.mutate(row.before), view)


def with_claims(view: View) -> View:
    """A restricted namespace with a claim for each model."""
    assert view.index
    names = {
        Claim("chat", model.key, is_content=model.placement == "Require").name
        for model in view.index.catalog.models
    }
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return replace(view, claims=frozenset(names), namespace_labels=labels)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_placed_pod_is_taken(name: str, privileged: Pods) -> None:
    text = CATALOG.replace("models:", "nodeGroups: [{name: gpu}]\nmodels:").replace(
        "{name: qwen,", "{name: qwen, placement: Require, nodeGroups: [gpu],"
    )
    pod = KServe(around=SHAPES[name].around).mutate(SHAPES[name].before)
    view = view_of(text)
    assert is_stable(privileged, pod, view)
    assert is_stable(privileged, pod, with_claims(view))


def test_a_restricted_namespace_refuses_kserves_pod_and_takes_larders(
    restricted: Pods, tmp_path: Path
) -> None:
    conforming = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = KServe().mutate(shape(spec(securityContext=conforming)).before)
    said = restricted.refusal_of(pod, tmp_path)
    assert 'container "storage-initializer" must set' in said
    assert "kserve-container" not in said
    assert is_stable(restricted, pod, with_claims(view_of(CATALOG)))


def test_a_restricted_namespace_takes_an_llms_pod_only_from_larder(restricted: Pods) -> None:
    pod = recorded("llm-single.after-kserve")
    assert not restricted.takes(pod)
    assert is_stable(restricted, pod, with_claims(view_of(CATALOG)))


def test_a_patch_makes_no_pod_invalid_that_was_valid(privileged: Pods) -> None:
    reviews, view = OddReviews(1), view_of(CATALOG)
    taken = patched = 0
    for number in range(ODD_REVIEWS):
        request = reviews.review(number).get("request")
        pod = request.get("object") if isinstance(request, dict) else None
        decision = asked(pod, view)
        if not decision.operations or not privileged.takes(pod):
            continue
        patched += 1
        taken += privileged.takes(apply_patch(pod, decision.operations))
    assert taken == patched
    assert patched > ODD_REVIEWS / 20
