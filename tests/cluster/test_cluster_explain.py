"""`/explain` in a real cluster: tokens, rights and pods are those of a real API server.

The webhook is asked as a portal in the cluster would ask, and runs with the token of its own
service account, so that it has the rights of the install and no more.
"""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.accounts import WEBHOOK, Accounts
from tests.cluster.test_cluster_agent import until
from webhook.certificates import SECRET
from webhook.events import REPORTING_CONTROLLER

pytestmark = pytest.mark.usefixtures("catalog")
pytest_plugins = ["tests.webhook.conftest"]  # the real process, the recorded reviews

RBAC = "rbac.authorization.k8s.io/v1"
OTHERS = "hf://org/secret"
CATALOG = """
apiVersion: larder.dev/v1alpha1
kind: Catalog
models:
- {{name: qwen, storageUri: "hf://Qwen/Qwen2-0.5B-Instruct", revision: main, namespaces: [{0}]}}
- {{name: hush, storageUri: "hf://org/secret", revision: main, namespaces: [others-{0}]}}
"""


@dataclass(frozen=True)
class Cluster:
    """A namespace with a pod, people with tokens, and a webhook that they ask."""

    webhook: Any
    namespace: str
    tokens: dict[str, str] = field(repr=False)

    def ask(self, who: str, question: object) -> tuple[int, str]:
        connection = self.webhook.connect()
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        connection.request("POST", "/explain", json.dumps(question), headers)
        response = connection.getresponse()
        answer = response.status, response.read().decode()
        connection.close()
        return answer

    def named(self, name: str) -> dict[str, str]:
        return {"namespace": self.namespace, "pod": name}


def account(
    admin: KubeClient, namespace: str, name: str, *grants: tuple[str, dict[str, Any]]
) -> str:
    """The token of a service account that has these rights: the namespace, and a rule there."""
    accounts = collection_path("v1", "serviceaccounts", namespace=namespace)
    admin.create(accounts, {"metadata": {"name": name}})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    for place, rule in grants:
        metadata = {"name": f"{namespace}-{name}"}
        roles = collection_path(RBAC, "roles", namespace=place)
        admin.create(roles, {"metadata": metadata, "rules": [rule]})
        ref = {"apiGroup": RBAC.partition("/")[0], "kind": "Role", "name": metadata["name"]}
        bindings = collection_path(RBAC, "rolebindings", namespace=place)
        admin.create(bindings, {"metadata": metadata, "roleRef": ref, "subjects": [subject]})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return str(admin.create(f"{accounts}/{name}/token", request)["status"]["token"])


@pytest.fixture
def tokens(admin: KubeClient, namespace: str) -> Iterator[dict[str, str]]:
    pods = {"apiGroups": [""], "resources": ["pods"]}
    reads, makes = pods | {"verbs": ["get"]}, pods | {"verbs": ["get", "create"]}
    catalog = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [CATALOG_CONFIG_MAP],
        "verbs": ["get"],
    }
    yield {
        "nobody": "none",
        "stranger": account(admin, namespace, "stranger"),
        "viewer": account(admin, namespace, "viewer", (namespace, reads)),
        "tenant": account(admin, namespace, "tenant", (namespace, makes)),
        "operator": account(
            admin, namespace, "operator", (namespace, makes), (SYSTEM_NAMESPACE, catalog)
        ),
    }
    for plural in ("rolebindings", "roles"):
        name = f"{namespace}-operator"
        admin.delete(object_path(RBAC, plural, name, namespace=SYSTEM_NAMESPACE))


@pytest.fixture
def make_pod(
    admin: KubeClient, namespace: str, review: Callable[[str], Any]
) -> Callable[[str, str], Any]:
    """A pod of KServe's that no node takes."""

    def make(name: str, uri: str) -> Any:
        made = review("hf-raw.after-kserve")["request"]["object"]
        spec = {
            "initContainers": made["spec"]["initContainers"],
            "containers": made["spec"]["containers"],
            "volumes": made["spec"]["volumes"],
            "nodeSelector": {"larder.dev/test": "none"},
            "automountServiceAccountToken": False,
        }
        spec["initContainers"][0]["args"][0] = uri
        token = next(v["name"] for v in spec["volumes"] if "projected" in v)
        for holder in (*spec["containers"], *spec["initContainers"]):
            holder["volumeMounts"] = [m for m in holder["volumeMounts"] if m["name"] != token]
        spec["volumes"] = [v for v in spec["volumes"] if v["name"] != token]
        metadata = {"name": name, "labels": made["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        admin.create(collection_path("v1", "pods", namespace=namespace), pod)
        return pod | {"metadata": metadata | {"namespace": namespace}}

    return make


@pytest.fixture
def catalog(accounts: Accounts, namespace: str) -> Iterator[None]:
    """A catalog for the namespace and for others; the one before it comes back."""
    admin = accounts.admin
    path = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE},
    }
    before = None
    with suppress(NotFoundError):
        before = admin.get(path)["data"]
    data = {"catalog.yaml": CATALOG.format(namespace)}
    admin.apply(path, content | {"data": data}, field_manager="admin")
    yield
    if before:
        admin.apply(path, content | {"data": before}, field_manager="admin")
    else:
        admin.delete(path)


