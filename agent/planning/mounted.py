"""Which slots a pod of this node uses or waits for, read from the pod as the API server has it.

Raw JSON in, keys out; whatever is odd in a pod is no slot.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from larder.claims import claim_named
from larder.contract import STORAGE_INITIALIZER
from larder.layout import SLOTS, Key, is_key

_ENDED = frozenset({"Succeeded", "Failed"})

KubeObject = Mapping[str, Any]


def keys_mounted(pod: KubeObject, cache_root: PurePosixPath) -> frozenset[Key]:
    """Slots that a pod has as volumes: by path below the cache root, or by the claim's name.

    A pod that ended mounts nothing any more. A volume of something above the slots counts for none:
    agents and monitors of the node have such, and would keep every model for ever.
    """
    if (pod.get("status") or {}).get("phase") in _ENDED:
        return frozenset()
    return frozenset(_keys(pod, cache_root / SLOTS))


def _keys(pod: KubeObject, slots: PurePosixPath) -> Iterator[Key]:
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName") or ""
        path = PurePosixPath((volume.get("hostPath") or {}).get("path") or "/")
        below = path.relative_to(slots).parts if path.is_relative_to(slots) else ()
        if ours := claim_named("", claim):
            yield ours.key
        if below and is_key(below[0]):
            yield Key(below[0])


def is_waiting(pod: KubeObject) -> bool:
    """Whether a pod's initializer has not ended yet."""
    statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
    ended = {s.get("name") for s in statuses if (s.get("state") or {}).get("terminated")}
    return (pod.get("status") or {}).get("phase") == "Pending" and STORAGE_INITIALIZER not in ended
