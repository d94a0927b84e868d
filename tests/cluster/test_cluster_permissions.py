"""What the service account of the agent may do in a real cluster, and how it is refused the rest.

The install stays after the tests: it is the same every time, and a namespace that is going would
fail the tests after these.
"""

import base64
import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from demo.hub import Hub, Repo
from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.kube.client import APPLY_PATCH, JSON, MERGE_PATCH, KubeClient
from runtime.kube.paths import collection_path, object_path
from tests.cluster.test_cluster_agent import FILES, Cluster, until

BASE = Path(__file__).parents[2] / "deploy/base"
ACCOUNT = "larder-agent"
NODES = collection_path("v1", "nodes")
PODS = collection_path("v1", "pods", namespace=SYSTEM_NAMESPACE)
CONFIG_MAPS = collection_path("v1", "configmaps", namespace=SYSTEM_NAMESPACE)
SECRETS = collection_path("v1", "secrets", namespace=CREDENTIALS_NAMESPACE)
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
SLOT_LABEL = "model.larder.dev/0123456789abcdef"
DRY_RUN = "?dryRun=All"  # admission as ever, nothing kept

Rule = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # verbs, resources, names


@dataclass(frozen=True)
class Answer:
    status: int
    body: Mapping[str, Any]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Identity:
    """Somebody with a token, and one node of theirs beside one that is not."""

    pool: urllib3.PoolManager
    server: str
    token: str = field(repr=False)
    node: str
    other: str

    def ask(self, method: str, path: str, body: object = None, content_type: str = JSON) -> Answer:
        answer = self.pool.request(
            method,
            self.server + path.format(node=self.node, other=self.other),
            body=None if body is None else self.written(body),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": content_type},
            retries=False,
        )
        return Answer(answer.status, answer.json())

    def written(self, body: object) -> str:
        return json.dumps(body).replace("OWN", self.node).replace("OTHER", self.other)

    def kubeconfig(self, path: Path, admin: Mapping[str, Any]) -> Path:
        user = {"name": "agent", "user": {"token": self.token}}
        context = {"name": "agent", "context": {"cluster": "lab", "user": "agent"}}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": admin["clusters"][0]["cluster"]}],
            "users": [user],
            "contexts": [context],
            "current-context": "agent",
        }
        path.write_text(yaml.safe_dump(content))
        return path


@dataclass(frozen=True)
class Accounts:
    """The tokens of service accounts, asked for as the kubelet does, or unlike it."""

    admin: KubeClient
    config: Mapping[str, Any]
    ca: Path

    def identity(
        self, name: str, node: str, other: str, bound: Mapping[str, Any] | None
    ) -> Identity:
        spec = {"boundObjectRef": bound} if bound else {}
        account = object_path("v1", "serviceaccounts", name, namespace=SYSTEM_NAMESPACE)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        token = self.admin.create(f"{account}/token", request)["status"]["token"]
        pool = urllib3.PoolManager(ca_certs=str(self.ca))
        return Identity(pool, self.config["clusters"][0]["cluster"]["server"], token, node, other)

    def agent_on(self, node: str, other: str) -> tuple[Identity, str]:
        """An agent with a token bound to a pod on a node, and the path of the pod."""
        spec = {
            "nodeName": node,
            "serviceAccountName": ACCOUNT,
            "containers": [{"name": "agent", "image": "none"}],
            "terminationGracePeriodSeconds": 0,
        }
        pod = self.admin.create(PODS, {"metadata": {"name": f"agent-of-{node}"}, "spec": spec})
        metadata = pod["metadata"]
        bound = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        return self.identity(ACCOUNT, node, other, bound), f"{PODS}/{metadata['name']}"


@pytest.fixture(scope="module")
def accounts(admin: KubeClient, tmp_path_factory: pytest.TempPathFactory) -> Accounts:
    """Larder's base, installed."""
    subprocess.run(  # noqa: S603 - ours
        ["kubectl", "apply", "--server-side", "-k", str(BASE)],  # noqa: S607 - the one on the PATH
        check=True,
        stdout=subprocess.DEVNULL,
    )
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    inline = base64.b64decode(cluster.get("certificate-authority-data", ""))
    ca = tmp_path_factory.mktemp("ca") / "ca.crt"
    ca.write_bytes(inline or Path(cluster["certificate-authority"]).read_bytes())
    return Accounts(admin, config, ca)


