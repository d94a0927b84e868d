"""What Larder costs a cluster, and how fast it follows: KUBECONFIG names one with the demo overlay.

    python -m bench.cluster [--short] [--json FILE]

    ready       an agent's pod is deleted: seconds from its successor's start to its readiness, as
                the API tells them (whole seconds); the worst of three
    first byte  the catalog gets one more model: seconds to the hub's first request for a file
    quiet       three minutes in which nothing is asked for: the agent's share of a core, resident
                memory of agent and webhook, writes at the API server, requests at the hub

Writes are counted by the API server itself, for all kinds of objects that Larder may write. Nobody
else writes those in a quiet cluster: the kubelet writes a node's status, which is counted apart.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console
from rich.table import Table

from larder.contract import CATALOG_CONFIG_MAP, CATALOG_DATA_KEY, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.errors import UnavailableError
from runtime.kube.paths import collection_path, object_path

GOALS: Final = {
    "agent_ready_seconds": 3.0,
    "first_byte_seconds": 2.0,
    "agent_mib": 90e6 / 2**20,
    "webhook_mib": 100e6 / 2**20,
    "agent_core_percent": 0.2,
    "api_writes": 0.0,
    "hub_requests": 0.0,
}
QUIET_SECONDS, SHORT_QUIET_SECONDS = 180.0, 20.0
STARTS, SHORT_STARTS = 3, 1
PATIENCE_SECONDS = 180.0
LEFT_ALONE_SECONDS = 40.0  # reports of progress come every 30 seconds at most
HUB_CONTROL_PORT: Final = 8081
SPARE: Final = "hf://larder-demo/spare"
WRITTEN: Final = frozenset(
    {
        ("", "configmaps"),
        ("", "nodes"),
        ("", "secrets"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("events.k8s.io", "events"),  # the kubelet writes those of the core API
    }
)
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE"})
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_SAY_COST: Final = (
    "stat = open('/proc/1/stat').read().rpartition(')')[2].split();"
    "import os;"
    "kib = next(l for l in open('/proc/1/status') if l.startswith('VmRSS')).split()[1];"
    "print((int(stat[11]) + int(stat[12])) / os.sysconf('SC_CLK_TCK'), kib)"
)


@dataclass(frozen=True)
class Cost:
    """What a process has used so far."""

    cpu_seconds: float
    resident_kib: int


@dataclass(frozen=True)
class Figures:
    """All that was measured; the worst of several pods or starts."""

    agent_ready_seconds: float
    first_byte_seconds: float
    agent_mib: float
    webhook_mib: float
    agent_core_percent: float
    webhook_core_percent: float
    api_writes: float
    hub_requests: float
    quiet_seconds: float


class Cluster:
    """The cluster as an admin sees it."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = KubeClient.from_kubeconfig("larder-bench", kubeconfig)

    def pods(self, namespace: str, name: str) -> list[Any]:
        """The pods of a program that are not on their way out."""
        query = [("labelSelector", f"app.kubernetes.io/name={name}")]
        found = self._client.list(collection_path("v1", "pods", namespace=namespace), query=query)
        return [pod for pod in found.items if "deletionTimestamp" not in pod["metadata"]]

    def delete_pod(self, pod: Any) -> None:
        """Delete it, as an admin does."""
        metadata = pod["metadata"]
        path = object_path("v1", "pods", metadata["name"], namespace=metadata["namespace"])
        self._client.delete(path)

    def hub(self) -> Any:
        """What the hub beside the first agent says of itself, by way of the API server."""
        pod = self.pods(SYSTEM_NAMESPACE, "larder-agent")[0]
        path = object_path("v1", "pods", pod["metadata"]["name"], namespace=SYSTEM_NAMESPACE)
        return self._client.get(f"{path}:{HUB_CONTROL_PORT}/proxy/")

    def catalog(self) -> str:
        """The catalog's text."""
        return str(self._client.get(_CATALOG)["data"][CATALOG_DATA_KEY])

    def edit_catalog(self, text: str) -> None:
        """Replace the catalog's text."""
        self._client.patch(_CATALOG, {"data": {CATALOG_DATA_KEY: text}})

    def cost(self, pod: Any) -> Cost:
        """What the program of the pod has used."""
        program = pod["metadata"]["labels"]["app.kubernetes.io/name"].removeprefix("larder-")
        place = ("-n", SYSTEM_NAMESPACE, pod["metadata"]["name"], "-c", program)
        said = _kubectl("exec", *place, "--", "/opt/larder/bin/python", "-c", _SAY_COST)
        seconds, kib = said.split()
        return Cost(float(seconds), int(kib))

    def writes(self) -> Counter[str]:
        """Requests so far that wrote what Larder may write, by verb and resource."""
        total: Counter[str] = Counter()
        for line in _kubectl("get", "--raw", "/metrics").splitlines():
            if not line.startswith("apiserver_request_total{"):
                continue
            labels = dict(_LABEL.findall(line))
            what = f"{labels['verb']} {labels['resource']}"
            if labels["verb"] in _WRITES and (labels["group"], labels["resource"]) in WRITTEN:
                total[what] += 0 if labels["subresource"] else int(float(line.rpartition(" ")[2]))
        return total


