"""An install as `larder doctor` finds it: everything that is shipped, healthy, on two nodes."""

import base64
import datetime as dt
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from cli_cases import Run, larder

from certs.authority import Material, bundle_of, make_authority, make_leaf, write_material
from larder.catalog import read_catalog
from larder.claims import LABELS, Claim
from larder.layout import Key
from larder.node_report import COMPONENT, ModelReport, NodeReport, config_map_name
from larder.status import ModelState
from tests.deploy.shipped import INSTALLED
from tests.runtime.kube.api_server import _KINDS, ApiServer
from webhook.certificates import ENDPOINTS

SYSTEM = "larder-system"
PATH = "a" * 48
KINDS = ("mutating", "validating")
COMMIT = "c" * 40
CATALOG = f"""
apiVersion: larder.dev/v1alpha1
kind: Catalog
nodeGroups:
- {{name: big, nodeSelector: {{matchLabels: {{size: big}}}}, budget: 1Gi}}
models:
- name: llama
  storageUri: hf://org/llama
  revision: {COMMIT}
  namespaces: [chat]
  credentials: {{secretName: hf-token}}
- {{name: vast, storageUri: s3://models/vast, namespaces: [search], nodeGroups: [big]}}
"""
LLAMA, VAST = (m.key for m in read_catalog(CATALOG.encode(), standalone=False).models)
NOW = dt.datetime(2026, 2, 28, 12, 0, tzinfo=dt.UTC)
NAMES = ["larder-webhook.larder-system.svc"]
PLURALS = {kind: plural for plural, kind in _KINDS.items()}


def ready(key: Key, name: str, revision: str = COMMIT) -> ModelReport:
    return ModelReport(key, name, ModelState.READY, revision=revision, bytes_total=1, bytes_done=1)


