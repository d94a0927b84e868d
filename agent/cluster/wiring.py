"""What the loop needs of a cluster, built from one client: three watches and one writer.

ConfigMap larder-catalog ─▶ catalog        Node ─▶ labels, owner of the report
pods of this node ─▶ who uses what         report ─▶ labels, ConfigMap larder-node-<node>

Nothing is written to a cluster so old that no policy would hold the writes to this node: the agent
ends, and pods download as without it.
"""

import threading
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from agent.cluster.node import ClusterNode
from agent.cluster.pods import ClusterPods, pods_selector
from agent.cluster.reporting import ClusterReporting
from agent.cluster.secrets import ClusterSecrets
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from larder.quantities import Share
from runtime.catalog_config_map import CatalogConfigMap
from runtime.kube.backoff import Backoff
from runtime.kube.errors import KubeError
from runtime.kube.paths import collection_path
from runtime.kube.version import refuse_old_cluster
from runtime.kube.watch import Surroundings, Watch
from runtime.kube.watch_protocol import Target

_STOP_SECONDS: Final = 5.0


class Cluster:
    """The cluster as this agent sees it. `wake` is called when something changed."""

    def __init__(
        self, around: Surroundings, name: str, budget: Share | None, wake: Callable[[], None]
    ) -> None:
        client, clock = around.client, around.clock
        self._name = name
        self._around = around
        own = f"metadata.name={name}"
        config_maps = collection_path("v1", "configmaps", namespace=SYSTEM_NAMESPACE)
        catalog = Target(config_maps, field_selector=f"metadata.name={CATALOG_CONFIG_MAP}")
        self._catalog = Watch(catalog, around, wake)
        self._nodes = Watch(
            Target(collection_path("v1", "nodes"), field_selector=own), around, self._on_node
        )
        pods = Target(collection_path("v1", "pods"), field_selector=pods_selector(name))
        self._pods = Watch(pods, around, wake)
        self._wake = wake
        self.node = ClusterNode(self._nodes.mirror, name, budget)
        self.catalog = CatalogConfigMap(self._catalog.mirror)
        self.secrets = ClusterSecrets(client)
        self.reporting = ClusterReporting(client, self.node, name, clock, Backoff(around.random))
        self._writer = threading.Thread(target=self._write, name="report", daemon=True)

    def pods(self, cache_root: PurePosixPath) -> ClusterPods:
        """The pods of this node, by what they mount of a cache root (its path on the node)."""
        return ClusterPods(self._around.client, self._pods.mirror, self._name, cache_root)

    def start(self) -> None:
        """Begin to watch and to write."""
        for watch in (self._catalog, self._nodes, self._pods):
            watch.start()
        self._writer.start()

    def close(self) -> None:
        """End everything; what was reported stays."""
        self._around.stop.set()
        self.reporting.poke()
        for watch in (self._catalog, self._nodes, self._pods):
            watch.close(_STOP_SECONDS)
        self._writer.join(_STOP_SECONDS)

    def _on_node(self) -> None:
        self.reporting.poke()
        self._wake()

    def _write(self) -> None:
        try:
            self._wait_for_version()
            self.reporting.run(self._around.stop)
        except Exception as error:  # noqa: BLE001 - whatever it was, the program must know
            self._around.on_failure("report", error)

    def _wait_for_version(self) -> None:
        """Before the first write; while the API server is away, nothing could be written."""
        backoff = Backoff(self._around.random)
        while not self._around.stop.is_set():
            try:
                refuse_old_cluster(self._around.client)
            except KubeError:
                self._around.stop.wait(backoff.next_seconds())
            else:
                return
