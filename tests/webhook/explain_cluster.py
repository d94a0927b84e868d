"""A cluster for the tests of `/explain`: an API server that knows tokens and rights, and a state.

The state is what the webhook's watches would have made of the objects that are there.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from kubernetes.client.configuration import Configuration

from larder.catalog import read_catalog
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from larder.identity import identity_of
from larder.matching import CatalogIndex
from larder.node_facts import facts_of, ready_keys
from larder.node_report import COMPONENT, DATA_KEY, ModelReport, NodeReport, config_map_name
from larder.status import ModelState
from runtime.clock import SystemClock
from runtime.kube.client import KubeClient
from tests.runtime.kube.api_server import ApiServer, Fault, Handler
from webhook.explaining.explainer import Explainer
from webhook.mutation import VolumeMode
from webhook.state import State

RECORDED = Path(__file__).parents[1] / "recorded"
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
COMMIT = "c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
QWEN = identity_of("hf://Qwen/Qwen2-0.5B-Instruct", revision=COMMIT).key
SECRET = identity_of("hf://org/secret", revision="main").key
OURS = "token-of-the-webhook"
ADMIN, TENANT, STRANGER = "token-of-the-admin", "token-of-the-tenant", "token-of-a-stranger"
USERS = {ADMIN: "admin", TENANT: "tenant", STRANGER: "stranger"}
READS_CATALOG = ("admin", "get", "configmaps", SYSTEM_NAMESPACE, CATALOG_CONFIG_MAP)
LABELS = {"larder.dev/volume": "hostPath"}
READY = ModelReport(QWEN, "qwen", ModelState.READY, revision=COMMIT)
HEAD = "apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels:\n"
OWN_ENTRY = (
    f'- {{name: qwen, storageUri: "hf://Qwen/Qwen2-0.5B-Instruct", revision: {COMMIT},'
    " namespaces: [chat]}\n"
)
OTHERS_ENTRY = (
    '- {name: hush, storageUri: "hf://org/secret", revision: main, namespaces: [search]}\n'
)


def of_kserve(name: str = "qwen", uri: str = "") -> Any:
    """A pod as KServe made it."""
    pod = json.loads((RECORDED / "hf-raw.after-kserve.json").read_text())["request"]["object"]
    pod["metadata"] |= {"name": name, "namespace": "chat"}
    pod["spec"]["nodeName"] = "gpu-1"
    if uri:
        pod["spec"]["initContainers"][0]["args"][0] = uri
    return pod


class ExplainCluster:
    """One with namespace `chat`, whose catalog has an entry for it and one for others."""

    def __init__(self, server: ApiServer, within_seconds: float = 10.0) -> None:
        self.server = server
        self.rights = {READS_CATALOG}
        self.rights |= {(user, "create", "pods", "chat", "") for user in ("admin", "tenant")}
        self.state = State(PurePosixPath("/var/lib/larder"), VolumeMode.BY_NAMESPACE)
        self.state.namespaces = {"chat": LABELS}
        ours = Configuration(host=server.host, api_key={"authorization": f"Bearer {OURS}"})
        self.client = KubeClient(ours, program="larder-webhook")
        self.explainer = Explainer(self.client, self.state, SystemClock(), within_seconds)
        server.standing["POST", TOKEN_REVIEWS] = self._review_token
        server.standing["POST", ACCESS_REVIEWS] = self._review_access
        server.add("chat", "namespaces", metadata={"name": "chat", "labels": dict(LABELS)})
        self.catalog(HEAD + OWN_ENTRY + OTHERS_ENTRY)

    def catalog(self, document: str) -> None:
        self.state.index = CatalogIndex(read_catalog(document.encode(), standalone=False))
        metadata = {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE}
        self.server.add("x", metadata=metadata, data={"catalog.yaml": document})

    def pod(self, pod: Any) -> dict[str, str]:
        """A pod that is there, and the question about it."""
        name = pod["metadata"]["name"]
        self.rights |= {(user, "get", "pods", "chat", name) for user in ("admin", "tenant")}
        self.server.add("x", "pods", **pod)
        return {"namespace": "chat", "pod": name}

    def node(self, name: str, *models: ModelReport, labels: dict[str, str] | None = None) -> None:
        """A node that reports these; only the admin may read it."""
        content = {"metadata": {"name": name, "labels": labels or {}}, "spec": {}}
        self.server.add(name, "nodes", **content)
        self.server.standing["GET", f"/api/v1/nodes/{name}"] = only_for(ADMIN, content)
        report = NodeReport(name, models=models)
        metadata = {
            "name": config_map_name(name),
            "namespace": SYSTEM_NAMESPACE,
            "labels": dict([COMPONENT]),
        }
        self.server.add("x", metadata=metadata, data={DATA_KEY: report.text()})
        self.state.nodes = (*self.state.nodes, facts_of(report))
        self.state.ready = ready_keys(self.state.nodes)

    async def ask(self, token: str, question: object) -> tuple[str, str]:
        """The outcome and the text."""
        body = question if isinstance(question, bytes) else json.dumps(question).encode()
        answer = await self.explainer.answer(token, body)
        if answer.failure:
            raise answer.failure
        return answer.outcome.value, answer.text

    def asked_with(self, token: str) -> set[str]:
        """The paths that were asked for with a token."""
        return {
            seen.path
            for seen in self.server.seen
            if seen.headers.get("authorization") == f"Bearer {token}"
        }

    def _review_token(self, handler: Handler) -> None:
        spec = json.loads(handler.body)["spec"]
        user = USERS.get(spec["token"])
        found = {"username": user, "uid": f"uid-of-{user}", "groups": ["g"], "extra": {"k": ["v"]}}
        status = {"authenticated": True, "user": found} if user else {"authenticated": False}
        handler.answer(201, {"kind": "TokenReview", "status": status})

    def _review_access(self, handler: Handler) -> None:
        spec = json.loads(handler.body)["spec"]
        user, asked = spec["user"], spec["resourceAttributes"]
        is_whole = (spec["uid"], spec["groups"], spec["extra"]) == (
            f"uid-of-{user}",
            ["g"],
            {"k": ["v"]},
        )
        words = (asked[word] for word in ("verb", "resource", "namespace"))
        is_allowed = is_whole and (user, *words, asked.get("name", "")) in self.rights
        handler.answer(201, {"kind": "SubjectAccessReview", "status": {"allowed": is_allowed}})


def only_for(token: str, content: object) -> Fault:
    """Answers who brings this token, and refuses everybody else."""

    def answer(handler: Handler) -> None:
        if handler.headers.get("Authorization") == f"Bearer {token}":
            handler.answer(200, content)
        else:
            handler.refuse(403, "Forbidden")

    return answer
