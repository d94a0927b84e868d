"""What the service account of the controller may do in a real cluster, and that it may no more."""

import pytest

from controller.planning.policies import CLAIMS_READ_ONLY, OWN_CLAIMS_ONLY, OWN_VOLUMES_ONLY
from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.kube.paths import collection_path, object_path
from tests.cluster.accounts import (
    CONFIG_MAPS,
    CONTROLLER,
    CREDENTIALS,
    LIST_CATALOG,
    NODES,
    PODS,
    SECRETS,
    WATCH,
    Accounts,
    Identity,
    Rule,
    events_path,
)
from tests.cluster.claims import BINDINGS, POLICIES, REGISTRATION, VOLUMES, claims

DEPLOYMENT = object_path("apps/v1", "deployments", CONTROLLER, namespace=SYSTEM_NAMESPACE)
LEASES = collection_path("coordination.k8s.io/v1", "leases", namespace=SYSTEM_NAMESPACE)
OWN_LEASE = f"{LEASES}/{CONTROLLER}"
ALLOWED = {
    "listing volumes": ("GET", VOLUMES),
    "watching claims": ("GET", f"/api/v1/persistentvolumeclaims{WATCH}"),
    "watching namespaces": ("GET", f"/api/v1/namespaces{WATCH}"),
    "listing pods": ("GET", PODS),
    "listing the catalog": ("GET", LIST_CATALOG),
    "reading a policy": ("GET", f"{POLICIES}/{CLAIMS_READ_ONLY}"),
    "reading a binding": ("GET", f"{BINDINGS}/{OWN_VOLUMES_ONLY}"),
    "reading its Lease": ("GET", OWN_LEASE),
    "renewing its Lease": ("PATCH", OWN_LEASE),
    "asking for KServe": ("GET", "/apis"),
}
FORBIDDEN = {
    "changing a volume": ("PATCH", f"{VOLUMES}/x"),
    "replacing a claim": ("PUT", f"{claims('default')}/x"),
    "a pod by name": ("GET", f"{PODS}/x"),
    "watching pods": ("GET", f"{PODS}{WATCH}"),
    "making a pod": ("POST", PODS),
    "nodes": ("GET", NODES),
    "Secrets": ("GET", SECRETS),
    "a Secret of the credentials": ("GET", f"{CREDENTIALS}/x"),
    "writing the catalog": ("PATCH", f"{CONFIG_MAPS}/{CATALOG_CONFIG_MAP}"),
    "the nodes' reports": ("GET", CONFIG_MAPS),
    "changing a policy": ("PATCH", f"{POLICIES}/{CLAIMS_READ_ONLY}"),
    "deleting a binding": ("DELETE", f"{BINDINGS}/{OWN_VOLUMES_ONLY}"),
    "another policy": ("GET", f"{POLICIES}/larder-agent-own-node-only"),
    "another Lease": ("PATCH", f"{LEASES}/x"),
    "making a Lease": ("POST", LEASES),
    "deleting its Lease": ("DELETE", OWN_LEASE),
    "labelling a namespace": ("PATCH", "/api/v1/namespaces/default"),
    "Events elsewhere": ("POST", events_path("default")),
    "its own Deployment": ("PATCH", DEPLOYMENT),
}

# All that the account has beyond what every account has: by namespace.
EVERYWHERE: set[Rule] = {
    (("create", "delete", "get", "list", "watch"), ("",), ("persistentvolumes",), ()),
    (
        ("create", "delete", "get", "list", "patch", "watch"),
        ("",),
        ("persistentvolumeclaims",),
        (),
    ),
    (("list", "watch"), ("",), ("namespaces",), ()),
    (("list",), ("",), ("pods",), ()),
    (
        ("list", "watch"),
        ("serving.kserve.io",),
        ("inferenceservices", "llminferenceservices"),
        (),
    ),
    (
        ("get",),
        (REGISTRATION,),
        ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
        (CLAIMS_READ_ONLY, OWN_CLAIMS_ONLY, OWN_VOLUMES_ONLY),
    ),
}
RIGHTS: dict[str, set[Rule]] = {
    SYSTEM_NAMESPACE: EVERYWHERE
    | {
        (("list", "watch"), ("",), ("configmaps",), (CATALOG_CONFIG_MAP,)),
        (("get", "patch"), ("coordination.k8s.io",), ("leases",), (CONTROLLER,)),
        (("create",), ("events.k8s.io",), ("events",), ()),
    },
    CREDENTIALS_NAMESPACE: EVERYWHERE,
    "default": EVERYWHERE,
    "kube-system": EVERYWHERE,
}


@pytest.mark.parametrize("name", ALLOWED)
def test_the_controller_may_do_what_it_does(controller: Identity, name: str) -> None:
    answer = controller.does(*ALLOWED[name])
    assert answer.status == 200, answer.message


def test_the_controller_may_write_events_in_its_namespace(controller: Identity) -> None:
    answer = controller.tells_of_the_catalog()
    assert answer.status == 201, answer.message


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_role_gives(controller: Identity, name: str) -> None:
    answer = controller.try_to(*FORBIDDEN[name])
    assert answer.status == 403, answer.message
    assert "larder:" not in answer.message


@pytest.mark.parametrize("namespace_name", RIGHTS)
def test_the_account_has_these_rights_and_no_more(
    accounts: Accounts, controller: Identity, namespace_name: str
) -> None:
    assert accounts.rights_of(controller, namespace_name) == RIGHTS[namespace_name]
