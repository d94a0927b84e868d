"""What about a pod's volumes and mounts forbids a rewrite, found by name, never by position.

The model must go to emptyDirs that only KServe's initializer writes, and whatever already stands
under a name of Larder's must be exactly what Larder would write: a pod that brings its own is left
alone, never repaired.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from larder.contract import SLOTS_MOUNT_ROOT, DecisionReason
from larder.layout import Key
from webhook.mutation.eligibility import Refusal, Served
from webhook.mutation.pod import Container, Mount, Pod, is_below, path_parts
from webhook.mutation.raw import Json, object_of, text_of

_READ_ONLY_ANNOTATION: Final = "storage.kserve.io/readonly"
_OUR_VOLUME = re.compile(r"larder-[0-9a-f]{16}\Z")
_OUR_PATH: Final = path_parts(SLOTS_MOUNT_ROOT)


def slot_volume_name(key: Key) -> str:
    """The name of a slot's volume in a pod (and of its claim)."""
    return f"larder-{key}"


def model_volumes(
    pod: Pod, initializer: Container, served: Iterable[Served]
) -> dict[str, set[Key]] | Refusal:
    """The volumes that destinations lie in, each an emptyDir, with the models that go there."""
    keys_of: dict[str, set[Key]] = {}
    mounted = {m.path: m.volume for m in reversed(initializer.mounts)}
    depths = sorted({len(path) for path in mounted}, reverse=True)
    for s in served:
        path = path_parts(s.download.destination)
        above = (path[:depth] for depth in depths if depth <= len(path))
        volume = next((mounted[parent] for parent in above if parent in mounted), None)
        if volume is None:
            detail = "a path of its arguments lies in no volume"
            return Refusal(DecisionReason.MODEL_VOLUME_NOT_EMPTY_DIR, detail)
        keys_of.setdefault(volume, set()).add(s.match.entry.key)
    if not all(_is_empty_dir(pod.volumes_named(volume)) for volume in keys_of):
        detail = "a path of its arguments lies in a volume that is no emptyDir"
        return Refusal(DecisionReason.MODEL_VOLUME_NOT_EMPTY_DIR, detail)
    return keys_of


def _is_empty_dir(volumes: list[Mapping[str, Json]]) -> bool:
    return [set(v) for v in volumes] == [{"name", "emptyDir"}]


def writable(pod: Pod, initializer: Container, keys_of: Mapping[str, object]) -> Refusal | None:
    """A container would write where the links to read-only files lie, or see only a part."""
    reason = DecisionReason.WRITABLE_MOUNT_REQUESTED
    if pod.annotations.get(_READ_ONLY_ANNOTATION) == "false":
        return Refusal(reason, f'the pod has the annotation {_READ_ONLY_ANNOTATION}: "false"')
    for container in pod.all_containers:
        for mount in container.mounts:
            if mount.volume not in keys_of:
                continue
            if mount.has_subpath:
                return Refusal(reason, "a container mounts a part of the model's volume")
            if not mount.is_read_only and container is not initializer:
                return Refusal(reason, "a container mounts the model's volume to write")
    return None


def squatted(
    pod: Pod, volumes: list[Json], mounts: Iterable[tuple[Container, list[Json]]]
) -> Refusal | None:
    """Something of the pod's own stands under a name or path of ours."""
    ours = [v for v in pod.volumes if _OUR_VOLUME.match(text_of(object_of(v).get("name")))]
    if not _each_once(ours, volumes):
        detail = "a volume of the pod has a name of Larder's"
        return Refusal(DecisionReason.CUSTOM_STORAGE_CONTAINER, detail)
    for container, wanted in mounts:
        in_our_place = [m.raw for m in container.mounts if _is_in_our_place(m)]
        if not _each_once(in_our_place, wanted):
            detail = f"a container has a mount of its own at {SLOTS_MOUNT_ROOT}"
            return Refusal(DecisionReason.CUSTOM_STORAGE_CONTAINER, detail)
    return None


def _is_in_our_place(mount: Mount) -> bool:
    overlaps = is_below(mount.path, _OUR_PATH) or is_below(_OUR_PATH, mount.path)
    return overlaps or _OUR_VOLUME.match(mount.volume) is not None


def _each_once(present: Iterable[object], wanted: Iterable[object]) -> bool:
    """Whether everything present is wanted, and not there twice."""
    left = list(wanted)
    for item in present:
        if item not in left:
            return False
        left.remove(item)
    return True
