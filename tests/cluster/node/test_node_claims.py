"""Claims on a real node: who may not mount the host reads by them, and nobody writes.

The attack is one that a reviewer drove through: root in a tenant's own pod, on a claim of ours that
it mounts for writing.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from controller.planning.policies import CLAIMS_READ_ONLY
from larder.claims import Claim, is_usable
from runtime.kube.client import KubeClient
from runtime.kube.errors import ForbiddenError, NotFoundError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.claims import taken_away
from tests.cluster.node.node_cluster import until
from tests.cluster.node.predictors import DEMO_IMAGE, Model, PodOf
from tests.cluster.node.whole import Cluster

BOUND_SECONDS = 120.0  # kube-controller-manager binds some claims at its resync only
READ = """
import hashlib, json, pathlib
content = pathlib.Path("/model/content")
files = sorted(path for path in content.rglob("*") if path.is_file())
digests = {str(p.relative_to(content)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
pathlib.Path("/dev/termination-log").write_text(json.dumps(digests))
"""
WRITE = "import pathlib; pathlib.Path('/model/content/attack').write_text('x')"
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture
def tiny(admin: KubeClient, cluster: Cluster) -> Iterator[Model]:
    """A model for one namespace, whose profile is restricted."""
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespaces = collection_path("v1", "namespaces")
    admin.create(namespaces, {"metadata": {"name": name, "labels": labels}})
    yield replace(cluster.hub.model("tiny"), namespace=name)
    admin.delete(f"{namespaces}/{name}")


@pytest.fixture
def served(admin: KubeClient, cluster: Cluster, tiny: Model) -> Model:
    """The node has it, and the namespace its claim."""
    cluster.fill(tiny)
    claim = Claim(tiny.namespace, tiny.key)
    path = object_path("v1", "persistentvolumeclaims", claim.name, namespace=claim.namespace)

    def is_bound() -> bool:
        try:
            return is_usable(admin.get(path))
        except NotFoundError:
            return False

    until(is_bound, "its claim was Bound", BOUND_SECONDS, pause=0.5)
    return tiny


def pod(model: Model, node: str, script: str, security: Any, **source: bool) -> dict[str, Any]:
    """A pod that runs a script on the slot's claim, and ends."""
    container = {
        "name": "c",
        "image": DEMO_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", script],
        "securityContext": security,
        "volumeMounts": [{"name": "m", "mountPath": "/model", **source}],
    }
    claim = {"claimName": f"larder-{model.key}", **source}
    return {
        "metadata": {"name": f"p-{uuid.uuid4().hex[:8]}", "namespace": model.namespace},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [container],
            "volumes": [{"name": "m", "persistentVolumeClaim": claim}],
        },
    }


def ended(made: PodOf) -> dict[str, Any]:
    """How a pod's one container ended."""

    def is_over() -> bool:
        return made.now()["status"]["phase"] in {"Succeeded", "Failed"}

    until(is_over, f"pod {made.name} ended")
    status = made.now()["status"]["containerStatuses"][0]["state"]["terminated"]
    return dict(status)


def run(admin: KubeClient, content: dict[str, Any]) -> dict[str, Any]:
    path = collection_path("v1", "pods", namespace=content["metadata"]["namespace"])
    made = PodOf(admin, admin.create(path, content))
    try:
        return ended(made)
    finally:
        made.delete()


def test_a_restricted_namespace_reads_a_model_by_its_claim(
    admin: KubeClient, cluster: Cluster, served: Model
) -> None:
    reader = pod(served, cluster.node.name, READ, RESTRICTED, readOnly=True)
    end = run(admin, reader)
    assert end["exitCode"] == 0
    assert json.loads(end["message"]) == served.digests


def test_the_same_pod_is_refused_with_the_host_itself(
    admin: KubeClient, cluster: Cluster, served: Model
) -> None:
    reader = pod(served, cluster.node.name, READ, RESTRICTED, readOnly=True)
    slot = {"path": f"/var/lib/larder/slots/{served.key}"}
    reader["spec"]["volumes"] = [{"name": "m", "hostPath": slot}]
    with pytest.raises(ForbiddenError):
        run(admin, reader)


def test_root_in_a_tenants_pod_writes_what_others_read_only_while_the_policy_is_away(
    admin: KubeClient, cluster: Cluster, served: Model
) -> None:
    level = {"pod-security.kubernetes.io/enforce": "baseline"}  # which lets root in
    admin.patch(object_path("v1", "namespaces", served.namespace), {"metadata": {"labels": level}})
    attack = pod(served, cluster.node.name, WRITE, {"runAsUser": 0})
    with pytest.raises(ForbiddenError):
        run(admin, attack)
    reads_only = pod(served, cluster.node.name, WRITE, {"runAsUser": 0}, readOnly=True)
    assert run(admin, reads_only)["exitCode"] != 0
    collection = collection_path("v1", "pods", namespace=served.namespace)

    def is_let_through() -> bool:
        try:
            admin.create(f"{collection}?dryRun=All", attack)
        except ForbiddenError:
            return False
        return True

    with taken_away(admin, CLAIMS_READ_ONLY):
        until(is_let_through, "the policy was away")
        assert run(admin, attack)["exitCode"] == 0
    until(lambda: not is_let_through(), "the policy was back")
