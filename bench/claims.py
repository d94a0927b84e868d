"""How fast claims follow the catalog, and what is written afterwards: KUBECONFIG names a cluster.

    python -m bench.claims [--namespaces 500] [--models 20] [--json FILE]

    made    seconds from an edit of the catalog until a claim and a volume of each model are there
            for each namespace, and the controller says so
    quiet   a minute after it: requests that make, change or delete claims and volumes

The controller is this checkout's, with the token of its account, so that its policies hold it;
`deploy/base` has to be installed, and its own replicas stand aside. Writes are counted by the API
server. At the end the catalog is as before, and what was made is retired again, at the pace of
kube-controller-manager: it takes the finalizers off, one after the other.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from larder.contract import CATALOG_CONFIG_MAP, CATALOG_DATA_KEY, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.paths import collection_path, object_path

GOALS: Final = {"made_seconds": 120.0, "writes": 0.0}
QUIET_SECONDS: Final = 60.0
ACCOUNT: Final = "larder-controller"
NAMESPACES: Final = collection_path("v1", "namespaces")
CATALOG: Final = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
DEPLOYMENT: Final = object_path("apps/v1", "deployments", ACCOUNT, namespace=SYSTEM_NAMESPACE)
TOKEN: Final = f"{object_path('v1', 'serviceaccounts', ACCOUNT, namespace=SYSTEM_NAMESPACE)}/token"
_SETTLED: Final = "claims are as the catalog says"
_WRITTEN: Final = re.compile(  # kube-controller-manager writes claims and volumes, too, with PUT
    r'^apiserver_request_total\{.*dry_run="",.*resource="(persistentvolume(?:claim)?s|leases)".*'
    r'subresource="",verb="(?:POST|PATCH|APPLY|DELETE)".*\} (\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    claims: int
    made_seconds: float
    cpu_seconds: float
    resident_mib: float
    writes: float
    lease_writes: int


class Controller:
    """The program, in a process of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        command = [sys.executable, "-m", "controller", "--kubeconfig", str(kubeconfig)]
        command += ["--host", "127.0.0.1", "--port", "0", "--retire-after", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours

    def settled(self) -> int:
        """Wait until nothing is left to do; how many claims there are."""
        for line in self.process.stdout or ():
            told = json.loads(line)
            if told["event"] == _SETTLED:
                return int(told["claims"])
        raise ChildProcessError("the controller ended")

    def cost(self) -> tuple[float, float]:
        """Seconds of CPU, and the most MiB that it ever had."""
        folder = Path(f"/proc/{self.process.pid}")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        kib = (folder / "status").read_text().split("VmHWM:")[1].split()[0]
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK"), int(kib) / 1024


@contextmanager
def running(kubeconfig: Path) -> Iterator[Controller]:
    """The controller, until it is asked to stop."""
    controller = Controller(kubeconfig)
    try:
        yield controller
    finally:
        controller.process.terminate()
        controller.process.communicate()


def writes() -> Counter[str]:
    """Requests so far that wrote, by what they wrote, as the API server counts them."""
    command = ["kubectl", "get", "--raw", "/metrics"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - the cluster's own tool
    total: Counter[str] = Counter()
    for what, times in _WRITTEN.findall(text):
        total[what] += int(float(times))
    return total


def catalog(models: int, names: Sequence[str]) -> str:
    """A catalog of so many models, each for all of these namespaces and for no node."""
    common = {"revision": "main", "namespaces": list(names), "nodeGroups": ["none"]}
    entries = [
        {"name": f"bench-{n}", "storageUri": f"hf://larder-bench/model-{n}", **common}
        for n in range(models)
    ]
    group = {"name": "none", "nodeSelector": {"matchLabels": {"larder-bench": "none"}}}
    document = {"apiVersion": "larder.dev/v1alpha1", "kind": "Catalog", "nodeGroups": [group]}
    return json.dumps(document | {"models": entries})


def kubeconfig(admin: KubeClient, folder: Path) -> Path:
    """The controller's own way to the cluster."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = admin.create(TOKEN, request)["status"]["token"]
    document: dict[str, Any] = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    document["users"] = [{"name": ACCOUNT, "user": {"token": token}}]
    for context in document["contexts"]:
        context["context"]["user"] = ACCOUNT
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def alone(admin: KubeClient) -> Iterator[None]:
    """While the install's own replicas stand aside."""
    replicas = admin.get(DEPLOYMENT)["spec"]["replicas"]
    admin.patch(DEPLOYMENT, {"spec": {"replicas": 0}})
    try:
        yield
    finally:
        admin.patch(DEPLOYMENT, {"spec": {"replicas": replicas}})


@contextmanager
def namespaces(admin: KubeClient, count: int) -> Iterator[list[str]]:
    """So many namespaces, for a while."""
    run = uuid.uuid4().hex[:6]
    names = [f"larder-bench-{run}-{n:03}" for n in range(count)]
    try:
        for name in names:
            admin.create(NAMESPACES, {"metadata": {"name": name}})
        yield names
    finally:
        for name in names:
            with suppress(NotFoundError):
                admin.delete(f"{NAMESPACES}/{name}")


@contextmanager
def editable_catalog(admin: KubeClient) -> Iterator[Callable[[str | None], None]]:
    """Write the catalog, or what there was before (None), which is there again at the end."""
    before: str | None = None
    with suppress(NotFoundError):
        before = admin.get(CATALOG)["data"][CATALOG_DATA_KEY]

    def write(text: str | None) -> None:
        content = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE},
            "data": {CATALOG_DATA_KEY: text or before or catalog(0, ())},
        }
        admin.apply(CATALOG, content, field_manager="larder-bench")

    write(None)
    try:
        yield write
    finally:
        write(None)
        if before is None:
            admin.delete(CATALOG)


def run(admin: KubeClient, models: int, count: int, told: Callable[[Figures], None]) -> None:
    """Make them all, look on for a minute, tell the figures, and retire them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        alone(admin),
        namespaces(admin, count) as names,
        editable_catalog(admin) as write,
        running(kubeconfig(admin, Path(folder))) as controller,
    ):
        there = controller.settled()
        start = time.monotonic()
        write(catalog(models, names))
        made = controller.settled() - there
        made_seconds = time.monotonic() - start
        cpu_seconds, mib = controller.cost()
        before = writes()
        threading.Event().wait(QUIET_SECONDS)
        written = writes() - before
        lease = written.pop("leases", 0)
        told(Figures(made, made_seconds, cpu_seconds, mib, float(written.total()), lease))
        write(None)
        controller.settled()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print. A missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="bench.claims", description="How fast claims are made.")
    parser.add_argument("--namespaces", type=int, default=500)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    if not os.environ.get("KUBECONFIG"):
        sys.exit("bench.claims needs KUBECONFIG, the admin's of a cluster with deploy/base in it")

    def tell(figures: Figures) -> None:
        measured = asdict(figures)
        met = all(measured[name] <= goal for name, goal in GOALS.items())
        text = json.dumps({**measured, "goals": GOALS, "met": met}, indent=2)
        print(text, flush=True)
        if options.json:
            options.json.write_text(f"{text}\n")

    admin = KubeClient.from_kubeconfig("larder-bench", Path(os.environ["KUBECONFIG"]))
    run(admin, options.models, options.namespaces, tell)
    admin.close()


if __name__ == "__main__":
    main()
