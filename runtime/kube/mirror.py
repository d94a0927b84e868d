"""The newest known objects of a collection: replaced as a whole, never changed in place.

One thread writes (the watch), any number reads `snapshot`: one attribute, so that a reader sees one
moment. While the API server is away the last known objects stay, and the snapshot says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from runtime.kube.objects import KubeObject, ObjectName, name_of

_NOTHING: Final[Mapping[ObjectName, KubeObject]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object; None: it is gone."""

    name: ObjectName
    content: KubeObject | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of the mirror. The objects are shared: nobody changes them.

    `version` grows with every change of `objects`; 0 means that they were never listed, which is
    not the same as there being none. `is_synced` is whether the watch is in touch.
    """

    objects: Mapping[ObjectName, KubeObject] = field(default_factory=lambda: _NOTHING)
    version: int = 0
    is_synced: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the collection was ever listed."""
        return self.version > 0


class Mirror:
    """Holds the newest snapshot; `on_change` is called after objects changed, by the writer."""

    def __init__(self, on_change: Callable[[], object] | None = None) -> None:
        self._on_change = on_change
        self._snapshot = Snapshot()

    @property
    def snapshot(self) -> Snapshot:
        """The newest moment."""
        return self._snapshot

    def fill(self, listed: Sequence[KubeObject]) -> None:
        """Take a whole list: what it lacks is gone. The same objects once more are no change."""
        objects = {name_of(content): content for content in listed}
        if self._snapshot.is_known and _versions(objects) == _versions(self._snapshot.objects):
            self.heard()
        else:
            self._take(objects)

    def change(self, changes: Sequence[Change]) -> None:
        """Take what a watch told, in its order; without any changes: it is still there."""
        if not changes:
            self.heard()
            return
        objects = dict(self._snapshot.objects)
        for change in changes:
            if change.content is None:
                objects.pop(change.name, None)
            else:
                objects[change.name] = change.content
        self._take(objects)

    def heard(self) -> None:
        """The watch is in touch."""
        self._snapshot = replace(self._snapshot, is_synced=True)

    def lost(self) -> None:
        """The watch is out of touch; what is known stays."""
        self._snapshot = replace(self._snapshot, is_synced=False)

    def _take(self, objects: Mapping[ObjectName, KubeObject]) -> None:
        self._snapshot = Snapshot(
            objects=MappingProxyType(objects),
            version=self._snapshot.version + 1,
            is_synced=True,
        )
        if self._on_change:
            self._on_change()


def _versions(
    objects: Mapping[ObjectName, KubeObject],
) -> Mapping[ObjectName, tuple[object, object]]:
    return {
        name: (content["metadata"].get("uid"), content["metadata"].get("resourceVersion"))
        for name, content in objects.items()
    }