@pytest.fixture
def cluster(
    accounts: Accounts, namespace: str, tokens: dict[str, str], start_webhook: Any, tmp_path: Path
) -> Iterator[Cluster]:
    labels = {"larder.dev/volume": "hostPath"}
    namespace_path = object_path("v1", "namespaces", namespace)
    accounts.admin.patch(namespace_path, {"metadata": {"labels": labels}})
    ours = accounts.identity(WEBHOOK, "", "", None)
    kubeconfig = ours.kubeconfig(tmp_path / "kubeconfig", accounts.config)
    webhook = start_webhook("--kubeconfig", str(kubeconfig), "--log-level", "debug")
    until(lambda: webhook.get("/readyz") == (200, "ok"), "the webhook is not ready")
    yield Cluster(webhook, namespace, tokens)
    assert webhook.stop() == 0


def test_everybody_is_told_what_they_may_see(
    cluster: Cluster, make_pod: Callable[[str, str], Any]
) -> None:
    make_pod("own", "hf://Qwen/Qwen2-0.5B-Instruct")
    make_pod("others", OTHERS)
    make_pod("nobodys", "hf://org/nowhere")
    for who in ("viewer", "tenant"):
        status, text = cluster.ask(who, cluster.named("own"))
        assert status == 200, text
        assert "entry qwen answers for it" in text
        hidden, missing = (cluster.ask(who, cluster.named(name)) for name in ("others", "nobodys"))
        assert (hidden[0], missing[0]) == (200, 200)
        as_if = missing[1].replace("nobodys", "others").replace("hf://org/nowhere", OTHERS)
        assert hidden[1].split() == as_if.split()
        assert hidden[1].startswith("ModelNotInCatalog\n")
    status, text = cluster.ask("operator", cluster.named("others"))
    assert status == 200, text
    assert text.startswith("NamespaceNotAllowed\n")
    assert f"it is for the namespaces others-{cluster.namespace}" in text


def test_who_may_not_is_told_which_right_it_takes(
    cluster: Cluster, make_pod: Callable[[str, str], Any]
) -> None:
    pod = make_pod("own", "hf://Qwen/Qwen2-0.5B-Instruct")
    assert cluster.ask("nobody", cluster.named("own")) == (
        401,
        "the API server does not accept the token\n",
    )
    for name in ("own", "missing"):
        status, text = cluster.ask("stranger", cluster.named(name))
        assert status == 403
        right = f"get pods {name} in namespace {cluster.namespace}"
        assert text == f"not allowed: it takes the right to {right}\n"
    assert cluster.ask("viewer", pod) == (
        403,
        f"not allowed: it takes the right to create pods in namespace {cluster.namespace}\n",
    )
    assert cluster.ask("tenant", cluster.named("missing")) == (
        404,
        f"pod/missing is not there in namespace {cluster.namespace}\n",
    )
    status, text = cluster.ask("tenant", pod)
    assert status == 200
    assert text.startswith("Cached\n")
    assert "+    larder.dev/decision: Cached" in text


def test_an_operator_is_told_what_the_command_line_says(
    cluster: Cluster, make_pod: Callable[[str, str], Any], tmp_path: Path
) -> None:
    for name, uri in (("own", "hf://Qwen/Qwen2-0.5B-Instruct"), ("others", OTHERS)):
        pod = make_pod(name, uri)
        catalog, file = tmp_path / "catalog.yaml", tmp_path / "pod.json"
        catalog.write_text(CATALOG.format(cluster.namespace))
        file.write_text(json.dumps(pod))
        words = ["explain", "-f", file, "--catalog", catalog, "--volumes", "ByNamespace"]
        words += ["--namespace-label", "larder.dev/volume=hostPath"]
        said = CliRunner().invoke(app, [str(word) for word in words]).stdout
        assert cluster.ask("operator", pod) == (200, said)


def test_a_dry_run_is_decided_by_the_webhook_and_counted_apart(
    cluster: Cluster, admin: KubeClient, review: Callable[[str], Any]
) -> None:
    secret = object_path("v1", "secrets", SECRET, namespace=SYSTEM_NAMESPACE)
    path = base64.b64decode(admin.get(secret)["data"]["path"]).decode()
    cluster.webhook.admission_path = f"/{path}"
    asked = review("hf-raw.after-kserve")
    asked["request"] |= {"namespace": cluster.namespace, "dryRun": True}
    before = told(admin)
    status, _ = cluster.webhook.post(json.dumps(asked).encode())
    assert status == 200
    assert "larder_webhook_dry_runs_total 1.0" in cluster.webhook.get("/metrics")[1]
    assert told(admin) == before


def told(admin: KubeClient) -> set[str]:
    """The Events of webhooks that are not about the catalog, which this test edits."""
    path = collection_path("events.k8s.io/v1", "events", namespace=SYSTEM_NAMESPACE)
    events = [
        e for e in admin.list(path).items if e.get("reportingController") == REPORTING_CONTROLLER
    ]
    return {e["metadata"]["name"] for e in events if e["regarding"]["name"] != CATALOG_CONFIG_MAP}
