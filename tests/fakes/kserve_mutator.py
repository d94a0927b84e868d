"""KServe's own pod mutator, modelled: what it does to a predictor pod at CREATE, and at its re-run.

    before KServe ──▶ KServe(release, around).mutate(pod) ──▶ after KServe

Written from what was observed and read of KServe, and held to recordings of a running one
(tests/recorded). A pod is raw JSON; it is never changed in place. What KServe adds beside its
initializer is in `kserve_sidecars`. The API server's own defaults are applied to an init container
that KServe adds, as in recordings.
"""

import copy
import hashlib
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.fakes.kserve_sidecars import (
    AGENT,
    INTERNAL,
    MODEL_PATH,
    SHARED_VOLUME,
    RefusedError,
    add_agent,
    add_image_volume,
    add_modelcar,
    mount,
)

Pod = Any

SERVING: Final = "serving.kserve.io"
SOURCE_URI: Final = f"{INTERNAL}/storage-initializer-sourceuri"
ISVC_LABEL: Final = f"{SERVING}/inferenceservice"
LOCAL_MODEL: Final = f"{INTERNAL}/localmodel"
STORAGE_SPEC: Final = f"{INTERNAL}/storage-spec"
CONFIDENTIAL: Final = f"{INTERNAL}/confidential-enabled"
READ_ONLY: Final = "storage.kserve.io/readonly"
PLACEHOLDER: Final = "<scheme-placeholder>://"
INITIALIZER: Final = "storage-initializer"
CLAIM_VOLUME: Final = "kserve-pvc-source"
HUB_VARIABLES: Final = {
    "HF_HUB_ENABLE_HF_TRANSFER": "1",
    "HF_XET_HIGH_PERFORMANCE": "1",
    "HF_XET_NUM_CONCURRENT_RANGE_GETS": "8",
}


@dataclass(frozen=True)
class Release:
    """What one release of KServe does otherwise than the next."""

    name: str
    copies_security_context: bool = False
    """The init container gets the server's security context."""
    links_claims: bool = False
    """`pvc://` goes through the init container, by a second mount."""
    honours_read_only: bool = True
    """`storage.kserve.io/readonly: "false"` gives servers a mount to write."""
    serves_workers: bool = True
    """A pod may have `worker-container` in place of `kserve-container`."""
    follows_istio: bool = True
    """The init container runs as the uid of Istio's sidecar, where the CNI plugin redirects."""
    sets_hub_variables: bool = True
    """The init container is told to use the hub's faster ways."""
    oci_modes: Mapping[str, str] = field(default_factory=dict)
    """By scheme, how a model in an image gets to the server; others go to the init container."""


V0_11: Final = Release(
    "v0.11",
    copies_security_context=True,
    links_claims=True,
    honours_read_only=False,
    serves_workers=False,
    follows_istio=False,
    sets_hub_variables=False,
)
V0_15: Final = Release("v0.15", sets_hub_variables=False, oci_modes={"oci": "modelcar"})
CURRENT: Final = Release(
    "current",
    oci_modes={
        "oci": "modelcar",
        "oci+modelcar": "modelcar",
        "oci+native": "native",
        "oci+fetch": "fetch",
    },
)
RELEASES: Final = (V0_11, V0_15, CURRENT)


@dataclass(frozen=True)
class Surroundings:
    """What KServe looks up around a pod: its ConfigMap, the service account, storage containers."""

    image: str = "kserve/storage-initializer:v0.20.0"
    variables: Sequence[Mapping[str, Any]] = ()
    """What the secrets of the service account become in the init container's environment."""
    credentials: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Volumes of credentials by name: where the init container mounts them, and their source."""
    storage_spec: str = ""
    """The place that the secret of a storage spec puts before the path: `s3://bucket/`."""
    storage_container: Mapping[str, Any] = field(default_factory=dict)
    """The container of the ClusterStorageContainer that is used; merged over KServe's own."""
    ca_bundle: str = ""
    """The ConfigMap of certificate authorities."""


