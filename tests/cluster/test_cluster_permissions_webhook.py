"""What the service account of the webhook may do in a real cluster, and that it may no more."""

import base64
from typing import Any

import pytest

from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.kube.client import JSON_PATCH, KubeClient
from runtime.kube.paths import collection_path
from tests.cluster.accounts import (
    CONFIG_MAPS,
    CREDENTIALS,
    DRY_RUN,
    LIST_CATALOG,
    NODES,
    PODS,
    SECRETS,
    WATCH,
    WEBHOOK,
    Accounts,
    Identity,
    Rule,
    events_path,
)
from tests.cluster.claims import goes_through, taken_away
from tests.cluster.test_cluster_agent import until
from webhook.certificates import CONFIGURATION, SECRET

NAMESPACES = collection_path("v1", "namespaces")
REGISTRATION = "admissionregistration.k8s.io"
CONFIGURATIONS = [
    collection_path(f"{REGISTRATION}/v1", f"{kind}webhookconfigurations")
    for kind in ("mutating", "validating")
]
MUTATING, VALIDATING = CONFIGURATIONS
CLAIMS = collection_path("v1", "persistentvolumeclaims")
OWN_SECRET = f"{SECRETS}/{SECRET}"

ALLOWED = {
    "listing namespaces": ("GET", NAMESPACES),
    "watching namespaces": ("GET", f"{NAMESPACES}{WATCH}"),
    "watching claims": ("GET", f"{CLAIMS}{WATCH}"),
    "listing the catalog": ("GET", LIST_CATALOG),
    "watching the reports of nodes": ("GET", f"{CONFIG_MAPS}{WATCH}"),
    "reading its Secret": ("GET", OWN_SECRET),
    "patching its Secret": ("PATCH", OWN_SECRET),
    "reading its configuration of pods": ("GET", f"{MUTATING}/{CONFIGURATION}"),
    "patching its configuration of pods": ("PATCH", f"{MUTATING}/{CONFIGURATION}"),
    "reading its configuration of the catalog": ("GET", f"{VALIDATING}/{CONFIGURATION}"),
    "patching its configuration of the catalog": ("PATCH", f"{VALIDATING}/{CONFIGURATION}"),
}
HELD = "may change nothing of its configurations but caBundle and path"
# What RBAC lets through and the policy does not: (patch of its configuration of pods, our words).
DENIED: dict[str, tuple[dict[str, Any], str]] = {
    "being asked about Secrets": (
        {"op": "replace", "path": "/webhooks/0/rules/0/resources", "value": ["secrets"]},
        HELD,
    ),
    "being asked about every pod": ({"op": "remove", "path": "/webhooks/0/objectSelector"}, HELD),
    "being asked in other namespaces": (
        {"op": "replace", "path": "/webhooks/1/namespaceSelector", "value": {}},
        HELD,
    ),
    "holding up pods": (
        {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"},
        HELD,
    ),
    "sending reviews elsewhere": (
        {"op": "replace", "path": "/webhooks/0/clientConfig/service/namespace", "value": "x"},
        HELD,
    ),
    "sending reviews out of the cluster": (
        {"op": "replace", "path": "/webhooks/0/clientConfig", "value": {"url": "https://x.test"}},
        HELD,
    ),
    "one webhook less": ({"op": "remove", "path": "/webhooks/1"}, HELD),
    "a webhook more": (
        {
            "op": "add",
            "path": "/webhooks/-",
            "value": {
                "name": "more.larder.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": {"url": "https://x.test"},
            },
        },
        HELD,
    ),
    "an annotation": (
        {"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}},
        "may change no metadata",
    ),
    "a finalizer": (
        {"op": "add", "path": "/metadata/finalizers", "value": ["larder.dev/stay"]},
        "may change no metadata",
    ),
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
    "making a claim": ("POST", CLAIMS.replace("/v1/", "/v1/namespaces/default/")),
    "labelling a namespace": ("PATCH", f"{NAMESPACES}/default"),
    "Events elsewhere": ("POST", events_path("default")),
    "Events of the old kind": ("POST", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/events"),
    "reading Events": ("GET", events_path(SYSTEM_NAMESPACE)),
    "whether somebody may do something here alone": (
        "POST",
        f"/apis/authorization.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/localsubjectaccessreviews",
    ),
    "a pod that it is asked about": ("GET", "/api/v1/namespaces/default/pods/x"),
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
    (("list", "watch"), ("",), ("persistentvolumeclaims",), ()),
    (
        ("get", "patch"),
        (REGISTRATION,),
        ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
        (CONFIGURATION,),
    ),
    (("create",), ("authentication.k8s.io",), ("tokenreviews",), ()),
    (("create",), ("authorization.k8s.io",), ("subjectaccessreviews",), ()),
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
    answer = webhook.does(*ALLOWED[name])
    assert answer.status == 200, answer.message


def test_the_webhook_may_write_events_in_its_namespace(webhook: Identity) -> None:
    answer = webhook.tells_of_the_catalog()
    assert answer.status == 201, answer.message


@pytest.mark.parametrize(
    ("group", "kind", "spec", "answer"),
    [
        pytest.param(
            "authentication.k8s.io",
            "TokenReview",
            {"token": "none"},
            ("authenticated", None),
            id="who asks",
        ),
        pytest.param(
            "authorization.k8s.io",
            "SubjectAccessReview",
            {
                "user": "somebody",
                "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"},
            },
            ("allowed", False),
            id="what they may",
        ),
    ],
)
def test_the_webhook_may_ask(
    webhook: Identity, group: str, kind: str, spec: dict[str, Any], answer: tuple[str, bool | None]
) -> None:
    path = collection_path(f"{group}/v1", f"{kind.lower()}s")
    said = webhook.ask("POST", path, {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec})
    assert said.status == 201, said.message
    assert said.body["status"].get(answer[0]) is answer[1]


@pytest.fixture(scope="module")
def held(webhook: Identity) -> Identity:
    """The webhook, once the policy is in force."""

    def is_denied() -> bool:
        patch = [DENIED["holding up pods"][0]]
        path = f"{MUTATING}/{CONFIGURATION}{DRY_RUN}"
        return webhook.ask("PATCH", path, patch, JSON_PATCH).status == 403

    until(is_denied, "the policy is not in force")
    return webhook


@pytest.mark.parametrize("name", DENIED)
def test_the_policy_refuses_in_our_words(held: Identity, name: str) -> None:
    operation, words = DENIED[name]
    answer = held.ask("PATCH", f"{MUTATING}/{CONFIGURATION}{DRY_RUN}", [operation], JSON_PATCH)
    assert (answer.status, "larder: the webhook" in answer.message) == (403, True), answer.message
    assert words in answer.message


def test_without_its_policy_a_webhooks_token_would_change_each_of_these(
    admin: KubeClient, held: Identity
) -> None:
    path = f"{MUTATING}/{CONFIGURATION}{DRY_RUN}"
    with taken_away(admin, "larder-webhook-bundle-and-path-only"):
        for operation, _ in DENIED.values():
            goes_through(lambda o=operation: held.ask("PATCH", path, [o], JSON_PATCH))
    until(
        lambda: held.ask("PATCH", path, [operation], JSON_PATCH).status == 403,
        "the policy is not in force again",
    )


@pytest.mark.parametrize("path", [f"{plural}/{CONFIGURATION}" for plural in CONFIGURATIONS])
def test_bundle_and_path_are_the_webhooks_to_write(held: Identity, path: str) -> None:
    at = "/webhooks/0/clientConfig"
    patch = [
        {"op": "add", "path": f"{at}/caBundle", "value": base64.b64encode(b"x").decode()},
        {"op": "add", "path": f"{at}/service/path", "value": "/x/mutate-pods"},
    ]
    answer = held.ask("PATCH", f"{path}{DRY_RUN}", patch, JSON_PATCH)
    assert answer.status == 200, answer.message


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_role_gives(webhook: Identity, name: str) -> None:
    answer = webhook.try_to(*FORBIDDEN[name])
    assert answer.status == 403, answer.message
    assert "larder:" not in answer.message


@pytest.mark.parametrize("namespace_name", RIGHTS)
def test_the_account_has_these_rights_and_no_more(
    accounts: Accounts, webhook: Identity, namespace_name: str
) -> None:
    assert accounts.rights_of(webhook, namespace_name) == RIGHTS[namespace_name]
