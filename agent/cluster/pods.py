"""The pods of this node: a watch says who uses what, a consistent list decides an eviction."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from agent.planning.mounted import is_waiting, keys_mounted
from larder.layout import Key
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError
from runtime.kube.mirror import Mirror
from runtime.kube.paths import collection_path
from runtime.logs import get_logger

LIST_TIMEOUT: Final = (2.0, 5.0)  # an eviction that cannot be decided in that time is taken back

_log = get_logger()


def pods_selector(node: str) -> str:
    """The field selector of a node's pods."""
    return f"spec.nodeName={node}"


class ClusterPods:
    """`agent.pods.Pods` of a real node."""

    def __init__(
        self, client: KubeClient, mirror: Mirror, node: str, cache_root: PurePosixPath
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._node = node
        self._cache_root = cache_root

    def in_use(self) -> frozenset[Key] | None:
        """Keys that some pod mounts; None while the watch is out of touch."""
        snapshot = self._mirror.snapshot
        if not snapshot.is_known or not snapshot.is_synced:
            return None
        return self._keys(snapshot.objects.values())

    def waiting(self) -> frozenset[Key]:
        """Keys that some pod's initializer waits for."""
        return self._keys(filter(is_waiting, self._mirror.snapshot.objects.values()))

    def uses(self, key: Key) -> bool:
        """Whether a consistent list shows a pod with this slot; True when nobody can say."""
        try:
            listing = self._client.list(
                collection_path("v1", "pods"),
                query=[("fieldSelector", pods_selector(self._node))],
                timeout=LIST_TIMEOUT,
            )
        except KubeError as error:
            _log.warning("eviction taken back: the pods are unknown", key=key, error=str(error))
            return True
        return key in self._keys(listing.items)

    def _keys(self, pods: Iterable[Mapping[str, Any]]) -> frozenset[Key]:
        return frozenset[Key]().union(*(keys_mounted(pod, self._cache_root) for pod in pods))