@dataclass(frozen=True)
class KServe:
    """The mutator of one release in one place."""

    release: Release = CURRENT
    around: Surroundings = Surroundings()

    def mutate(self, pod: Pod) -> Pod:
        """What KServe's webhook makes of a pod. Raises `RefusedError`."""
        pod = copy.deepcopy(pod)
        metadata = pod["metadata"]
        if ISVC_LABEL not in metadata["labels"]:
            return pod
        annotations = metadata.setdefault("annotations", {})
        if accelerator := annotations.get(f"{SERVING}/gke-accelerator"):
            selector = pod["spec"].setdefault("nodeSelector", {})
            selector["cloud.google.com/gke-accelerator"] = accelerator
        uri = _claim_of_local_model(metadata) or annotations.get(SOURCE_URI, "")
        scheme, _, image = uri.partition("://")
        mode = self.release.oci_modes.get(scheme, "")
        if mode == "fetch":
            self._add_storage(pod, [(f"oci://{image}", MODEL_PATH)], "mnt-models", MODEL_PATH)
        elif uri and not mode:
            self._add_storage(pod, [(uri, MODEL_PATH)], SHARED_VOLUME, MODEL_PATH)
        if self.release.follows_istio:
            _follow_istio(pod)
        add_agent(pod, self.around.variables)
        _aggregate_metrics(pod)
        if mode in {"modelcar", "native"}:
            add = add_modelcar if mode == "modelcar" else add_image_volume
            add(pod["spec"], image, self._servers(pod["spec"]))
        return pod

    def build(self, pod: Pod, uris: Sequence[tuple[str, str]]) -> Pod:
        """What KServe's controller makes of a template with several `storageUris`.

        Claims are mounted one by one, whole; the others share the volume of their common parent.
        """
        pod = copy.deepcopy(pod)
        server = next(c for c in pod["spec"]["containers"] if c["name"] == "kserve-container")
        fetched = [(uri, path) for uri, path in uris if not uri.startswith("pvc://")]
        for uri, path in uris:
            if uri.startswith("pvc://"):
                claim = {"claimName": uri.removeprefix("pvc://").partition("/")[0]}
                source = {"persistentVolumeClaim": claim}
                mount(pod["spec"], server, _volume_name(path), source, path, True)  # noqa: FBT003
        if fetched:
            parent = os.path.commonpath([path for _, path in fetched])
            self._add_storage(pod, fetched, _volume_name(parent), parent)
        return pod

    def _add_storage(
        self, pod: Pod, uris: Sequence[tuple[str, str]], volume: str, parent: str
    ) -> None:
        spec, annotations = pod["spec"], pod["metadata"].get("annotations") or {}
        is_there = INITIALIZER in {c["name"] for c in spec.get("initContainers", [])}
        if AGENT in annotations or is_there:
            return
        servers = self._servers(spec)
        server = servers[0]
        is_read_only = annotations.get(READ_ONLY) != "false" or not self.release.honours_read_only
        claim = uris[0][0].removeprefix("pvc://") if uris[0][0].startswith("pvc://") else ""
        if claim and not self.release.links_claims:
            _mount_claim(spec, claim, servers, is_read_only=is_read_only)
        else:
            container = self._initializer(pod, uris, server)
            if claim:
                _link_claim(spec, claim, [*servers, container])
            for reader in servers:
                mount(spec, reader, volume, {"emptyDir": {}}, parent, is_read_only)
            mount(spec, container, volume, {"emptyDir": {}}, parent, False)  # noqa: FBT003
            self._add_lookups(spec, container)
            spec.setdefault("initContainers", []).append(_with_defaults(container))
        for variable in server.get("env", []):
            if variable["name"] == "STORAGE_URI" and variable.get("value"):
                variable["value"] = MODEL_PATH

    def _servers(self, spec: Any) -> list[Any]:
        """The containers that read the model, the model's server first."""
        names = {c["name"]: c for c in spec["containers"]}
        server = names.get("kserve-container")
        if server is None and self.release.serves_workers:
            server = names.get("worker-container")
        if server is None:
            raise RefusedError("Invalid configuration: cannot find container")
        transformer = names.get("transformer-container")
        return [server, transformer] if transformer else [server]

    def _initializer(
        self, pod: Pod, uris: Sequence[tuple[str, str]], server: Mapping[str, Any]
    ) -> dict[str, Any]:
        annotations = pod["metadata"].get("annotations") or {}
        args = [word for pair in uris for word in pair]
        variables = list(self.around.variables)
        if annotations.get(STORAGE_SPEC) == "true":
            args[0] = args[0].replace(PLACEHOLDER, self.around.storage_spec)
            reference = {
                "name": "storage-config",
                "key": annotations[f"{INTERNAL}/storage-spec-key"],
            }
            variables.append({"name": "STORAGE_CONFIG", "valueFrom": {"secretKeyRef": reference}})
        if CONFIDENTIAL in annotations:
            variables.append({"name": "CONFIDENTIAL_ENABLED", "value": annotations[CONFIDENTIAL]})
        container = {
            "name": INITIALIZER,
            "image": self.around.image,
            "args": args,
            "env": variables,
            "resources": {
                "limits": {"cpu": "1", "memory": "1Gi"},
                "requests": {"cpu": "100m", "memory": "100Mi"},
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [],
        }
        if self.release.copies_security_context and "securityContext" in server:
            container["securityContext"] = copy.deepcopy(server["securityContext"])
        return container

    def _add_lookups(self, spec: Any, container: dict[str, Any]) -> None:
        """What does not come from the pod: credentials, the CA bundle, a storage container."""
        for name, (path, source) in self.around.credentials.items():
            mount(spec, container, name, source, path, True)  # noqa: FBT003
        if self.around.ca_bundle:
            path = "/etc/ssl/custom-certs"
            source = {"configMap": {"name": self.around.ca_bundle}}
            mount(spec, container, "cabundle-cert", source, path, True)  # noqa: FBT003
            container["env"] += [
                {"name": "CA_BUNDLE_CONFIGMAP_NAME", "value": self.around.ca_bundle},
                {"name": "CA_BUNDLE_VOLUME_MOUNT_POINT", "value": path},
            ]
        if container["args"][0].startswith("oci://") and "imagePullSecrets" in spec:
            path = "/mnt/oci-fetch-auth"
            source = {"projected": {"sources": []}}
            mount(spec, container, "kserve-oci-fetch-docker-config", source, path, True)  # noqa: FBT003
            container["env"].append({"name": "KSERVE_OCI_DOCKER_CONFIG", "value": path})
        more = copy.deepcopy(dict(self.around.storage_container))
        known = {variable["name"] for variable in more.get("env", [])}
        kept = [variable for variable in container["env"] if variable["name"] not in known]
        container |= more | {"env": kept + more.get("env", [])}
        if self.release.sets_hub_variables:
            said = {variable["name"] for variable in container["env"]}
            container["env"] += [
                {"name": n, "value": v} for n, v in HUB_VARIABLES.items() if n not in said
            ]


def _volume_name(path: str) -> str:
    return path.strip("/").replace("/", "-")


def _claim_of_local_model(metadata: Any) -> str | None:
    """KServe's own cache: the claim and the path below it, by the cached URI's hash."""
    if LOCAL_MODEL not in metadata["labels"]:
        return None
    annotations = metadata["annotations"]
    if f"{LOCAL_MODEL}-pvc-name" not in annotations:
        raise RefusedError("annotation of the claim's name is missing")
    cached = annotations[f"{LOCAL_MODEL}-sourceuri"]
    key = hashlib.sha256(cached.encode()).hexdigest()[:16]
    below = annotations[SOURCE_URI].removeprefix(cached)
    below = below if below.startswith("/") else f"/{below}"
    return f"pvc://{annotations[f'{LOCAL_MODEL}-pvc-name']}/models/{key}{below}"


def _mount_claim(spec: Any, claim: str, servers: Sequence[Any], *, is_read_only: bool) -> None:
    name, _, path = claim.partition("/")
    source = {"persistentVolumeClaim": {"claimName": name}}
    for server in servers:
        mount(spec, server, CLAIM_VOLUME, source, MODEL_PATH, is_read_only)
        if path:
            next(m for m in server["volumeMounts"] if m["name"] == CLAIM_VOLUME)["subPath"] = path


def _link_claim(spec: Any, claim: str, containers: Sequence[Any]) -> None:
    name, _, path = claim.partition("/")
    source = {"persistentVolumeClaim": {"claimName": name}}
    for container in containers:
        mount(spec, container, CLAIM_VOLUME, source, "/mnt/pvc", True)  # noqa: FBT003
    containers[-1]["args"][0] = f"/mnt/pvc/{path}"


def _with_defaults(container: Any) -> Any:
    """What the API server writes into a container that says nothing of it."""
    tag = container["image"].rpartition("/")[2].partition(":")[2]
    policy = "Always" if tag in {"", "latest"} else "IfNotPresent"
    defaults = {"imagePullPolicy": policy, "terminationMessagePath": "/dev/termination-log"}
    container = {k: v for k, v in container.items() if (k, v) != ("env", [])}
    return defaults | container


def _aggregate_metrics(pod: Pod) -> None:
    """Knative's sidecar is told where the server's metrics are, and pods say that they did not."""
    annotations = pod["metadata"]["annotations"]
    for name in ("enable-metric-aggregation", "enable-prometheus-scraping"):
        annotations.setdefault(f"{SERVING}/{name}", "false")
    if annotations[f"{SERVING}/enable-metric-aggregation"] != "true":
        return
    for proxy in (c for c in pod["spec"]["containers"] if c["name"] == "queue-proxy"):
        said = {variable["name"] for variable in proxy.setdefault("env", [])}
        if "AGGREGATE_PROMETHEUS_METRICS_PORT" not in said:
            proxy["env"].append({"name": "AGGREGATE_PROMETHEUS_METRICS_PORT", "value": "9088"})
            proxy.setdefault("ports", []).append({"name": "aggr-metric", "containerPort": 9088})


def _follow_istio(pod: Pod) -> None:
    """The init container gets the uid that may reach the network before the sidecar runs."""
    annotations, spec = pod["metadata"]["annotations"], pod["spec"]
    containers = {c["name"]: c for c in spec.get("initContainers", [])}
    initializer = containers.get(INITIALIZER)
    if initializer is None:
        return
    if said := annotations.get(f"{SERVING}/storage-initializer-uid"):
        uid = int(said) if said.isdecimal() else None
    else:
        redirects = annotations.get("sidecar.istio.io/interceptionMode") == "REDIRECT"
        sidecar = next((c for c in spec["containers"] if c["name"] == "istio-proxy"), None)
        status = annotations.get("sidecar.istio.io/status")
        if "istio-init" in containers or not redirects or not status or sidecar is None:
            return
        uid = sidecar.get("securityContext", {}).get("runAsUser", 1337)
    if uid is not None:
        initializer.setdefault("securityContext", {})["runAsUser"] = uid


def mount_tokens(pod: Pod, name: str = "kube-api-access-again") -> Pod:
    """The API server's own step before each round of webhooks: every container gets the token.

    The volume's name may differ between rounds.
    """
    pod = copy.deepcopy(pod)
    spec = pod["spec"]
    volumes = [v for v in spec["volumes"] if not v["name"].startswith("kube-api-access-")]
    spec["volumes"] = [*volumes, {"name": name, "projected": {"sources": []}}]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        mounts = container.get("volumeMounts", [])
        kept = [m for m in mounts if not m["name"].startswith("kube-api-access-")]
        token = {"name": name, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
        container["volumeMounts"] = [*kept, token | {"readOnly": True}]
    return pod
