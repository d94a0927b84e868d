"""The node's labels and its ConfigMap, kept as the newest report says, and Events about it.

A thread of its own writes: the loop only hands over reports, no fill waits for an API server.
What changed is written at once, progress seldom (`larder.node_report`), failures wait longer each
time, and only the newest report counts. A label of ours that somebody else changed is put back.
Events come after the report that they point at; of too many that wait, the oldest are lost.
"""

import threading
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from agent.cluster.node import ClusterNode
from agent.planning.node_events import ModelNews
from agent.planning.node_reports import node_labels
from larder.contract import MODEL_LABEL_PREFIX, SYSTEM_NAMESPACE
from larder.node_report import (
    COMPONENT,
    DATA_KEY,
    PROGRESS_SECONDS,
    NodeReport,
    config_map_name,
    is_due,
)
from runtime.clock import Clock
from runtime.kube.backoff import Backoff
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError, UnavailableError
from runtime.kube.events import Event, EventWriter, Reference
from runtime.kube.paths import object_path
from runtime.logs import get_logger

FIELD_MANAGER: Final = "larder-agent"
REPORTING_CONTROLLER: Final = "larder.dev/agent"
MAX_WAITING_EVENTS: Final = 100

_log = get_logger()


class ClusterReporting:
    """Writes the newest report that it was handed."""

    def __init__(
        self, client: KubeClient, node: ClusterNode, name: str, clock: Clock, backoff: Backoff
    ) -> None:
        self._client = client
        self._node = node
        self._name = name
        self._clock = clock
        self._backoff = backoff
        self._newest: NodeReport | None = None
        self._written: NodeReport | None = None
        self._written_at = 0.0
        self._labelled: tuple[Mapping[str, str], int] = ({}, -1)
        self._news = threading.Event()
        self._events = EventWriter(client, clock, REPORTING_CONTROLLER, name)
        self._waiting: deque[tuple[ModelNews, float]] = deque(maxlen=MAX_WAITING_EVENTS)

    def submit(self, report: NodeReport, news: tuple[ModelNews, ...] = ()) -> None:
        """Hand over a report and what of it is worth an Event; returns at once."""
        self._newest = report
        if (lost := len(self._waiting) + len(news) - MAX_WAITING_EVENTS) > 0:
            _log.warning("events lost", events=lost, error="the API server is away for too long")
        now = self._clock.now()
        self._waiting.extend((item, now) for item in news)
        self._news.set()

    def run(self, stop: threading.Event) -> None:
        """Write until stopped; `poke` after setting the event."""
        while not stop.is_set():
            self._news.wait(PROGRESS_SECONDS)
            self._news.clear()
            delay_seconds = self.write()
            if delay_seconds:
                stop.wait(delay_seconds)

    def poke(self) -> None:
        """Look again: something changed outside."""
        self._news.set()

    def write(self) -> float:
        """Bring the cluster to the newest report; seconds to wait after a failure, else 0."""
        report, uid = self._newest, self._node.uid()
        if report is None or uid is None:
            return 0.0
        try:
            self._write_labels(node_labels(report))
            self._write_report(report, uid)
        except KubeError as error:
            asked = error.retry_after_seconds if isinstance(error, UnavailableError) else None
            delay_seconds = self._backoff.next_seconds(asked)
            _log.warning("report not written", error=str(error), delay_seconds=delay_seconds)
            self._news.set()
            return delay_seconds
        self._backoff.reset()
        self._write_events(uid)
        return 0.0

    def _write_events(self, uid: str) -> None:
        """Those that wait; when the API server does not answer, the rest wait on."""
        about = Reference("Node", self._name, uid)
        is_there = True
        while self._waiting and is_there:
            item, at = self._waiting.popleft()
            name = f"larder-agent.{uuid.uuid4().hex}"
            is_there = self._events.write(Event(name, item.reason, about, item.note, at))

    def _write_labels(self, labels: Mapping[str, str]) -> None:
        version = self._node.version
        if self._labelled == (labels, version):
            return  # the watch has not shown our own change yet, or nothing moved
        node = self._node.node()
        there = node.labels if node else {}
        ours = {name: v for name, v in there.items() if name.startswith(MODEL_LABEL_PREFIX)}
        if ours != labels:
            gone = {name: None for name in ours if name not in labels}
            content = {"metadata": {"labels": {**gone, **labels}}}
            self._client.patch(object_path("v1", "nodes", self._name), content)
        self._labelled = (labels, version)

    def _write_report(self, report: NodeReport, uid: str) -> None:
        now = self._clock.monotonic()
        if not is_due(self._written, report, now - self._written_at):
            return
        path = object_path(
            "v1", "configmaps", config_map_name(self._name), namespace=SYSTEM_NAMESPACE
        )
        self._client.apply(path, _config_map(self._name, uid, report), field_manager=FIELD_MANAGER)
        self._written, self._written_at = report, now


def _config_map(node: str, uid: str, report: NodeReport) -> dict[str, Any]:
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(node),
            "namespace": SYSTEM_NAMESPACE,
            "labels": {"app.kubernetes.io/part-of": "larder", COMPONENT[0]: COMPONENT[1]},
            "ownerReferences": [owner],
        },
        "data": {DATA_KEY: report.text()},
    }