def written(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Install:
    """Changes of it are made in place: `server.world.objects` by plural, namespace and name."""

    def __init__(self, server: ApiServer, kubeconfig: Path) -> None:
        self.server = server
        self.kubeconfig = kubeconfig
        self.material = self.new_material(NOW)
        server.discovery["/version"] = {"gitVersion": "v1.34.1"}
        for content in INSTALLED:
            if content["kind"] in PLURALS:
                self.put(content["kind"], deepcopy(content))
        self._work()
        self._serve()
        self._nodes()
        self.catalog(CATALOG)
        self.namespaces()
        self.kserve()

    # --- making it ---------------------------------------------------------------------------

    def put(self, kind: str, content: Any) -> Any:
        metadata = {"namespace": "", **content["metadata"]}
        if PLURALS[kind] in {"namespaces", "nodes"} or "Webhook" in kind or "Policy" in kind:
            metadata.pop("namespace")
        content = {**content, "metadata": metadata}
        content.pop("kind", None)
        return self.server.add(metadata["name"], PLURALS[kind], **content)

    def the(self, plural: str, name: str, namespace: str = SYSTEM) -> Any:
        return self.server.world.objects[plural, namespace, name]

    def remove(self, plural: str, name: str, namespace: str = SYSTEM) -> None:
        del self.server.world.objects[plural, namespace, name]

    def run_with(self, plural: str, name: str, *arguments: str) -> None:
        """A program of the install is given these arguments."""
        (container,) = self.the(plural, name)["spec"]["template"]["spec"]["containers"]
        container["args"] = list(arguments)

    def new_material(self, now: dt.datetime) -> Material:
        authority = make_authority(now)
        return Material((authority,), None, make_leaf(authority, NAMES, now), PATH)

    def _work(self) -> None:
        for name in ("larder-webhook", "larder-controller"):
            self.the("deployments", name)["status"] = {"readyReplicas": 2}
        status = {"desiredNumberScheduled": 2, "numberReady": 2}
        self.the("daemonsets", "larder-agent")["status"] = status
        spec = {"holderIdentity": "x", "renewTime": written(NOW)}
        self.the("leases", "larder-controller")["spec"] = spec
        for (plural, _, _), content in self.server.world.objects.items():
            if plural == "validatingadmissionpolicies":
                content["metadata"]["generation"] = 1
                content["status"] = {"observedGeneration": 1, "typeChecking": {}}

    def _serve(self) -> None:
        self.certify(self.material)
        for hook in self._hooks():
            hook["clientConfig"]["service"]["path"] = f"/{PATH}{ENDPOINTS[hook['name']]}"

    def configuration(self, kind: str) -> Any:
        return self.the(f"{kind}webhookconfigurations", "larder.dev", "")

    def _hooks(self) -> list[Any]:
        return [hook for kind in KINDS for hook in self.configuration(kind)["webhooks"]]

    def certify(self, material: Material) -> None:
        """What a turn of the webhook's leaves: the Secret, and its bundle in the configurations."""
        self.secret(material)
        self.publish(material)

    def publish(self, material: Material) -> None:
        bundle = base64.b64encode(bundle_of(material.authorities)).decode()
        for hook in self._hooks():
            hook["clientConfig"]["caBundle"] = bundle

    def secret(self, material: Material) -> None:
        data = {k: base64.b64encode(v).decode() for k, v in write_material(material).items()}
        self.the("secrets", "larder-webhook-certificates")["data"] = data

    def _nodes(self) -> None:
        self.node("gpu-1", ready(LLAMA, "llama"))
        self.node("gpu-2", ready(LLAMA, "llama"), ready(VAST, "vast"), size="big")

    def node(self, name: str, *models: ModelReport, **labels: str) -> None:
        labels = {"kserve/localmodel": "worker", **labels}
        self.put("Node", {"metadata": {"name": name, "labels": labels}})
        self.agent(name)
        self.report(NodeReport(name, 2**30, 1, 2**30, 2**30, models=models))

    def agent(self, node: str, *, is_ready: bool = True, waiting: str = "") -> None:
        metadata = {
            "name": f"larder-agent-{node}",
            "namespace": SYSTEM,
            "labels": {"app.kubernetes.io/name": "larder-agent"},
        }
        state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
        status = {
            "conditions": [{"type": "Ready", "status": str(is_ready)}],
            "containerStatuses": [{"name": "agent", "state": state}],
        }
        content = {"metadata": metadata, "spec": {"nodeName": node}, "status": status}
        self.put("Pod", content)

    def report(self, report: NodeReport, at: dt.datetime = NOW, name: str = "") -> None:
        metadata = {
            "name": name or config_map_name(report.node),
            "namespace": SYSTEM,
            "labels": dict([COMPONENT]),
            "managedFields": [{"manager": "larder-agent", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}],
        }
        self.put("ConfigMap", {"metadata": metadata, "data": {"report.json": report.text()}})

    def catalog(self, document: str) -> None:
        metadata = {"name": "larder-catalog", "namespace": SYSTEM}
        self.put("ConfigMap", {"metadata": metadata, "data": {"catalog.yaml": document}})

    def namespaces(self) -> None:
        self.namespace("chat", **{"larder.dev/volume": "hostPath"})
        self.namespace("search", **{"pod-security.kubernetes.io/enforce": "restricted"})
        self.claim(Claim("search", VAST))
        secret = {"metadata": {"name": "hf-token", "namespace": "larder-credentials"}}
        self.put("Secret", secret | {"data": {"HF_TOKEN": "c2VjcmV0"}})

    def namespace(self, name: str, **labels: str) -> None:
        self.put("Namespace", {"metadata": {"name": name, "labels": labels}})

    def claim(self, claim: Claim, phase: str = "Bound", **metadata: object) -> None:
        named = {"name": claim.name, "namespace": claim.namespace, "labels": dict(LABELS)}
        spec = {"volumeName": claim.volume_name, "accessModes": ["ReadOnlyMany"]}
        content = {"metadata": named | metadata, "spec": spec, "status": {"phase": phase}}
        self.put("PersistentVolumeClaim", content)

    def kserve(self, name: str = "inferenceservice.serving.kserve.io") -> None:
        version = {"groupVersion": "serving.kserve.io/v1beta1", "version": "v1beta1"}
        self.server.discovery["/apis/serving.kserve.io"] = {"versions": [version]}
        resources = {"resources": [{"name": "inferenceservices"}]}
        self.server.discovery["/apis/serving.kserve.io/v1beta1"] = resources
        webhooks = [{"name": "pods", "rules": [{"resources": ["pods"]}]}]
        content = {"metadata": {"name": name}, "webhooks": webhooks}
        self.put("MutatingWebhookConfiguration", content)

    # --- looking at it -----------------------------------------------------------------------

    def doctor(self, *more: object) -> Run:
        return larder("doctor", "--kubeconfig", self.kubeconfig, *more)

    def found(self, check: str = "") -> list[Any]:
        """What is not ok, or what a check says."""
        findings = self.doctor("-o", "json").json["findings"]
        if check:
            return [f for f in findings if f["check"] == check]
        return [f for f in findings if f["verdict"] != "ok"]


Spoil = Callable[["Install"], object]
Expected = list[tuple[str, str, str]]  # check, verdict, words of the sentence


def check_found(install: Install, spoil: Spoil, expected: Expected) -> None:
    """Spoil an install; nothing but the expected is found then, each with a cure."""
    spoil(install)
    found = [f for f in install.found() if f["verdict"] != "not checked"]
    unchecked = [f for f in install.found() if f["verdict"] == "not checked"]
    wanted = [e for e in expected if e[1] != "not checked"]
    assert [(f["check"], f["verdict"]) for f in found] == [e[:2] for e in wanted]
    for finding, (_, _, words) in zip(found, wanted, strict=True):
        assert words in finding["sentence"], finding["sentence"]
        assert finding["cure"]
    assert {e[0] for e in expected if e[1] == "not checked"} <= {f["check"] for f in unchecked}
