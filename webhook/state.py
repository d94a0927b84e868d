"""What the webhook knows right now. Its parts are replaced whole, never changed in place.

The watches write, from their threads; a request takes one view and keeps it to its end.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from larder.layout import Key
from larder.matching import CatalogIndex
from larder.node_facts import NodeFacts
from webhook.mutation import View, VolumeMode

UsableClaims = Mapping[str, frozenset[str]]  # the names of claims, by namespace


@dataclass(slots=True)
class State:
    """The catalog in force, the namespaces, and whether the process was asked to stop.

    `namespaces` are the labels of each by its name: None while they are not known, empty for ever
    without a cluster. `admission_path` is the unguessable part of the paths that are answered:
    None while it is not known, empty for ever without a cluster. `nodes` are those whose reports
    are known, `ready` the models that some of them has. `claims` says which pods may be given, by
    namespace; None: nobody makes any.
    """

    cache_root: PurePosixPath
    volumes: VolumeMode
    index: CatalogIndex | None = None
    namespaces: Mapping[str, Mapping[str, str]] | None = field(default_factory=dict)
    admission_path: str | None = ""
    is_stopping: bool = False
    nodes: tuple[NodeFacts, ...] = ()
    ready: frozenset[Key] = frozenset()
    claims: Callable[[], UsableClaims | None] = lambda: None

    def is_admission_path(self, path: str) -> bool:
        """Whether reviews are answered there; how long that takes says nothing of the right one."""
        known = self.admission_path
        return known is not None and hmac.compare_digest(path.encode(), known.encode())

    def view_of(self, namespace: str) -> View:
        """What a request from a namespace is decided by."""
        labels = (self.namespaces or {}).get(namespace)
        claims = self.claims()
        names = None if claims is None else claims.get(namespace, frozenset())
        return View(self.index, self.cache_root, self.volumes, labels, self.ready, names)

    @property
    def readiness_fault(self) -> str | None:
        """Why no requests should be sent here, or None."""
        if self.is_stopping:
            return "stopping"
        if self.index is None:
            return "no good catalog was loaded yet"
        if self.namespaces is None:
            return "the namespaces were not listed yet"
        return "the certificates were not read yet" if self.admission_path is None else None
