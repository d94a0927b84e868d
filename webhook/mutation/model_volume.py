"""What about a pod's volumes and mounts forbids a rewrite, found by name, never by position.

The model must go to emptyDirs that only KServe's initializer writes, and whatever already stands
under a name of Larder's must be exactly what Larder would write: a pod that brings its own is left
alone, never repaired.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from larder.contract import SLOTS_MOUNT_ROOT, DecisionReason
from larder.layout import Key
from webhook.mutation.eligibility import Refusal, Served
from webhook.mutation.pod import Container, Mount, PathParts, Pod, is_below, path_parts
from webhook.mutation.raw import Json, object_of, text_of

_READ_ONLY_ANNOTATION: Final = "storage.kserve.io/readonly"
_OUR_VOLUME = re.compile(r"larder-[0-9a-f]{16}\Z")
_OUR_PATH: Final = path_parts(SLOTS_MOUNT_ROOT)


def model_volumes(
    pod: Pod, initializer: Container, served: Collection[Served]
) -> dict[str, set[Key]] | Refusal:
    """The volumes that destinations lie in, each an emptyDir, with the models that go there."""
    reason = DecisionReason.MODEL_VOLUME_NOT_EMPTY_DIR
    mounted = {m.path: m.volume for m in reversed(initializer.mounts)}
    destinations = [path_parts(s.download.destination) for s in served]
    volume_of = _volume_of(destinations, mounted)
    if volume_of is None:
        return Refusal(reason, "another volume is mounted inside a path of its arguments")
    keys_of: dict[str, set[Key]] = {}
    for s, path in zip(served, destinations, strict=True):
        volume = volume_of[path]
        if volume is None:
            return Refusal(reason, "a path of its arguments lies in no volume")
        keys_of.setdefault(volume, set()).add(s.match.entry.key)
    if not all(_is_empty_dir(pod.volumes_named(volume)) for volume in keys_of):
        return Refusal(reason, "a path of its arguments lies in a volume that is no emptyDir")
    return keys_of


def _volume_of(
    destinations: Iterable[PathParts], mounted: Mapping[PathParts, str]
) -> dict[PathParts, str | None] | None:
    """The volume of the nearest mount above each destination.

    None if something is mounted strictly below one: links would be left in that volume. In their
    order, paths come right after those above them, so that one pass is enough for any number.
    """
    volume_of: dict[PathParts, str | None] = {}
    above: list[tuple[PathParts, str | None, bool]] = [((), mounted.get(()), False)]
    marked = {(path, False) for path in mounted} | {(path, True) for path in destinations}
    for path, is_destination in sorted(marked):
        while not is_below(path, above[-1][0]):
            above.pop()
        _, volume, is_inside = above[-1]
        if is_destination:
            volume_of[path] = volume
        elif is_inside:
            return None
        else:
            volume = mounted[path]
        above.append((path, volume, is_inside or is_destination))
    return volume_of


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
        if not _each_once([m.raw for m in container.mounts if _is_in_our_place(m)], wanted):
            detail = f"a container has a mount of its own at {SLOTS_MOUNT_ROOT}"
            return Refusal(DecisionReason.CUSTOM_STORAGE_CONTAINER, detail)
    return None


def _is_in_our_place(mount: Mount) -> bool:
    path = mount.path
    overlaps = path[: len(_OUR_PATH)] == _OUR_PATH[: len(path)]  # one is below the other
    return overlaps or _OUR_VOLUME.match(mount.volume) is not None


def _each_once(present: Iterable[object], wanted: Iterable[object]) -> bool:
    """Whether everything present is wanted, and not there twice."""
    left = list(wanted)
    for item in present:
        if item not in left:
            return False
        left.remove(item)
    return True