_CATALOG: Final = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)


def _kubectl(*arguments: str) -> str:
    command = ["kubectl", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - the cluster's own tool


def until(holds: Callable[[], bool], what: str, pause_seconds: float = 0.02) -> None:
    """Look until something holds, for want of an event again and again."""
    never, end = threading.Event(), time.monotonic() + PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {PATIENCE_SECONDS:.0f} s: {what}")
        never.wait(pause_seconds)


# --- the measurements ---------------------------------------------------------------------------


def measure_ready(cluster: Cluster) -> float:
    """Seconds from the start of an agent's container to its readiness, in whole seconds."""
    old = cluster.pods(SYSTEM_NAMESPACE, "larder-agent")[0]
    cluster.delete_pod(old)
    node, uid = old["spec"]["nodeName"], old["metadata"]["uid"]

    def successor() -> Any:
        for pod in cluster.pods(SYSTEM_NAMESPACE, "larder-agent"):
            if pod["spec"].get("nodeName") == node and pod["metadata"]["uid"] != uid:
                return pod
        return None

    until(lambda: _ready_at(successor()) is not None, "a ready agent")
    pod = successor()
    statuses = pod["status"]["containerStatuses"]
    state = next(s["state"]["running"] for s in statuses if s["name"] == "agent")
    ready_at = _ready_at(pod)
    return (
        (ready_at - datetime.fromisoformat(state["startedAt"])).total_seconds() if ready_at else 0
    )


def _ready_at(pod: Any) -> datetime | None:
    for condition in (pod or {}).get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return datetime.fromisoformat(condition["lastTransitionTime"])
    return None


def measure_first_byte(cluster: Cluster) -> float:
    """Seconds from an edit of the catalog to the first request for a file of the new model."""
    text = cluster.catalog()
    edited = with_spare(text, cluster.hub()["models"][SPARE.removeprefix("hf://")]["commit"])
    before = _spare_fetches(cluster.hub())
    start = time.monotonic()
    cluster.edit_catalog(edited)
    until(lambda: _spare_fetches(cluster.hub()) > before, "a request for a file of the new model")
    seconds = time.monotonic() - start
    cluster.edit_catalog(text)
    return seconds


def with_spare(text: str, commit: str) -> str:
    """The catalog with one more model, which no agent has: a pattern of its own gives a new key."""
    catalog = yaml.safe_load(text)
    never = f"bench-{os.getpid()}-{time.time_ns()}"
    entry = {"name": "spare", "storageUri": SPARE, "revision": commit, "ignorePatterns": [never]}
    same_hub = deepcopy(catalog["models"][0])  # a list written twice would be an alias
    catalog["models"].append(same_hub | entry)
    return yaml.safe_dump(catalog, sort_keys=False)


def _spare_fetches(hub: Any) -> int:
    spare = SPARE.removeprefix("hf://")
    return sum(count for path, count in hub["fetches"].items() if path.startswith(spare))


def measure_quiet(cluster: Cluster, seconds: float) -> Mapping[str, float]:
    """What it costs that Larder is there while nothing happens."""
    programs = {
        name: cluster.pods(SYSTEM_NAMESPACE, f"larder-{name}") for name in ("agent", "webhook")
    }
    before = {name: [cluster.cost(pod) for pod in pods] for name, pods in programs.items()}
    writes, requests = cluster.writes(), cluster.hub()["requests"]
    threading.Event().wait(seconds)
    written = cluster.writes() - writes
    for what, times in written.items():
        print(f"written in the quiet time: {what}, {times} times")
    figures = {
        "api_writes": float(written.total()),
        "hub_requests": float(cluster.hub()["requests"] - requests),
    }
    for name, pods in programs.items():
        after = [cluster.cost(pod) for pod in pods]
        used = [b.cpu_seconds - a.cpu_seconds for a, b in zip(before[name], after, strict=True)]
        figures[f"{name}_core_percent"] = 100 * max(used) / seconds
        figures[f"{name}_mib"] = max(cost.resident_kib for cost in after) / 1024
    return figures


def settle(cluster: Cluster) -> None:
    """Wait until nothing is left to do: for a while nobody writes, and nobody asks the hub."""
    seen: object = None
    since = time.monotonic()

    def is_left_alone() -> bool:
        nonlocal seen, since
        try:
            now = cluster.hub()["requests"], cluster.writes().total()
        except UnavailableError:
            now = None
        if now is None or now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= LEFT_ALONE_SECONDS

    until(is_left_alone, "a cluster in which nothing happens", 1.0)


def _answers(cluster: Cluster) -> bool:
    try:
        return bool(cluster.hub())
    except UnavailableError:
        return False


def run(*, short: bool) -> Figures:
    """All measurements, one after the other."""
    cluster = Cluster(Path(os.environ["KUBECONFIG"]))
    ready = max(measure_ready(cluster) for _ in range(SHORT_STARTS if short else STARTS))
    until(lambda: _answers(cluster), "a hub")
    first_byte = measure_first_byte(cluster)
    settle(cluster)
    quiet_seconds = SHORT_QUIET_SECONDS if short else QUIET_SECONDS
    quiet = measure_quiet(cluster, quiet_seconds)
    return Figures(
        agent_ready_seconds=ready,
        first_byte_seconds=first_byte,
        quiet_seconds=quiet_seconds,
        **quiet,
    )


def as_json(figures: Figures) -> dict[str, Any]:
    """The figures, the goals, and whether they are met."""
    measured = asdict(figures)
    met = all(measured[name] <= goal for name, goal in GOALS.items())
    return {**measured, "goals": GOALS, "met": met}


def table(figures: Figures) -> Table:
    """The figures for people."""
    shown = Table(
        "figure", "measured", "goal", title=f"cluster ({figures.quiet_seconds:.0f} s quiet)"
    )
    for name, value in asdict(figures).items():
        if name != "quiet_seconds":
            goal = GOALS.get(name)
            shown.add_row(
                name.replace("_", " "), f"{value:.2f}", "-" if goal is None else f"{goal:.2f}"
            )
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON. A missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="bench.cluster", description="What a cluster pays.")
    parser.add_argument("--short", action="store_true", help="a quiet time of 20 seconds")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    if not os.environ.get("KUBECONFIG"):
        sys.exit(
            "bench.cluster needs KUBECONFIG, a cluster's with the demo overlay (see README.md)"
        )
    figures = run(short=options.short)
    document = as_json(figures)
    Console(width=160).print(table(figures))
    print(f"met: {document['met']}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
