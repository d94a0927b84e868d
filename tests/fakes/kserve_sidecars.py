"""What KServe's pod mutator adds beside its storage initializer: models in images, and its agent.

    oci://…, oci+modelcar://…   a sidecar that shares the image's files through /proc (since v0.12)
    oci+native://…              a volume of the image itself
    logger, batcher, puller     the container `agent`

Written from what was observed and read of KServe. A pod is raw JSON and is changed in place.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

INTERNAL: Final = "internal.serving.kserve.io"
AGENT: Final = f"{INTERNAL}/agent"
MODEL_PATH: Final = "/mnt/models"
SHARED_VOLUME: Final = "kserve-provision-location"
MODELCAR_UID: Final = 1010
_AGENT_PORT: Final = "9081"
_FEATURES: Final = {
    "agent": "--enable-puller",
    "batcher": "--enable-batcher",
    "logger": "--log-url",
}


class RefusedError(Exception):
    """KServe answers an error, so that the API server refuses the pod (`failurePolicy: Fail`)."""


def mount(  # noqa: PLR0913, PLR0917 - a mount and its volume
    spec: Any, container: Any, name: str, source: Mapping[str, Any], path: str, is_read_only: bool
) -> Any:
    """A volume and its mount, each only if none has the name (whatever its path or source)."""
    volumes, mounts = spec.setdefault("volumes", []), container.setdefault("volumeMounts", [])
    if name not in {volume["name"] for volume in volumes}:
        volumes.append({"name": name, **copy.deepcopy(source)})
    if name not in {there["name"] for there in mounts}:
        mounts.append(
            {"mountPath": path, "name": name} | ({"readOnly": True} if is_read_only else {})
        )
    return next(there for there in mounts if there["name"] == name)


def add_modelcar(spec: Any, image: str, servers: Sequence[Any]) -> None:
    """The image runs beside the servers, which reach its files through the shared processes."""
    for server in servers:
        server.setdefault("env", [])
        said = [v for v in server["env"] if v["name"] != "MODEL_INIT_MODE"]
        server["env"] = [*said, {"name": "MODEL_INIT_MODE", "value": "async"}]
        mount(spec, server, SHARED_VOLUME, {"emptyDir": {}}, "/mnt", False)  # noqa: FBT003
        server["securityContext"] = {"runAsUser": MODELCAR_UID}
    spec["shareProcessNamespace"] = True
    if "modelcar" in {container["name"] for container in spec["containers"]}:
        return
    link = f"ln -sf /proc/$$/root/models {MODEL_PATH} && sleep infinity"
    car = {"name": "modelcar", "image": image, "args": ["sh", "-c", link]}
    mount(spec, car, SHARED_VOLUME, {"emptyDir": {}}, "/mnt", False)  # noqa: FBT003
    car["securityContext"] = {"runAsUser": MODELCAR_UID}
    spec["containers"].append(car)
    look = {"name": "modelcar-init", "image": image, "args": ["sh", "-c", "ls -A /models"]}
    spec.setdefault("initContainers", []).append(look)


def add_image_volume(spec: Any, image: str, servers: Sequence[Any]) -> None:
    """The kubelet mounts the image's folder `models`."""
    source = {"image": {"reference": image, "pullPolicy": "IfNotPresent"}}
    for server in servers:
        mount(spec, server, "mnt-models", source, MODEL_PATH, True)["subPath"] = "models"  # noqa: FBT003


def add_agent(pod: Any, variables: Sequence[Any]) -> None:
    """The container `agent` before the server, where something needs it. Raises `RefusedError`."""
    annotations, spec = pod["metadata"]["annotations"], pod["spec"]
    flags = [flag for name, flag in _FEATURES.items() if f"{INTERNAL}/{name}" in annotations]
    containers = {container["name"]: container for container in spec["containers"]}
    if not flags or "agent" in containers:
        return
    server = containers.get("kserve-container", spec["containers"][0])
    proxy = containers.get("queue-proxy")
    asked = containers.get("transformer-container", server)
    own = copy.deepcopy(proxy.get("env", [])) if proxy else []
    for variable in (proxy or {}).get("env", []):
        if variable["name"] == "USER_PORT":
            variable["value"] = _AGENT_PORT
    if not proxy and "readinessProbe" in asked:
        probe = json.dumps(asked["readinessProbe"])
        own.append({"name": "SERVING_READINESS_PROBE", "value": probe})
    agent = {
        "name": "agent",
        "image": "kserve/agent:v0.20.0",
        "args": [*flags, "--component-port", "8080"],
        "ports": [{"name": "agent-port", "containerPort": int(_AGENT_PORT), "protocol": "TCP"}],
        "env": [*own, *copy.deepcopy(list(variables))],
    }
    if "securityContext" in spec["containers"][0]:
        agent["securityContext"] = copy.deepcopy(spec["containers"][0]["securityContext"])
    spec["containers"].append(agent)
    if AGENT in annotations:
        _mount_models(annotations, spec, agent, server)


def _mount_models(annotations: Mapping[str, str], spec: Any, agent: Any, server: Any) -> None:
    """The agent pulls models while the pod runs, by a list in a ConfigMap."""
    config = annotations.get(f"{INTERNAL}/configVolumeName")
    if f"{INTERNAL}/modelDir" not in annotations or config is None:
        raise RefusedError("the agent's annotations are missing")
    for container in (agent, server):
        mount(spec, container, "model-dir", {"emptyDir": {}}, MODEL_PATH, False)  # noqa: FBT003
    source = {"configMap": {"name": config}}
    mount(spec, agent, "model-config", source, "/mnt/configs", False)  # noqa: FBT003
