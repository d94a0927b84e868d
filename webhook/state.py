"""What the webhook knows right now. Its parts are replaced whole, never changed in place.

The watches write, from their threads; a request takes one view and keeps it to its end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from larder.matching import CatalogIndex
from webhook.mutation import View, VolumeMode


@dataclass(slots=True)
class State:
    """The catalog in force, the namespaces, and whether the process was asked to stop.

    `namespaces` are the labels of each by its name: None while they are not known, empty for ever
    without a cluster.
    """

    cache_root: PurePosixPath
    volumes: VolumeMode
    index: CatalogIndex | None = None
    namespaces: Mapping[str, Mapping[str, str]] | None = field(default_factory=dict)
    is_stopping: bool = False

    def view_of(self, namespace: str) -> View:
        """What a request from a namespace is decided by."""
        labels = (self.namespaces or {}).get(namespace)
        return View(self.index, self.cache_root, self.volumes, labels)

    @property
    def readiness_fault(self) -> str | None:
        """Why no requests should be sent here, or None."""
        if self.is_stopping:
            return "stopping"
        if self.index is None:
            return "no good catalog was loaded yet"
        return "the namespaces were not listed yet" if self.namespaces is None else None
