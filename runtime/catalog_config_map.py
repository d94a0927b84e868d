"""The catalog as the cluster's ConfigMap `larder-catalog`, seen through a watch.

Until the API server was reached the catalog is unknown, without a word: the watch tells of that. A
ConfigMap that is not there is a problem. A watch that is out of touch keeps the last one: the API
server being away is no edit.
"""

from larder.contract import CATALOG_CONFIG_MAP, CATALOG_DATA_KEY, SYSTEM_NAMESPACE
from larder.errors import CatalogError
from runtime.catalog_source import CatalogSource
from runtime.kube.mirror import Mirror
from runtime.kube.objects import KubeObject

_WHERE = f"ConfigMap {SYSTEM_NAMESPACE}/{CATALOG_CONFIG_MAP}"


class CatalogConfigMap(CatalogSource):
    """A catalog in a ConfigMap: nothing is read again until the mirror changed."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(standalone=False)
        self._mirror = mirror
        self._seen_version: int | None = None

    def _newest(self) -> bytes | None:
        snapshot = self._mirror.snapshot
        if not snapshot.is_known or snapshot.version == self._seen_version:
            return None
        self._seen_version = snapshot.version
        content = snapshot.objects.get((SYSTEM_NAMESPACE, CATALOG_CONFIG_MAP))
        if content is None:
            raise CatalogError((f"{_WHERE}: is not there",))
        return catalog_document(content)


def catalog_document(content: KubeObject) -> bytes:
    """The catalog's text in the ConfigMap. Raises `CatalogError` where there is none."""
    document = (content.get("data") or {}).get(CATALOG_DATA_KEY)
    if not isinstance(document, str):
        raise CatalogError((f"{_WHERE}: has no key {CATALOG_DATA_KEY!r}",))
    return document.encode()
