"""What the service account of the agent may do in a cluster, and how it is refused the rest."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.hub import Hub, Repo
from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.kube.client import APPLY_PATCH, JSON, MERGE_PATCH, KubeClient
from tests.cluster.accounts import (
    AGENT,
    CONFIG_MAPS,
    CREDENTIALS,
    DRY_RUN,
    NODES,
    PODS,
    SECRETS,
    Accounts,
    Identity,
    Rule,
    event,
    events_path,
    rights,
)
from tests.cluster.test_cluster_agent import FILES, Cluster, until

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
SLOT_LABEL = "model.larder.dev/0123456789abcdef"


@pytest.fixture(scope="module")
def unbound(accounts: Accounts, nodes: tuple[str, str]) -> Identity:
    """The account with a token that is bound to no pod. The policy is in force from here on."""
    identity = accounts.identity(AGENT, *nodes, None)

    def is_denied() -> bool:
        answer = identity.ask("PATCH", f"{OWN_NODE}{DRY_RUN}", {}, MERGE_PATCH)
        return answer.status == 403 and "larder:" in answer.message

    until(is_denied, "the policy is not in force")
    return identity


@pytest.fixture(scope="module")
def agent(accounts: Accounts, nodes: tuple[str, str], unbound: Identity) -> Iterator[Identity]:
    assert unbound.token  # asked for, so that the policy is in force
    identity, pod = accounts.agent_on(*nodes)
    yield identity
    accounts.admin.delete(pod, options={"gracePeriodSeconds": 0})


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}


def labels(**changed: str | None) -> dict[str, Any]:
    return {"metadata": {"labels": changed}}


OWN_NODE, OTHER_NODE = f"{NODES}/{{node}}", f"{NODES}/{{other}}"
OWN_REPORT = f"{CONFIG_MAPS}/larder-node-{{node}}"
OTHER_REPORT = f"{CONFIG_MAPS}/larder-node-{{other}}"
OURS = {"metadata": {"labels": {SLOT_LABEL: "ready"}}}
NOT_OURS = "may not change node 'OTHER'"
ONLY_OWN = "only 'larder-node-OWN'"
ABOUT_OWN = "may write Events about that node alone"
MAP = {"data": {"a": "c"}}

ALLOWED = {
    "setting a label of ours on the own node": ("PATCH", OWN_NODE, OURS, MERGE_PATCH),
    "removing it again": (
        "PATCH",
        OWN_NODE,
        {"metadata": {"labels": {SLOT_LABEL: None}}},
        MERGE_PATCH,
    ),
    "making the own report": (
        "PATCH",
        f"{OWN_REPORT}?fieldManager=larder-agent&force=true",
        config_map("larder-node-OWN"),
        APPLY_PATCH,
    ),
    "listing the own node": (
        "GET",
        f"{NODES}?fieldSelector=metadata.name%3D{{node}}",
        None,
        JSON,
    ),
    "listing the pods of the own node": (
        "GET",
        "/api/v1/pods?fieldSelector=spec.nodeName%3D{node}",
        None,
        JSON,
    ),
    "listing the catalog": (
        "GET",
        f"{CONFIG_MAPS}?fieldSelector=metadata.name%3D{CATALOG_CONFIG_MAP}",
        None,
        JSON,
    ),
    "an Event about the own node": (
        "POST",
        events_path("default"),
        event("Node", "OWN", "default"),
        JSON,
    ),
}
# What RBAC lets through and the policy does not: (method, path, body, content type, our words).
DENIED = {
    "a label of ours on another node": ("PATCH", OTHER_NODE, OURS, MERGE_PATCH, NOT_OURS),
    "a new label of the own node": (
        "PATCH",
        OWN_NODE,
        labels(x="y"),
        MERGE_PATCH,
        "may set no label of a node",
    ),
    "a label of the own node that is changed": (
        "PATCH",
        OWN_NODE,
        labels(gpu="none"),
        MERGE_PATCH,
        "may set no label of a node",
    ),
    "a label of the own node that is removed": (
        "PATCH",
        OWN_NODE,
        labels(gpu=None),
        MERGE_PATCH,
        "may remove no label of a node",
    ),
    "an annotation of the own node": (
        "PATCH",
        OWN_NODE,
        {"metadata": {"annotations": {"owner": "me"}}},
        MERGE_PATCH,
        "annotations, finalizers or owners",
    ),
    "a finalizer of the own node": (
        "PATCH",
        OWN_NODE,
        {"metadata": {"finalizers": ["larder.dev/stay"]}},
        MERGE_PATCH,
        "annotations, finalizers or owners",
    ),
    "an owner of the own node": (
        "PATCH",
        OWN_NODE,
        {
            "metadata": {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Namespace", "name": "x", "uid": "x"}
                ]
            }
        },
        MERGE_PATCH,
        "annotations, finalizers or owners",
    ),
    "cordoning the own node": (
        "PATCH",
        OWN_NODE,
        {"spec": {"unschedulable": True}},
        MERGE_PATCH,
        "change its spec",
    ),
    "tainting the own node": (
        "PATCH",
        OWN_NODE,
        {"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}},
        MERGE_PATCH,
        "change its spec",
    ),
    "the report of another node, made": (
        "POST",
        CONFIG_MAPS,
        config_map("larder-node-OTHER"),
        JSON,
        ONLY_OWN,
    ),
    "the report of another node, applied": (
        "PATCH",
        f"{OTHER_REPORT}?fieldManager=larder-agent",
        config_map("larder-node-OTHER"),
        APPLY_PATCH,
        ONLY_OWN,
    ),
    "a ConfigMap of another name": ("POST", CONFIG_MAPS, config_map("mine"), JSON, ONLY_OWN),
    "a ConfigMap of the cluster": (
        "PATCH",
        f"{CONFIG_MAPS}/kube-root-ca.crt",
        MAP,
        MERGE_PATCH,
        ONLY_OWN,
    ),
    "the catalog": (
        "PATCH",
        f"{CONFIG_MAPS}/{CATALOG_CONFIG_MAP}?fieldManager=larder-agent&force=true",
        config_map(CATALOG_CONFIG_MAP),
        APPLY_PATCH,
        ONLY_OWN,
    ),
    "an Event about another node": (
        "POST",
        events_path("default"),
        event("Node", "OTHER", "default"),
        JSON,
        ABOUT_OWN,
    ),
    "an Event about a pod named as the own node": (
        "POST",
        events_path("default"),
        event("Pod", "OWN", "default"),
        JSON,
        ABOUT_OWN,
    ),
}
# What no role gives: (method, path).
FORBIDDEN = {
    "Secrets of Larder's namespace": (
        "GET",
        SECRETS,
    ),
    "Secrets of the whole cluster": ("GET", "/api/v1/secrets"),
    "a list of the credentials": ("GET", CREDENTIALS),
    "a Secret of kube-system": ("GET", "/api/v1/namespaces/kube-system/secrets/x"),
    "other ConfigMaps": ("GET", CONFIG_MAPS),
    "the report of another node": ("GET", OTHER_REPORT),
    "deleting the own report": ("DELETE", OWN_REPORT),
    "deleting the own node": ("DELETE", OWN_NODE),
    "deleting a pod": ("DELETE", f"{PODS}/x"),
    "making a pod": ("POST", PODS),
    "a token of its account": (
        "POST",
        f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts/{AGENT}/token",
    ),
    "the status of the own node": ("PATCH", f"{OWN_NODE}/status"),
    "ConfigMaps elsewhere": ("POST", CONFIG_MAPS.replace(SYSTEM_NAMESPACE, "default")),
    "Events in Larder's namespace": ("POST", events_path(SYSTEM_NAMESPACE)),
    "Events of the old kind": ("POST", "/api/v1/namespaces/default/events"),
    "reading Events": ("GET", events_path("default")),
    "the webhook's certificates": ("GET", f"{SECRETS}/larder-webhook-certificates"),
    "its policy": (
        "DELETE",
        f"{POLICIES}/larder-agent-own-node-only",
    ),
}

CORE = ("",)
# All that the account has beyond what every account has: by namespace.
READ_NODES_AND_PODS: set[Rule] = {
    (("list", "patch", "watch"), CORE, ("nodes",), ()),
    (("list", "watch"), CORE, ("pods",), ()),
}
RIGHTS: dict[str, set[Rule]] = {
    SYSTEM_NAMESPACE: READ_NODES_AND_PODS
    | {
        (("list", "watch"), CORE, ("configmaps",), (CATALOG_CONFIG_MAP,)),
        (("create", "patch"), CORE, ("configmaps",), ()),
    },
    CREDENTIALS_NAMESPACE: READ_NODES_AND_PODS | {(("get",), CORE, ("secrets",), ())},
    "default": READ_NODES_AND_PODS | {(("create",), ("events.k8s.io",), ("events",), ())},
    "kube-system": READ_NODES_AND_PODS,
}


@pytest.mark.parametrize("name", ALLOWED)
def test_an_agent_may_do_what_it_does(agent: Identity, name: str) -> None:
    method, path, body, content_type = ALLOWED[name]
    answer = agent.ask(method, path, body, content_type)
    assert answer.status in {200, 201}, answer.message


def test_an_agent_may_read_a_secret_of_the_credentials(agent: Identity, admin: KubeClient) -> None:
    name = f"hf-{agent.node}"
    admin.create(CREDENTIALS, {"metadata": {"name": name}, "data": {}})
    try:
        assert agent.ask("GET", f"{CREDENTIALS}/{name}").status == 200
    finally:
        admin.delete(f"{CREDENTIALS}/{name}")


@pytest.mark.parametrize("name", DENIED)
def test_the_policy_refuses_in_our_words(agent: Identity, name: str) -> None:
    method, path, body, content_type, words = DENIED[name]
    dry = f"{path}{'&' if '?' in path else '?'}dryRun=All"
    answer = agent.ask(method, dry, body, content_type)
    expected = words.replace("OWN", agent.node).replace("OTHER", agent.other)
    assert answer.status == 403
    assert "larder: the agent" in answer.message
    assert expected in answer.message


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_role_gives(agent: Identity, name: str) -> None:
    method, path = FORBIDDEN[name]
    answer = agent.try_to(method, path)
    assert answer.status == 403, answer.message
    assert "larder:" not in answer.message


@pytest.mark.parametrize(
    ("path", "body"), [(OWN_NODE, OURS), (OWN_REPORT, config_map("larder-node-OWN"))]
)
def test_a_token_that_is_bound_to_no_pod_writes_nothing(
    unbound: Identity, path: str, body: dict[str, Any]
) -> None:
    query = f"{path}{DRY_RUN}&fieldManager=larder-agent"
    kind = {"apiVersion": "v1", "kind": "Node", **body}
    kind["metadata"] = {"name": "OWN", **body["metadata"]}
    answer = unbound.ask("PATCH", query, kind, APPLY_PATCH)
    assert (answer.status, "not bound to a pod" in answer.message) == (403, True), answer.message


def test_an_admin_is_not_held_by_the_policy(unbound: Identity, admin: KubeClient) -> None:
    admin.patch(f"{NODES}/{unbound.other}", {"metadata": {"labels": {SLOT_LABEL: "x"}}})


@pytest.mark.parametrize("namespace_name", RIGHTS)
def test_the_account_has_these_rights_and_no_more(
    accounts: Accounts, agent: Identity, namespace_name: str
) -> None:
    nobody = accounts.identity("default", agent.node, agent.other, None)
    assert rights(agent, namespace_name) - rights(nobody, namespace_name) == RIGHTS[namespace_name]


def test_an_agent_with_these_rights_fills_reports_and_evicts(
    accounts: Accounts, admin: KubeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = Repo(dict(FILES), private=True, tokens=("hf_secret",))
    with Hub({"acme/a": repo}) as hub:
        cluster = Cluster(admin, hub, tmp_path)
        cluster.catalog("[]")
        identity, pod = accounts.agent_on(cluster.node, "another")
        name = f"hf-{cluster.node}"
        data = {"HF_TOKEN": base64.b64encode(b"hf_secret").decode()}
        admin.create(CREDENTIALS, {"metadata": {"name": name}, "data": data})
        own = identity.kubeconfig(tmp_path / "kubeconfig", accounts.config)
        monkeypatch.setenv("KUBECONFIG", str(own))
        process = cluster.agent()
        try:
            cluster.catalog(cluster.entry(f", credentials: {{secretName: {name}}}"))
            until(lambda: cluster.labels() == {f"model.larder.dev/{cluster.key}": "ready"}, "label")
            until(lambda: cluster.state() == "Ready", "no report")
            cluster.catalog("[]", defaults="{unlistedTTL: 0s}")
            until(lambda: (r := cluster.report()) is not None and not r.models[0].name, "listed")
            cluster.catalog("[]", defaults="{unlistedTTL: 0s, joinTimeout: 1m}")  # look again now
            until(lambda: not cluster.content.exists(), "never evicted")
            until(lambda: cluster.labels() == {}, "label stays")
        finally:
            process.terminate()
            ended = process.wait(30)
            admin.delete(f"{CREDENTIALS}/{name}")
            admin.delete(pod, options={"gracePeriodSeconds": 0})
            cluster.close()
    assert ended == 0
    assert "not allowed" not in cluster.log()
