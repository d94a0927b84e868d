"""KServe's shapes as pods of a real node: with the demo's models, hub and servers in their place.

    Shape ──KServe's model──▶ pod ──staged──▶ pod that can run here ──▶ the API server, and Larder

What a container is and mounts stays; its image, command and probes are the demo's: whoever mounts
the model serves its digests at a port of its own, everybody else sleeps.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from larder.contract import STORAGE_INITIALIZER
from larder.identity import identity_of
from larder.layout import Key
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path
from tests.cluster.node.predictors import DEMO_IMAGE, Model, Predictor
from tests.fakes.kserve_mutator import KServe
from tests.fakes.predictor_pods import Shape

Pod = Any

KSERVE_IMAGE: Final = "kserve/storage-initializer:v0.20.0"  # in the lab, the demo's own
FIRST_PORT: Final = 8080
SMALL: Final = {"requests": {"cpu": "10m", "memory": "32Mi"}}
OF_THE_PROGRAM: Final = (
    *("args", "lifecycle", "livenessProbe", "ports", "readinessProbe", "startupProbe"),
)
SECRETS: Final[Mapping[str, Mapping[str, str]]] = {
    "creds": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "HF_TOKEN": "c"},
    "gcp": {"x.json": "{}"},
    "storage-config": {"minio": '{"type": "s3", "endpoint_url": "http://10.0.0.1:9000"}'},
    "llm-single-kserve-self-signed-certs": {"tls.crt": "c"},
    "llm-pd-kserve-self-signed-certs": {"tls.crt": "c"},
}
"""What KServe's pods mount or read of a namespace's Secrets."""


@dataclass(frozen=True)
class Listed(Model):
    """One of the hub's models as the catalog lists it."""

    name: str = ""
    namespaces: tuple[str, ...] = ()
    is_from_anywhere: bool = False
    placement: str = "Prefer"

    @property
    def key(self) -> Key:
        endpoint = None if self.is_from_anywhere else self.endpoint
        return identity_of(self.uri, revision=self.commit, endpoint=endpoint).key

    @property
    def entry(self) -> str:
        endpoint = "any" if self.is_from_anywhere else self.endpoint
        return (
            f"{{name: {self.name}, storageUri: '{self.uri}', revision: '{self.commit}', "
            f"endpoint: '{endpoint}', fetchFrom: '{self.endpoint}', "
            f"namespaces: {list(self.namespaces)}, placement: {self.placement}}}"
        )


@dataclass(frozen=True)
class Stage:
    """Where shapes are put on: what their URIs become, and what each of those holds."""

    node: str
    endpoint: str
    uris: Mapping[str, str]
    digests: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Staged:
    """A pod, and the files that its readers are to read, by their ports."""

    pod: Pod
    wanted: Mapping[int, Mapping[str, str]]


@dataclass(frozen=True)
class Running:
    """A pod of a shape that was made, and what is expected of it."""

    made: Predictor
    wanted: Mapping[int, Mapping[str, str]]

    def digests(self) -> dict[int, Mapping[str, str]]:
        """What each reader read, without what the hub's client leaves beside it."""
        asked = {port: self.made.proxy(port, "/digests") for port in self.wanted}
        told = {port: self.made.admin.get(path) for port, path in asked.items()}
        return {
            port: {p: digest for p, digest in files.items() if ".cache" not in p.split("/")}
            for port, files in told.items()
        }


def make_secrets(admin: KubeClient, namespace: str) -> None:
    """What the shapes look for in their namespace."""
    for name, content in SECRETS.items():
        path = collection_path("v1", "secrets", namespace=namespace)
        admin.create(path, {"metadata": {"name": name}, "stringData": dict(content)})
    bundle = {"metadata": {"name": "global-ca-bundle"}, "data": {"cabundle.crt": ""}}
    admin.create(collection_path("v1", "configmaps", namespace=namespace), bundle)
    account = {"metadata": {"name": "llm-pd-kserve"}}
    admin.create(collection_path("v1", "serviceaccounts", namespace=namespace), account)


def staged(row: Shape, name: str, namespace: str, stage: Stage) -> Staged:
    """A shape after its newest KServe, as a pod that can run here."""
    pod = KServe(row.releases[-1], row.around).mutate(copy.deepcopy(row.before))
    metadata, spec = pod["metadata"], pod["spec"]
    for field in ("generateName", "ownerReferences"):
        metadata.pop(field, None)
    pod.pop("status", None)
    metadata |= {"name": name, "namespace": namespace}
    annotations = metadata.get("annotations") or {}
    metadata["annotations"] = {k: stage.uris.get(v, v) for k, v in annotations.items()}
    spec["nodeSelector"] = {**spec.get("nodeSelector", {}), "kubernetes.io/hostname": stage.node}
    spec["terminationGracePeriodSeconds"] = 0
    if "nodeName" in spec:
        spec["nodeName"] = stage.node
    initializer = next(c for c in spec["initContainers"] if c["name"] == STORAGE_INITIALIZER)
    stage_initializer(initializer, stage)
    for container in spec["initContainers"]:
        if container is not initializer:
            is_sidecar = container.get("restartPolicy") == "Always"
            become(container, ["sleep", "infinity"] if is_sidecar else ["true"])
    wanted = dict(stage_readers(spec["containers"], initializer, stage))
    return Staged(pod, wanted)


def stage_initializer(container: Any, stage: Stage) -> None:
    """KServe's initializer downloads from the hub here; its image is the demo's in the lab."""
    container["args"] = [stage.uris.get(word, word) for word in container["args"]]
    container |= {"image": KSERVE_IMAGE, "imagePullPolicy": "IfNotPresent"}
    container["resources"]["requests"] = SMALL["requests"]
    container.setdefault("env", []).append({"name": "HF_ENDPOINT", "value": stage.endpoint})


def stage_readers(
    containers: list[Any], initializer: Any, stage: Stage
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Make servers of those that mount the model; which files each is to read, by its port."""
    written = {m["name"]: PurePosixPath(m["mountPath"]) for m in initializer["volumeMounts"]}
    words = initializer["args"]
    pairs = list(zip(words[::2], map(PurePosixPath, words[1::2]), strict=True))
    for port, container in enumerate(containers, FIRST_PORT):
        mounts = {m["name"]: m["mountPath"] for m in container.get("volumeMounts", [])}
        found = [v for v, at in written.items() if v in mounts and pairs[0][1].is_relative_to(at)]
        if not found:
            become(container, ["sleep", "infinity"])
            continue
        directory, root = mounts[found[0]], written[found[0]]
        serve = ["python3", "-m", "demo.model_server", directory, "--port", str(port)]
        become(container, serve)
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
        yield (
            port,
            {
                str(path.relative_to(root) / file): digest
                for uri, path in pairs
                for file, digest in stage.digests[uri].items()
            },
        )


def become(container: Any, command: list[str]) -> None:
    """Another program in the same container."""
    for field in OF_THE_PROGRAM:
        container.pop(field, None)
    container |= {"image": DEMO_IMAGE, "imagePullPolicy": "IfNotPresent", "command": command}
    container["resources"] = SMALL
