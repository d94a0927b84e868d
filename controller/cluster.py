"""The controller's view of its cluster: watches, each in a thread of its own.

ConfigMap larder-catalog, namespaces (metadata), services ─▶ which claims there should be
PersistentVolumes and claims with our label               ─▶ which there are
"""

from collections.abc import Callable
from typing import Any, Final

from controller.planning.seen import seen_claim, seen_volume
from controller.services import Services
from larder.claims import MANAGED_BY, MANAGED_BY_LABEL
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.catalog_config_map import CatalogConfigMap
from runtime.kube.client import KubeClient
from runtime.kube.mirror import Snapshot
from runtime.kube.objects import KubeObject
from runtime.kube.paths import collection_path
from runtime.kube.watch import Surroundings, Watch
from runtime.kube.watch_protocol import Target

VOLUMES: Final = collection_path("v1", "persistentvolumes")
CLAIMS: Final = collection_path("v1", "persistentvolumeclaims")
_OURS: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
_CATALOG: Final = Target(
    collection_path("v1", "configmaps", namespace=SYSTEM_NAMESPACE),
    field_selector=f"metadata.name={CATALOG_CONFIG_MAP}",
)
_NAMESPACES: Final = Target(collection_path("v1", "namespaces"), metadata_only=True)
_KEPT: Final = ("namespace", "name", "uid", "resourceVersion", "deletionTimestamp")


class Cluster:
    """What the watches know. `wake` is called, from their threads, when something changed."""

    def __init__(
        self, around: Surroundings, requests: KubeClient, wake: Callable[[], object]
    ) -> None:
        self._catalog = Watch(_CATALOG, around, wake)
        self._namespaces = Watch(_NAMESPACES, around, wake, keep=_metadata_of)
        self._claims = Watch(
            Target(CLAIMS, label_selector=_OURS), around, wake, keep=_with(seen_claim)
        )
        self._volumes = Watch(
            Target(VOLUMES, label_selector=_OURS), around, wake, keep=_with(seen_volume)
        )
        self._watches = (self._catalog, self._namespaces, self._claims, self._volumes)
        self.services = Services(requests, around, wake)
        self.catalog = CatalogConfigMap(self._catalog.mirror)

    def start(self) -> None:
        """Begin to watch."""
        for watch in self._watches:
            watch.start()

    def close(self) -> None:
        """End the watches."""
        for watch in self._watches:
            watch.close()
        self.services.close()

    @property
    def namespaces(self) -> Snapshot:
        """Metadata of all namespaces."""
        return self._namespaces.mirror.snapshot

    @property
    def claims(self) -> Snapshot:
        """Claims with our label; `seen` of each is what plans depend on."""
        return self._claims.mirror.snapshot

    @property
    def volumes(self) -> Snapshot:
        """Volumes with our label, likewise."""
        return self._volumes.mirror.snapshot

    @property
    def is_known(self) -> bool:
        """Whether every watch has listed what it watches."""
        return all(watch.mirror.snapshot.is_known for watch in self._watches)


def _metadata_of(content: KubeObject) -> KubeObject:
    metadata = content["metadata"]
    return {"metadata": {field: metadata[field] for field in _KEPT if field in metadata}}


def _with(read: Callable[[KubeObject], Any]) -> Callable[[KubeObject], KubeObject]:
    """What a mirror compares, and the object as plans see it."""
    return lambda content: {**_metadata_of(content), "seen": read(content)}
