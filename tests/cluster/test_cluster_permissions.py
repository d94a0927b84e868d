"""What the service account of the agent may do in a cluster, and that it may no more."""

import base64
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
    LIST_CATALOG,
    NODES,
    PODS,
    SECRETS,
    Accounts,
    Identity,
    Rule,
    event,
    events_path,
)
from tests.cluster.test_cluster_agent import FILES, Cluster, until

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
SLOT_LABEL = "model.larder.dev/0123456789abcdef"


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}


OWN_NODE = f"{NODES}/{{node}}"
OWN_REPORT = f"{CONFIG_MAPS}/larder-node-{{node}}"
OTHER_REPORT = f"{CONFIG_MAPS}/larder-node-{{other}}"
OURS = {"metadata": {"labels": {SLOT_LABEL: "ready"}}}

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
    "listing the catalog": ("GET", LIST_CATALOG, None, JSON),
    "an Event about the own node": (
        "POST",
        events_path("default"),
        event("Node", "OWN", "default"),
        JSON,
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


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_role_gives(agent: Identity, name: str) -> None:
    method, path = FORBIDDEN[name]
    answer = agent.try_to(method, path)
    assert answer.status == 403, answer.message
    assert "larder:" not in answer.message


@pytest.mark.parametrize("namespace_name", RIGHTS)
def test_the_account_has_these_rights_and_no_more(
    accounts: Accounts, agent: Identity, namespace_name: str
) -> None:
    assert accounts.rights_of(agent, namespace_name) == RIGHTS[namespace_name]


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
