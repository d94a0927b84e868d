"""Pods of the tests: predictors as a running KServe made one, and the demo's hub as a pod."""

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from larder.contract import DECISION_ANNOTATION, STORAGE_INITIALIZER
from larder.identity import identity_of
from larder.layout import Key
from runtime.kube.client import KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.node.node_cluster import is_ready, kubectl, require_images, until

RECORDED = Path(__file__).parents[2] / "recorded" / "hf-raw.after-kserve.json"
DEMO_IMAGE = "larder-demo:0.1.0"
HUB_PORT, CONTROL_PORT, SERVER_PORT = 8080, 8081, 8080


@dataclass(frozen=True)
class Model:
    """One of the hub's models, and its slot."""

    repo_id: str
    commit: str
    digests: Mapping[str, str]
    endpoint: str
    namespace: str

    @property
    def uri(self) -> str:
        return f"hf://{self.repo_id}"

    @property
    def key(self) -> Key:
        return identity_of(self.uri, revision=self.commit, endpoint=self.endpoint).key

    @property
    def entry(self) -> str:
        return (
            f"{{name: {self.repo_id.rpartition('/')[2]}, storageUri: '{self.uri}', "
            f"revision: '{self.commit}', endpoint: '{self.endpoint}', "
            f"namespaces: ['{self.namespace}']}}"
        )


class PodOf:
    """A pod that a test made, in the test's namespace."""

    def __init__(self, admin: KubeClient, made: Mapping[str, Any]) -> None:
        self.admin, self.made = admin, made
        self.name, self.namespace = made["metadata"]["name"], made["metadata"]["namespace"]
        self.path = object_path("v1", "pods", self.name, namespace=self.namespace)

    def now(self) -> dict[str, Any]:
        pod = self.admin.get(self.path)
        require_images(pod)
        return pod

    def proxy(self, port: int, path: str) -> str:
        """The path at the API server that leads to a port of the pod."""
        return f"{self.path}:{port}/proxy{path}"

    def await_ready(self) -> dict[str, Any]:
        until(lambda: is_ready(self.now()), f"pod {self.name} became ready")
        return self.now()

    def log(self, container: str) -> str:
        return kubectl("-n", self.namespace, "logs", self.name, "-c", container, check=False)

    def delete(self) -> None:
        with contextlib.suppress(NotFoundError):
            self.admin.delete(self.path, options={"gracePeriodSeconds": 0})
        until(self.is_gone, f"pod {self.name} was gone")

    def is_gone(self) -> bool:
        try:
            self.admin.get(self.path)
        except NotFoundError:
            return True
        return False


class Predictor(PodOf):
    """A predictor: KServe's storage initializer, then a server that reads the model."""

    @property
    def decision(self) -> str:
        """What the webhook wrote; empty without it."""
        return str(self.made["metadata"]["annotations"].get(DECISION_ANNOTATION, ""))

    def initializer(self) -> dict[str, Any]:
        """The status of its init container; empty before there is one."""
        statuses = self.now()["status"].get("initContainerStatuses", [])
        return next((s for s in statuses if s["name"] == STORAGE_INITIALIZER), {})

    def last_words(self) -> str:
        """The first word of its termination message: hit, joined, or empty after a fallback."""
        message = self.initializer()["state"]["terminated"].get("message", "")
        return str(message).partition(" ")[0]

    def await_waiting(self) -> None:
        """Until its init container waits for a fill."""

        def waits() -> bool:
            return "Downloading" in self.log(STORAGE_INITIALIZER)

        until(waits, f"pod {self.name} waited for the fill")

    def digests(self) -> dict[str, Any]:
        """What its server read."""
        return self.admin.get(self.proxy(SERVER_PORT, "/digests"))


def predictor_pod(model: Model, node: str, name: str) -> dict[str, Any]:
    """A pod as KServe made one, with another model, server and hub."""
    pod = copy.deepcopy(json.loads(RECORDED.read_text())["request"]["object"])
    metadata, spec = pod["metadata"], pod["spec"]
    del metadata["generateName"], metadata["ownerReferences"], pod["status"]
    metadata |= {"name": name, "namespace": model.namespace}
    metadata["annotations"]["internal.serving.kserve.io/storage-initializer-sourceuri"] = model.uri
    (initializer,), (server,) = spec["initContainers"], spec["containers"]
    initializer["args"][0] = model.uri
    initializer["env"].append({"name": "HF_ENDPOINT", "value": model.endpoint})
    server |= {"image": DEMO_IMAGE, "command": ["python3", "-m", "demo.model_server"], "args": []}
    server["resources"] = {"requests": {"cpu": "10m", "memory": "64Mi"}}
    server["readinessProbe"] |= {"periodSeconds": 1}
    spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    spec["terminationGracePeriodSeconds"] = 0
    return dict(pod)


class HubPod(PodOf):
    """The demo's hub in the cluster, and what is said to it."""

    endpoint = ""

    @classmethod
    def start(cls, admin: KubeClient, namespace: str) -> "HubPod":
        labels = {"app": "hub"}
        container = {
            "name": "hub",
            "image": DEMO_IMAGE,
            "command": ["python3", "-m", "demo.serve"],
            "readinessProbe": {"tcpSocket": {"port": CONTROL_PORT}, "periodSeconds": 1},
        }
        pod = {
            "metadata": {"name": "hub", "namespace": namespace, "labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
        }
        service = {
            "metadata": {"name": "hub"},
            "spec": {"selector": labels, "ports": [{"port": HUB_PORT}]},
        }
        hub = cls(admin, admin.create(collection_path("v1", "pods", namespace=namespace), pod))
        services = collection_path("v1", "services", namespace=namespace)
        address = admin.create(services, service)["spec"]["clusterIP"]
        hub.endpoint = f"http://{address}:{HUB_PORT}"
        hub.await_ready()
        return hub

    def tell(self) -> dict[str, Any]:
        """What it holds and what was fetched of it."""
        return self.admin.get(self.proxy(CONTROL_PORT, "/"))

    def say(self, **behaviour: object) -> None:
        """How it is to behave; without words, as it should."""
        self.admin.create(self.proxy(CONTROL_PORT, "/"), behaviour)

    def fetches(self, model: Model) -> dict[str, int]:
        """How often each file of a model was fetched."""
        told = self.tell()["fetches"]
        return {path: told.get(f"{model.repo_id}/{path}", 0) for path in model.digests}

    def model(self, name: str) -> Model:
        repo_id = f"larder-demo/{name}"
        told = self.tell()["models"][repo_id]
        return Model(repo_id, told["commit"], told["digests"], self.endpoint, self.namespace)

    @contextlib.contextmanager
    def stalled(self, file: str, after_bytes: int = 1000) -> Iterator[None]:
        """While this is entered, a file's body stands still."""
        self.say(stall={"path": file, "afterBytes": after_bytes})
        try:
            yield
        finally:
            self.say()
