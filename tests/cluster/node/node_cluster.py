"""What the tests of this room look at: the node and its agent, and a way to wait.

Everything goes through the API server, so that any cluster will do: pods' own ports are reached by
its proxy, logs and commands by kubectl.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from larder.contract import MODEL_LABEL_PREFIX, SYSTEM_NAMESPACE
from larder.node_report import DATA_KEY, config_map_name, parse_node_report
from runtime.kube.client import KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.paths import collection_path, object_path

ROOT = Path(__file__).parents[3]
ENOUGH_SECONDS = 90.0  # only a failing test waits so long
AGENT_LABEL = "kserve/localmodel"
UNPULLED = ("ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName")
_PAUSE = threading.Event()  # never set: between two looks


def until(
    holds: Callable[[], object], what: str, seconds: float = ENOUGH_SECONDS, pause: float = 0.1
) -> None:
    """Look again until something is so; a test fails when it has not become so."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        _PAUSE.wait(pause)


def kubectl(*words: str, check: bool = True) -> str:
    """What kubectl prints."""
    done = subprocess.run(  # noqa: S603 - ours
        ["kubectl", *words],  # noqa: S607 - the one on the PATH
        check=False,
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
    return done.stdout


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def container_statuses(pod: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for group in ("initContainerStatuses", "containerStatuses"):
        yield from pod.get("status", {}).get(group, [])


def require_images(pod: Mapping[str, Any]) -> None:
    """Fail at once where a pod waits for an image that nobody brought."""
    for status in container_statuses(pod):
        if status["state"].get("waiting", {}).get("reason") in UNPULLED:
            raise AssertionError(
                f"image {status['image']} is not on the node: build it with make images (and make "
                "image-of-kserve where nothing can be pulled), and load it into the cluster"
            )


class Node:
    """The cluster's node that the tests use, as the API server shows it, and its agent."""

    def __init__(self, admin: KubeClient, name: str) -> None:
        self.admin, self.name = admin, name
        self.path = object_path("v1", "nodes", name)

    def label(self, **labels: str | None) -> None:
        self.admin.patch(self.path, {"metadata": {"labels": labels}})

    def let_agent(self, *, run: bool) -> None:
        """Ask the agent onto the node, or away from it, and wait."""
        self.admin.patch(
            self.path, {"metadata": {"labels": {AGENT_LABEL: "worker" if run else None}}}
        )
        if run:
            self.await_agent()
        else:
            until(lambda: not self.agents(), "the agent went away")

    def agents(self) -> list[dict[str, Any]]:
        """The agent's pods on this node; for a moment, none or two."""
        query = [
            ("labelSelector", "app.kubernetes.io/name=larder-agent"),
            ("fieldSelector", f"spec.nodeName={self.name}"),
        ]
        pods = collection_path("v1", "pods", namespace=SYSTEM_NAMESPACE)
        return list(self.admin.list(pods, query=query).items)

    def await_agent(self, but: str = "") -> dict[str, Any]:
        """The one agent that is ready, of another container than `but`."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = self.agents()
            for pod in found:
                require_images(pod)
            return len(found) == 1 and is_ready(found[0]) and container_of(found[0]) != but

        until(is_there, "an agent was ready")
        return found[0]

    def states(self) -> dict[str, str]:
        """What the node's labels say of each slot."""
        labels = self.admin.get(self.path)["metadata"]["labels"]
        prefix = MODEL_LABEL_PREFIX
        return {k.removeprefix(prefix): v for k, v in labels.items() if k.startswith(prefix)}

    def reported(self) -> dict[str, str | None]:
        """The slots that the node's report tells of, each with its name in the catalog."""
        name = config_map_name(self.name)
        path = object_path("v1", "configmaps", name, namespace=SYSTEM_NAMESPACE)
        try:
            report = parse_node_report(self.admin.get(path)["data"][DATA_KEY])
        except NotFoundError:
            return {}
        return {model.key: model.name for model in report.models} if report else {}


def container_of(pod: Mapping[str, Any]) -> str:
    """The id of a pod's first container."""
    return str(pod["status"]["containerStatuses"][0].get("containerID", "")).rpartition("/")[2]
