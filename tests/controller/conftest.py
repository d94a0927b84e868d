"""A cluster of our own for the controller, and the real program in a process of its own."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from controller.lease import LEASE
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path
from tests.deploy.shipped import DEPLOY, documents
from tests.fakes.kubeconfig import write_kubeconfig
from tests.runtime.kube.api_server import ApiServer, Json

PATIENCE_SECONDS = 60.0
_PAUSE = threading.Event()  # never set: between two looks


def until(holds: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Look again until something is so."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        _PAUSE.wait(0.05)


class FakeCluster:
    """An API server with Larder installed: policies, Lease, namespaces, a catalog; and a binder."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.put("leases", "larder-controller", SYSTEM_NAMESPACE)
        for path in (DEPLOY / "base/programs/controller").glob("*_only.yaml"):
            for content in documents(path):
                plural = {
                    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
                    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
                }[content["kind"]]
                status = {"observedGeneration": 1, "typeChecking": {}}
                self.put(plural, content["metadata"]["name"], spec=content["spec"], status=status)
        for name in ("chat", "search", SYSTEM_NAMESPACE):
            self.put("namespaces", name)

    def put(self, plural: str, name: str, namespace: str = "", **fields: object) -> Json:
        """Make or replace an object, past the API."""
        world = self.server.world
        with world.changed:
            before = world.objects.get((plural, namespace, name))
            metadata = {"name": name, "namespace": namespace, "generation": 1}
            if before:
                metadata["uid"] = before["metadata"]["uid"]
            content = {"apiVersion": "v1", "kind": plural, "metadata": metadata, **fields}
            return world.put(plural, content, "MODIFIED" if before else "ADDED")

    def catalog(self, *entries: str) -> None:
        lines = "\n".join(f"  - {{{entry}}}" for entry in entries)
        models = f"models:\n{lines}\n" if entries else "models: []\n"
        text = f"apiVersion: larder.dev/v1alpha1\nkind: Catalog\n{models}"
        data = {"catalog.yaml": text}
        self.put("configmaps", CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE, data=data)

    def names(self, plural: str) -> set[str]:
        with self.server.world.changed:
            return {
                f"{namespace}/{name}" if namespace else name
                for kind, namespace, name in self.server.world.objects
                if kind == plural
            }

    def bind(self) -> None:
        """What kube-controller-manager does: claims and volumes that name one another are Bound."""
        world = self.server.world
        with world.changed:
            for (plural, _, name), volume in list(world.objects.items()):
                if plural != "persistentvolumes":
                    continue
                reference = volume["spec"]["claimRef"]
                key = ("persistentvolumeclaims", reference["namespace"], reference["name"])
                claim = world.objects.get(key)
                if claim and claim["spec"].get("volumeName") == name and "uid" not in reference:
                    reference["uid"] = claim["metadata"]["uid"]
                    world.put("persistentvolumes", deepcopy(volume), "MODIFIED")
                    bound = {**deepcopy(claim), "status": {"phase": "Bound"}}
                    world.put("persistentvolumeclaims", bound, "MODIFIED")

    @property
    def holder(self) -> str:
        key = ("leases", SYSTEM_NAMESPACE, "larder-controller")
        with self.server.world.changed:
            spec = self.server.world.objects[key].get("spec") or {}
        return str(spec.get("holderIdentity") or "")

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Requests that change something, but those of the Lease."""
        seen = list(self.server.seen)
        return [(s.method, s.path) for s in seen if s.method != "GET" and s.path != LEASE]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    server = ApiServer()
    yield FakeCluster(server)
    server.stop()


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[KubeClient]:
    client = KubeClient(Configuration(host=cluster.server.host), program="larder-test")
    yield client
    client.close()


def claims_path(namespace: str) -> str:
    return collection_path("v1", "persistentvolumeclaims", namespace=namespace)


@dataclass
class RunningController:
    """The real program."""

    process: subprocess.Popen[str]
    lines: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    port: int = 0

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next log line of an event; those before it are dropped."""
        while (line := self.lines.get(timeout=PATIENCE_SECONDS))["event"] != event:
            pass
        return line

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def read_lines(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(json.loads(line))


StartController = Callable[..., RunningController]


@pytest.fixture
def start_controller(cluster: FakeCluster, tmp_path: Path) -> Iterator[StartController]:
    """Start the controller on a free port; it is stopped after the test."""
    started: list[RunningController] = []
    to = {"server": cluster.server.host}
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", to)

    def start(*flags: str) -> RunningController:
        address = ("--host", "127.0.0.1", "--port", "0")
        command = [sys.executable, "-m", "controller", "--kubeconfig", str(kubeconfig), *address]
        process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
        controller = RunningController(process)
        started.append(controller)
        threading.Thread(target=controller.read_lines, daemon=True).start()
        controller.port = controller.wait_for("controller started")["port"]
        return controller

    yield start
    for controller in started:
        if controller.process.poll() is None:
            controller.process.kill()
            controller.process.wait(PATIENCE_SECONDS)
        if controller.process.stdout:
            controller.process.stdout.close()
