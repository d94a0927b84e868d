"""A tenant's attacks on what others read, with claims of the tenant's own namespace.

Each is refused in our words, and goes through once the policy that stops it is taken away.
"""

from copy import deepcopy
from typing import Any

import pytest

from controller.planning.policies import CLAIMS_READ_ONLY
from larder.contract import SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path
from tests.cluster.accounts import DRY_RUN, Accounts, Identity
from tests.cluster.claims import (
    KEY,
    Json,
    goes_through,
    is_refused,
    pod_with_claim,
    pods,
    taken_away,
    unscheduled,
)
from tests.controller.conftest import until


@pytest.fixture
def tenant(accounts: Accounts, nodes: tuple[str, str], namespace: str) -> Identity:
    """Somebody who may make pods and debug them, in one namespace."""
    roles = collection_path("rbac.authorization.k8s.io/v1", "roles", namespace=namespace)
    rule = {"apiGroups": [""], "resources": ["pods", "pods/ephemeralcontainers"]}
    rules = [rule | {"verbs": ["create", "patch"]}]
    accounts.admin.create(roles, {"metadata": {"name": "tenant"}, "rules": rules})
    binding = {
        "metadata": {"name": "tenant"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": SYSTEM_NAMESPACE}],
    }
    accounts.admin.create(roles.replace("/roles", "/rolebindings"), binding)
    return accounts.identity("default", *nodes, None)


def with_init(pod: Json, **container: Any) -> Json:
    init = {"name": "i", "image": "none"} | container
    return {**pod, "spec": pod["spec"] | {"initContainers": [init]}}


SLOT, CONTENT = f"larder-{KEY}", f"larder-{KEY}-content"
WRITABLE = {"name": "m", "mountPath": "/w"}
EPHEMERAL = {
    "volumeClaimTemplate": {
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Mi"}},
        }
    }
}
OF_OUR_NAME = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "larder"},
    "spec": {
        "containers": [{"name": "c", "image": "none"}],
        "volumes": [{"name": KEY, "ephemeral": EPHEMERAL}],
    },
}
ATTACKS = {
    "a volume that is not read-only": pod_with_claim(SLOT, volume={"readOnly": False}),
    "a content that is not read-only": pod_with_claim(CONTENT, volume={"readOnly": False}),
    "a mount that is not read-only": pod_with_claim(SLOT, mount={"readOnly": False}),
    "a subPath": pod_with_claim(SLOT, mount={"subPath": "content/new"}),
    "a subPathExpr": pod_with_claim(SLOT, mount={"subPathExpr": "$(HOSTNAME)"}),
    "an init container that writes": with_init(pod_with_claim(SLOT), volumeMounts=[WRITABLE]),
    "a device": pod_with_claim(
        SLOT, volumeMounts=[], volumeDevices=[{"name": "m", "devicePath": "/d"}]
    ),
    "an ephemeral volume with our claim's name": OF_OUR_NAME,
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("policy_holds")
def test_a_pod_that_could_write_what_others_read_is_refused(
    tenant: Identity, namespace: str, name: str
) -> None:
    answer = tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", ATTACKS[name])
    assert is_refused(answer), answer.message


@pytest.mark.parametrize("claim", [SLOT, CONTENT])
@pytest.mark.usefixtures("policy_holds")
def test_a_pod_that_only_reads_is_let_through(tenant: Identity, namespace: str, claim: str) -> None:
    answer = tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", pod_with_claim(claim))
    assert answer.status == 201, answer.message


@pytest.mark.usefixtures("policy_holds")
def test_claims_of_other_names_are_nobodys_business(tenant: Identity, namespace: str) -> None:
    pod = pod_with_claim("larder-data", volume={"readOnly": False}, mount={"subPath": "a"})
    answer = tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", pod)
    assert answer.status == 201, answer.message


@pytest.mark.usefixtures("policy_holds")
def test_a_large_pod_is_within_what_the_policy_may_cost(tenant: Identity, namespace: str) -> None:
    pod = pod_with_claim(SLOT)
    volumes = [deepcopy(pod["spec"]["volumes"][0]) | {"name": f"m{n}"} for n in range(20)]
    mounts = [{"name": f"m{n}", "mountPath": f"/m{n}", "readOnly": True} for n in range(20)]
    many = [{"name": f"c{n}", "image": "none", "volumeMounts": mounts} for n in range(200)]
    pod["spec"] |= {"volumes": volumes, "containers": many}
    answer = tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", pod)
    assert answer.status == 201, answer.message


def debugging(namespace: str) -> tuple[str, Json]:
    container = {"name": "d", "image": "none", "volumeMounts": [WRITABLE]}
    path = f"{pods(namespace)}/attack/ephemeralcontainers{DRY_RUN}"
    return path, {"spec": {"ephemeralContainers": [container]}}


@pytest.mark.usefixtures("policy_holds")
def test_a_container_for_debugging_may_not_write_either(
    tenant: Identity, admin: KubeClient, namespace: str
) -> None:
    admin.create(pods(namespace), unscheduled(pod_with_claim(SLOT)))
    path, patch = debugging(namespace)
    content_type = "application/strategic-merge-patch+json"
    answer = tenant.ask("PATCH", path, patch, content_type)
    assert is_refused(answer), answer.message
    with taken_away(admin, CLAIMS_READ_ONLY):
        goes_through(lambda: tenant.ask("PATCH", path, patch, content_type))


def test_without_the_policy_each_of_these_pods_goes_through(
    tenant: Identity, admin: KubeClient, namespace: str
) -> None:
    with taken_away(admin, CLAIMS_READ_ONLY):
        for pod in ATTACKS.values():
            goes_through(lambda p=pod: tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", p))


@pytest.fixture
def policy_holds(tenant: Identity, namespace: str) -> None:
    """It is in force, after whoever took it away brought it back."""
    attack = ATTACKS["a volume that is not read-only"]
    path = f"{pods(namespace)}{DRY_RUN}"
    until(lambda: is_refused(tenant.ask("POST", path, attack)), "the policy is not in force")
