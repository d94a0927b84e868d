"""The webhook as one of a cluster: four watches keep the state in step, in threads of their own.

    ConfigMap larder-catalog ─▶ catalog        namespaces, metadata only ─▶ labels of each
    ConfigMaps larder-node-… ─▶ what is known of the nodes
    claims of the controller ─▶ which of them a pod may be given
    Secret of the certificates ─▶ admission path, and the certificate unless files have it

A request only reads the state. While the API server is away, what was known stays; a watch that
ends by a defect ends the program.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from larder.errors import LarderError
from larder.node_facts import ready_keys
from runtime.catalog_config_map import CatalogConfigMap
from runtime.clock import SystemClock
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeConfigError
from runtime.kube.objects import labels_only
from runtime.kube.paths import collection_path
from runtime.kube.watch import Surroundings, Watch
from runtime.kube.watch_protocol import Target
from runtime.logs import get_logger
from webhook.catalog_watch import CatalogWatch
from webhook.claims import CLAIMS, usable_claims, verdict_only
from webhook.events import WebhookEvents
from webhook.metrics import Metrics
from webhook.node_reports import NODE_REPORTS, NodeReports, facts_only
from webhook.settings import PROGRAM
from webhook.state import State, UsableClaims

_CATALOG: Final = Target(
    collection_path("v1", "configmaps", namespace=SYSTEM_NAMESPACE),
    field_selector=f"metadata.name={CATALOG_CONFIG_MAP}",
)
_NAMESPACES: Final = Target(collection_path("v1", "namespaces"), metadata_only=True)
_log = get_logger()


class ClusterError(LarderError):
    """There is no cluster that this webhook could be one of, or a watch of it ended."""


def cluster_client(kubeconfig: Path | None) -> KubeClient:
    """A client of the cluster that a kubeconfig, or else the pod's service account, leads to.

    Raises `ClusterError` where neither leads to one.
    """
    try:
        if kubeconfig:
            return KubeClient.from_kubeconfig(PROGRAM, kubeconfig)
        return KubeClient.in_cluster(PROGRAM)
    except KubeConfigError as error:
        raise ClusterError(str(error).rstrip(".")) from error


class Cluster:
    """What is known of a cluster, kept in `state`; it closes the client at last."""

    def __init__(self, client: KubeClient, state: State, metrics: Metrics) -> None:
        state.namespaces = None
        state.admission_path = None
        self._client = client
        self._state = state
        self._stop = threading.Event()
        self._failure: ClusterError | None = None
        self._end: Callable[[], object] = self._stop.set
        clock = SystemClock()
        around = Surroundings(client, clock, self._stop, self._on_failure)
        self._catalog = Watch(_CATALOG, around, self._on_catalog)
        self._namespaces = Watch(_NAMESPACES, around, self._on_namespaces, keep=labels_only)
        self._reports = Watch(NODE_REPORTS, around, self._on_reports, keep=facts_only)
        self._claims = Watch(CLAIMS, around, self._on_claims, keep=verdict_only)
        self._known_claims: UsableClaims | None = None
        state.claims = self._claims_now
        self._watches = (self._catalog, self._namespaces, self._reports, self._claims)
        self._node_reports = NodeReports(metrics)
        self.events = WebhookEvents(client, clock, socket.gethostname())
        source = CatalogConfigMap(self._catalog.mirror)
        self._catalog_watch = CatalogWatch(source, state, metrics)

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until asked to stop. Raises `ClusterError` when a watch ended by itself."""
        loop = asyncio.get_running_loop()
        self._end = partial(loop.call_soon_threadsafe, stop.set)
        for watch in self._watches:
            watch.start()
        await stop.wait()
        await asyncio.to_thread(self._close)
        if self._failure:
            raise self._failure

    def _close(self) -> None:
        for watch in self._watches:
            watch.close()
        self._client.close()

    def _on_catalog(self) -> None:
        reading = self._catalog_watch.look()
        if reading.changed and reading.problems:
            objects = self._catalog.mirror.snapshot.objects
            config_map = objects.get((SYSTEM_NAMESPACE, CATALOG_CONFIG_MAP))
            self.events.catalog_invalid(config_map, reading.problems)

    def _on_reports(self) -> None:
        contents = self._reports.mirror.snapshot.objects.values()
        self._state.nodes = self._node_reports.take(contents)
        self._state.ready = ready_keys(self._state.nodes)

    def _on_claims(self) -> None:
        self._known_claims = usable_claims(self._claims.mirror.snapshot.objects.values())

    def _claims_now(self) -> UsableClaims | None:
        if self._known_claims is None or self._claims.mirror.snapshot.is_synced:
            return self._known_claims
        return {}

    def _on_namespaces(self) -> None:
        objects = self._namespaces.mirror.snapshot.objects
        if self._state.namespaces is None:
            _log.info("namespaces known", namespaces=len(objects))
        self._state.namespaces = {
            name: content["metadata"].get("labels") or {} for (_, name), content in objects.items()
        }

    def _on_failure(self, part: str, error: Exception) -> None:
        self._failure = ClusterError(f"the {part} ended by a defect")
        self._failure.__cause__ = error
        self._end()