@pytest.fixture(scope="module")
def nodes(admin: KubeClient) -> Iterator[tuple[str, str]]:
    """Two nodes made by hand."""
    names = [f"larder-test-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        metadata = {"name": name, "labels": {"gpu": "h100"}, "annotations": {"owner": "admin"}}
        admin.create(NODES, {"metadata": metadata})
    yield names[0], names[1]
    for name in names:
        admin.delete(f"{NODES}/{name}")


@pytest.fixture(scope="module")
def unbound(accounts: Accounts, nodes: tuple[str, str]) -> Identity:
    """The account with a token that is bound to no pod. The policy is in force from here on."""
    identity = accounts.identity(ACCOUNT, *nodes, None)

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
}
# What no role gives: (method, path).
FORBIDDEN = {
    "Secrets of Larder's namespace": (
        "GET",
        SECRETS.replace(CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE),
    ),
    "Secrets of the whole cluster": ("GET", "/api/v1/secrets"),
    "a list of the credentials": ("GET", SECRETS),
    "a Secret of kube-system": ("GET", "/api/v1/namespaces/kube-system/secrets/x"),
    "other ConfigMaps": ("GET", CONFIG_MAPS),
    "the report of another node": ("GET", OTHER_REPORT),
    "deleting the own report": ("DELETE", OWN_REPORT),
    "deleting the own node": ("DELETE", OWN_NODE),
    "deleting a pod": ("DELETE", f"{PODS}/x"),
    "making a pod": ("POST", PODS),
    "a token of its account": (
        "POST",
        f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts/{ACCOUNT}/token",
    ),
    "the status of the own node": ("PATCH", f"{OWN_NODE}/status"),
    "ConfigMaps elsewhere": ("POST", CONFIG_MAPS.replace(SYSTEM_NAMESPACE, "default")),
    "its policy": (
        "DELETE",
        f"{POLICIES}/larder-agent-own-node-only",
    ),
}

# All that the account has beyond what every account has: by namespace.
READ_NODES_AND_PODS: set[Rule] = {
    (("list", "patch", "watch"), ("nodes",), ()),
    (("list", "watch"), ("pods",), ()),
}
RIGHTS: dict[str, set[Rule]] = {
    SYSTEM_NAMESPACE: READ_NODES_AND_PODS
    | {
        (("list", "watch"), ("configmaps",), (CATALOG_CONFIG_MAP,)),
        (("create", "patch"), ("configmaps",), ()),
    },
    CREDENTIALS_NAMESPACE: READ_NODES_AND_PODS | {(("get",), ("secrets",), ())},
    "default": READ_NODES_AND_PODS,
    "kube-system": READ_NODES_AND_PODS,
}


@pytest.mark.parametrize("name", ALLOWED)
def test_an_agent_may_do_what_it_does(agent: Identity, name: str) -> None:
    method, path, body, content_type = ALLOWED[name]
    answer = agent.ask(method, path, body, content_type)
    assert answer.status in {200, 201}, answer.message


def test_an_agent_may_read_a_secret_of_the_credentials(agent: Identity, admin: KubeClient) -> None:
    name = f"hf-{agent.node}"
    admin.create(SECRETS, {"metadata": {"name": name}, "data": {}})
    try:
        assert agent.ask("GET", f"{SECRETS}/{name}").status == 200
    finally:
        admin.delete(f"{SECRETS}/{name}")


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
    dry = path if method == "GET" else f"{path}{DRY_RUN}"
    content_type = MERGE_PATCH if method == "PATCH" else JSON
    answer = agent.ask(method, dry, {} if method in {"PATCH", "POST"} else None, content_type)
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


def rights(identity: Identity, namespace_name: str) -> set[Rule]:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace_name},
    }
    answer = identity.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    status = answer.body["status"]
    assert not status["incomplete"]
    of_resources = {
        (parts(rule, "verbs"), parts(rule, "resources"), parts(rule, "resourceNames"))
        for rule in status["resourceRules"]
    }
    return of_resources | {
        (parts(rule, "verbs"), parts(rule, "nonResourceURLs"), ())
        for rule in status["nonResourceRules"]
    }


def parts(rule: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(sorted(rule.get(name) or ()))


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
        admin.create(SECRETS, {"metadata": {"name": name}, "data": data})
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
            admin.delete(f"{SECRETS}/{name}")
            admin.delete(pod, options={"gracePeriodSeconds": 0})
            cluster.close()
    assert ended == 0
    assert "not allowed" not in cluster.log()
