"""Who asks the API server in the tests of permissions: tokens of service accounts, their rights.

The install stays after the tests: it is the same every time, and a namespace that is going would
fail the tests after these.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.kube.client import JSON, MERGE_PATCH, KubeClient
from runtime.kube.paths import collection_path, object_path
from tests.fakes.kubeconfig import write_kubeconfig

AGENT, WEBHOOK, CONTROLLER = "larder-agent", "larder-webhook", "larder-controller"
NODES = collection_path("v1", "nodes")
PODS = collection_path("v1", "pods", namespace=SYSTEM_NAMESPACE)
CONFIG_MAPS = collection_path("v1", "configmaps", namespace=SYSTEM_NAMESPACE)
SECRETS = collection_path("v1", "secrets", namespace=SYSTEM_NAMESPACE)
CREDENTIALS = collection_path("v1", "secrets", namespace=CREDENTIALS_NAMESPACE)
DRY_RUN = "?dryRun=All"  # admission as ever, nothing kept
WATCH = "?watch=1&timeoutSeconds=1"
LIST_CATALOG = f"{CONFIG_MAPS}?fieldSelector=metadata.name%3D{CATALOG_CONFIG_MAP}"

Rule = tuple[tuple[str, ...], ...]  # verbs, groups, resources, names


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
        first, *_ = answer.data.splitlines() or [b"{}"]  # a watch has a line an object
        return Answer(answer.status, json.loads(first))

    def try_to(self, method: str, path: str) -> Answer:
        """Try something without a change: what no role gives is refused before it is looked at."""
        dry = path if method == "GET" else f"{path}{DRY_RUN}"
        content_type = MERGE_PATCH if method == "PATCH" else JSON
        return self.ask(
            method, dry, {} if method in {"PATCH", "POST", "PUT"} else None, content_type
        )

    def does(self, method: str, path: str) -> Answer:
        """Do what a program does, without a change."""
        if method == "PATCH":
            return self.ask(method, f"{path}{DRY_RUN}", {}, MERGE_PATCH)
        return self.ask(method, path)

    def tells_of_the_catalog(self) -> Answer:
        """Write an Event about the catalog, without a change."""
        about = event("ConfigMap", CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE)
        about["regarding"]["namespace"] = SYSTEM_NAMESPACE
        return self.ask("POST", f"{events_path(SYSTEM_NAMESPACE)}{DRY_RUN}", about)

    def written(self, body: object) -> str:
        return json.dumps(body).replace("OWN", self.node).replace("OTHER", self.other)

    def kubeconfig(self, path: Path, admin: Mapping[str, Any]) -> Path:
        return write_kubeconfig(path, admin["clusters"][0]["cluster"], self.token)


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

    def rights_of(self, identity: Identity, namespace_name: str) -> set[Rule]:
        """What somebody may in a namespace beyond what every account may."""
        nobody = self.identity("default", identity.node, identity.other, None)
        return rights(identity, namespace_name) - rights(nobody, namespace_name)

    def agent_on(self, node: str, other: str) -> tuple[Identity, str]:
        """An agent with a token bound to a pod on a node, and the path of the pod."""
        spec = {
            "nodeName": node,
            "serviceAccountName": AGENT,
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
        return self.identity(AGENT, node, other, bound), f"{PODS}/{metadata['name']}"


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
        tuple(parts(rule, name) for name in ("verbs", "apiGroups", "resources", "resourceNames"))
        for rule in status["resourceRules"]
    }
    return of_resources | {
        (parts(rule, "verbs"), (), parts(rule, "nonResourceURLs"), ())
        for rule in status["nonResourceRules"]
    }


def parts(rule: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(sorted(rule.get(name) or ()))


def events_path(namespace: str) -> str:
    return collection_path("events.k8s.io/v1", "events", namespace=namespace)


def event(kind: str, name: str, namespace: str) -> dict[str, Any]:
    """An Event about something, of the least that the API takes."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"larder-test-{uuid.uuid4().hex[:8]}", "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "larder.dev/test",
        "reportingInstance": "test",
        "action": "Test",
        "reason": "Test",
        "type": "Normal",
        "regarding": {"apiVersion": "v1", "kind": kind, "name": name},
    }
