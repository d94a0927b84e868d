"""What the policy refuses to somebody with an agent's token, and would not without it."""

from typing import Any

import pytest

from larder.contract import CATALOG_CONFIG_MAP, CATALOG_DATA_KEY
from runtime.kube.client import APPLY_PATCH, JSON, MERGE_PATCH, KubeClient
from tests.cluster.accounts import (
    AGENT,
    CONFIG_MAPS,
    DRY_RUN,
    NODES,
    SECRETS,
    Accounts,
    Answer,
    Identity,
    event,
    events_path,
)
from tests.cluster.claims import goes_through, is_refused, taken_away
from tests.cluster.test_cluster_permissions import (
    OTHER_REPORT,
    OURS,
    OWN_NODE,
    OWN_REPORT,
    SLOT_LABEL,
    config_map,
)
from tests.controller.conftest import until
from webhook.certificates import SECRET

POLICY = "larder-agent-own-node-only"
OTHER_NODE = f"{NODES}/{{other}}"
NOT_OURS = "may not change node 'OTHER'"
ONLY_OWN = "only 'larder-node-OWN'"
ABOUT_OWN = "may write Events about that node alone"
MAP = {"data": {"a": "c"}}
GOOD_CATALOG = "apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels: []\n"


def labels(**changed: str | None) -> dict[str, Any]:
    return {"metadata": {"labels": changed}}


# What RBAC lets through: (method, path, body, content type, our words).
ATTACKS = {
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
        config_map(CATALOG_CONFIG_MAP) | {"data": {CATALOG_DATA_KEY: GOOD_CATALOG}},
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


def attack(agent: Identity, name: str) -> Answer:
    """Try it, without a change."""
    method, path, body, content_type, _ = ATTACKS[name]
    dry = f"{path}{'&' if '?' in path else '?'}dryRun=All"
    return agent.ask(method, dry, body, content_type)


@pytest.fixture
def policy_holds(agent: Identity) -> None:
    """It is in force, after whoever took it away brought it back."""
    another = "a label of ours on another node"
    until(lambda: is_refused(attack(agent, another)), "the policy is not in force")


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("policy_holds")
def test_an_agents_token_does_not_change(agent: Identity, name: str) -> None:
    answer = attack(agent, name)
    expected = ATTACKS[name][-1].replace("OWN", agent.node).replace("OTHER", agent.other)
    assert (answer.status, "larder: the agent" in answer.message) == (403, True), answer.message
    assert expected in answer.message


def test_without_its_policy_an_agents_token_would_change_each_of_these(
    admin: KubeClient, agent: Identity
) -> None:
    with taken_away(admin, POLICY):
        for name in ATTACKS:
            goes_through(lambda n=name: attack(agent, n))


def test_the_certificates_are_no_matter_of_a_policy(admin: KubeClient, agent: Identity) -> None:
    with taken_away(admin, POLICY):
        goes_through(lambda: attack(agent, "a label of ours on another node"))
        for method in ("GET", "PATCH", "DELETE"):
            answer = agent.try_to(method, f"{SECRETS}/{SECRET}")
            assert (answer.status, "larder:" in answer.message) == (403, False), answer.message


@pytest.fixture
def unbound(accounts: Accounts, nodes: tuple[str, str]) -> Identity:
    """The account with a token that is bound to no pod."""
    return accounts.identity(AGENT, *nodes, None)


@pytest.mark.parametrize(
    ("path", "body"), [(OWN_NODE, OURS), (OWN_REPORT, config_map("larder-node-OWN"))]
)
@pytest.mark.usefixtures("policy_holds")
def test_a_token_that_is_bound_to_no_pod_writes_nothing(
    unbound: Identity, path: str, body: dict[str, Any]
) -> None:
    query = f"{path}{DRY_RUN}&fieldManager=larder-agent"
    kind = {"apiVersion": "v1", "kind": "Node", **body}
    kind["metadata"] = {"name": "OWN", **body["metadata"]}
    answer = unbound.ask("PATCH", query, kind, APPLY_PATCH)
    assert (answer.status, "not bound to a pod" in answer.message) == (403, True), answer.message


@pytest.mark.usefixtures("policy_holds")
def test_an_admin_is_not_held_by_the_policy(unbound: Identity, admin: KubeClient) -> None:
    admin.patch(f"{NODES}/{unbound.other}", {"metadata": {"labels": {SLOT_LABEL: "x"}}})
