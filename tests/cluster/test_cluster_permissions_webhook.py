"""What the service account of the webhook may do in a real cluster, and that it may no more."""

import pytest

from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.kube.client import JSON, MERGE_PATCH
from runtime.kube.paths import collection_path
from tests.cluster.accounts import (
    CONFIG_MAPS,
    CREDENTIALS,
    DRY_RUN,
    NODES,
    PODS,
    SECRETS,
    WEBHOOK,
    Accounts,
    Identity,
    Rule,
    event,
    events_path,
    rights,
)
from webhook.certificates import CONFIGURATION, SECRET

NAMESPACES = collection_path("v1", "namespaces")
REGISTRATION = "admissionregistration.k8s.io"
CONFIGURATIONS = [
    collection_path(f"{REGISTRATION}/v1", f"{kind}webhookconfigurations")
    for kind in ("mutating", "validating")
]
MUTATING, VALIDATING = CONFIGURATIONS
OWN_SECRET = f"{SECRETS}/{SECRET}"
WATCH = "?watch=1&timeoutSeconds=1"

ALLOWED = {
    "listing namespaces": ("GET", NAMESPACES),
    "watching namespaces": ("GET", f"{NAMESPACES}{WATCH}"),
    "listing the catalog": (
        "GET",
        f"{CONFIG_MAPS}?fieldSelector=metadata.name%3D{CATALOG_CONFIG_MAP}",
    ),
    "watching the reports of nodes": ("GET", f"{CONFIG_MAPS}{WATCH}"),
    "reading its Secret": ("GET", OWN_SECRET),
    "patching its Secret": ("PATCH", OWN_SECRET),
    "reading its configuration of pods": ("GET", f"{MUTATING}/{CONFIGURATION}"),
    "patching its configuration of pods": ("PATCH", f"{MUTATING}/{CONFIGURATION}"),
    "reading its configuration of the catalog": ("GET", f"{VALIDATING}/{CONFIGURATION}"),
    "patching its configuration of the catalog": ("PATCH", f"{VALIDATING}/{CONFIGURATION}"),
}
# What no role gives: (method, path).
FORBIDDEN = {
    "making a Secret": ("POST", SECRETS),
    "another Secret": ("GET", f"{SECRETS}/x"),
    "patching another Secret": ("PATCH", f"{SECRETS}/x"),
    "a list of Secrets": ("GET", SECRETS),
    "a list of its one Secret": ("GET", f"{SECRETS}?fieldSelector=metadata.name%3D{SECRET}"),
    "replacing its Secret": ("PUT", OWN_SECRET),
    "deleting its Secret": ("DELETE", OWN_SECRET),
    "a Secret of the credentials": ("GET", f"{CREDENTIALS}/x"),
    "a list of the credentials": ("GET", CREDENTIALS),
    "Secrets of the whole cluster": ("GET", "/api/v1/secrets"),
    "KServe's configuration": ("PATCH", f"{MUTATING}/inferenceservice.serving.kserve.io"),
    "another configuration": ("PATCH", f"{VALIDATING}/x"),
    "a list of configurations": ("GET", MUTATING),
    "making a configuration": ("POST", MUTATING),
    "deleting its configuration": ("DELETE", f"{MUTATING}/{CONFIGURATION}"),
    "replacing its configuration": ("PUT", f"{VALIDATING}/{CONFIGURATION}"),
    "writing the catalog": ("PATCH", f"{CONFIG_MAPS}/{CATALOG_CONFIG_MAP}"),
    "making a ConfigMap": ("POST", CONFIG_MAPS),
    "ConfigMaps elsewhere": ("GET", CONFIG_MAPS.replace(SYSTEM_NAMESPACE, "default")),
    "pods": ("GET", PODS),
    "pods of the whole cluster": ("GET", "/api/v1/pods"),
    "making a pod": ("POST", PODS),
    "nodes": ("GET", NODES),
    "labelling a namespace": ("PATCH", f"{NAMESPACES}/default"),
    "Events elsewhere": ("POST", events_path("default")),
    "Events of the old kind": ("POST", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/events"),
    "reading Events": ("GET", events_path(SYSTEM_NAMESPACE)),
    "a token of its account": (
        "POST",
        f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts/{WEBHOOK}/token",
    ),
    "its own Deployment": (
        "PATCH",
        f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/{WEBHOOK}",
    ),
}

# All that the account has beyond what every account has: by namespace.
EVERYWHERE: set[Rule] = {
    (("list", "watch"), ("",), ("namespaces",), ()),
    (
        ("get", "patch"),
        (REGISTRATION,),
        ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
        (CONFIGURATION,),
    ),
}
RIGHTS: dict[str, set[Rule]] = {
    SYSTEM_NAMESPACE: EVERYWHERE
    | {
        (("list", "watch"), ("",), ("configmaps",), ()),
        (("get", "patch"), ("",), ("secrets",), (SECRET,)),
        (("create",), ("events.k8s.io",), ("events",), ()),
    },
    CREDENTIALS_NAMESPACE: EVERYWHERE,
    "default": EVERYWHERE,
    "kube-system": EVERYWHERE,
}


@pytest.fixture(scope="module")
def webhook(accounts: Accounts, nodes: tuple[str, str]) -> Identity:
    return accounts.identity(WEBHOOK, *nodes, None)


@pytest.mark.parametrize("name", ALLOWED)
def test_the_webhook_may_do_what_it_does(webhook: Identity, name: str) -> None:
    method, path = ALLOWED[name]
    dry = f"{path}{DRY_RUN}" if method == "PATCH" else path
    answer = webhook.ask(method, dry, {} if method == "PATCH" else None, MERGE_PATCH)
    assert answer.status == 200, answer.message


def test_the_webhook_may_write_events_in_its_namespace(webhook: Identity) -> None:
    about = event("ConfigMap", CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE)
    about["regarding"]["namespace"] = SYSTEM_NAMESPACE
    answer = webhook.ask("POST", f"{events_path(SYSTEM_NAMESPACE)}{DRY_RUN}", about, JSON)
    assert answer.status == 201, answer.message


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_role_gives(webhook: Identity, name: str) -> None:
    answer = webhook.try_to(*FORBIDDEN[name])
    assert answer.status == 403, answer.message
    assert "larder:" not in answer.message


@pytest.mark.parametrize("namespace_name", RIGHTS)
def test_the_account_has_these_rights_and_no_more(
    accounts: Accounts, webhook: Identity, namespace_name: str
) -> None:
    nobody = accounts.identity("default", webhook.node, webhook.other, None)
    found = rights(webhook, namespace_name) - rights(nobody, namespace_name)
    assert found == RIGHTS[namespace_name]
