"""The claims by which pods of restricted namespaces mount a slot: names, labels, who may be used.

    claim <namespace>/larder-<key>          volume larder-<namespace>-<key>
                                            hostPath <root>/slots/<key>
    claim <namespace>/larder-<key>-content  volume larder-<namespace>-<key>-content
                                            hostPath <root>/slots/<key>/content

The controller makes them and takes them away; the webhook puts them into pods; the agent reads
their names in the pods of its node. A tenant may make a claim of any name and with any label in a
namespace of its own: what a claim is bound to decides, and nobody but admins makes volumes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

from larder.layout import CONTENT, Key, slot_path

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "larder-controller"
LABELS: Final[Mapping[str, str]] = {
    MANAGED_BY_LABEL: MANAGED_BY,
    "app.kubernetes.io/part-of": "larder",
}
RETIRING_ANNOTATION: Final = "larder.dev/retiring-since"  # RFC 3339; no pod is given such a claim
READ_ONLY_MANY: Final = "ReadOnlyMany"

_CLAIM = re.compile(r"larder-([0-9a-f]{16})(-content)?")
_VOLUME = re.compile(r"larder-(.+)-([0-9a-f]{16})(-content)?")


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """One model's claim in one namespace: of its slot, or of the content in it alone."""

    namespace: str
    key: Key
    is_content: bool = False

    @property
    def _suffix(self) -> str:
        return f"{self.key}-{CONTENT}" if self.is_content else self.key

    @property
    def name(self) -> str:
        """The PersistentVolumeClaim's name."""
        return f"larder-{self._suffix}"

    @property
    def volume_name(self) -> str:
        """The PersistentVolume's name: at most 95 characters."""
        return f"larder-{self.namespace}-{self._suffix}"

    def path(self, cache_root: PurePosixPath) -> PurePosixPath:
        """The directory of the node that the volume shows, and nothing beside it."""
        slot = cache_root / slot_path(self.key)
        return slot / CONTENT if self.is_content else slot


def claim_named(namespace: str, name: str) -> Claim | None:
    """The claim that a PersistentVolumeClaim's name is kept for, if any."""
    parts = _CLAIM.fullmatch(name)
    return parts and Claim(namespace, Key(parts[1]), parts[2] is not None)


def claim_of_volume(name: str) -> Claim | None:
    """The claim that a PersistentVolume's name is kept for, if any."""
    parts = _VOLUME.fullmatch(name)
    return parts and Claim(parts[1], Key(parts[2]), parts[3] is not None)


def is_ours(content: Mapping[str, Any]) -> bool:
    """Whether a PersistentVolumeClaim is what the controller makes under its name."""
    metadata, spec = content["metadata"], content.get("spec") or {}
    claim = claim_named(metadata.get("namespace") or "", metadata["name"])
    return (
        claim is not None
        and (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY
        and spec.get("volumeName") == claim.volume_name
        and spec.get("accessModes") == [READ_ONLY_MANY]
    )


def is_usable(content: Mapping[str, Any]) -> bool:
    """Whether a pod may be given a PersistentVolumeClaim: it is ours, Bound, and stays."""
    metadata = content["metadata"]
    return (
        is_ours(content)
        and (content.get("status") or {}).get("phase") == "Bound"
        and not metadata.get("deletionTimestamp")
        and RETIRING_ANNOTATION not in (metadata.get("annotations") or {})
    )


def retiring_since(content: Mapping[str, Any]) -> float | None:
    """Since when a claim is on its way out, in Unix seconds; 0 where that cannot be read."""
    text = (content["metadata"].get("annotations") or {}).get(RETIRING_ANNOTATION)
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
