"""The rewrite of a pod: each concern a pure step from pod to operations.

Image, args, resources and mounts stay KServe's; lists are only appended to, and what is already
there as it should be is left alone, so that a second application gives no operation. Whatever
already stands under a name of ours must be exactly what we would write: a pod that brings its own
is left alone, never repaired.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from larder.contract import (
    DECISION_ANNOTATION,
    FALLBACK_VARIABLE,
    INITIALIZER_COMMAND,
    KEYS_ANNOTATION,
    SLOTS_MOUNT_ROOT,
    SLOTS_VARIABLE,
    DecisionReason,
    SlotMount,
    format_slots,
    slot_mount_path,
)
from larder.layout import Key, slot_path
from larder.matching import Match
from larder.storage_uri import parse_hub_uri
from webhook.mutation.eligibility import Initializer, Refusal, Served
from webhook.mutation.patch import Operation, append, pointer
from webhook.mutation.pod import Container, Mount, Pod, is_below, path_parts
from webhook.mutation.raw import Json, JsonObject, list_of, object_of, text_of

_READ_ONLY_ANNOTATION: Final = "storage.kserve.io/readonly"
_OUR_VOLUME = re.compile(r"larder-[0-9a-f]{16}")
_OUR_PATH: Final = path_parts(SLOTS_MOUNT_ROOT)


def slot_volume_name(key: Key) -> str:
    """The name of a slot's volume in a pod (and of its claim)."""
    return f"larder-{key}"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """All that the steps need. `keys_of` says for each model volume which slots serve it."""

    initializer: Initializer
    served: tuple[Served, ...]
    keys_of: Mapping[str, tuple[Key, ...]]
    cache_root: PurePosixPath

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every slot the pod uses, sorted."""
        return tuple(sorted({s.match.entry.key for s in self.served}))

    def volume(self, key: Key) -> JsonObject:
        """A slot's volume. It is made where it is missing: a node that has no agent falls back."""
        path = str(self.cache_root / slot_path(key))
        host_path: JsonObject = {"path": path, "type": "DirectoryOrCreate"}
        return {"name": slot_volume_name(key), "hostPath": host_path}

    def mounts(self, container: Container) -> list[Json]:
        """The slot mounts that a container gets: for what it mounts of the model."""
        volumes = {m.volume for m in container.mounts}
        keys = sorted({key for v, keys in self.keys_of.items() if v in volumes for key in keys})
        return [
            {"name": slot_volume_name(key), "mountPath": slot_mount_path(key), "readOnly": True}
            for key in keys
        ]


def plan_rewrite(
    pod: Pod,
    initializer: Initializer,
    served: tuple[Served, ...],
    cache_root: PurePosixPath,
) -> Rewrite | Refusal:
    """What is to be written, or what about the pod's volumes and mounts forbids it."""
    keys_of: dict[str, tuple[Key, ...]] = {}
    for s in served:
        volume = _model_volume(pod, initializer.container, s.download.destination)
        if isinstance(volume, Refusal):
            return volume
        keys_of[volume] = (*keys_of.get(volume, ()), s.match.entry.key)
    rewrite = Rewrite(initializer, served, keys_of, cache_root)
    return _writable(pod, rewrite) or _squatted(pod, rewrite) or rewrite


def _model_volume(pod: Pod, initializer: Container, destination: str) -> str | Refusal:
    """The volume that a destination lies in: an emptyDir under the longest mount above it."""
    path = path_parts(destination)
    above = [m for m in initializer.mounts if is_below(path, m.path)]
    if not above:
        detail = "a path of its arguments lies in no volume"
        return Refusal(DecisionReason.MODEL_VOLUME_NOT_EMPTY_DIR, detail)
    name = max(above, key=lambda m: len(m.path)).volume
    if not _is_empty_dir(pod.volumes_named(name)):
        detail = "a path of its arguments lies in a volume that is no emptyDir"
        return Refusal(DecisionReason.MODEL_VOLUME_NOT_EMPTY_DIR, detail)
    return name


def _is_empty_dir(volumes: list[Mapping[str, Json]]) -> bool:
    return [set(v) for v in volumes] == [{"name", "emptyDir"}]


def _writable(pod: Pod, rewrite: Rewrite) -> Refusal | None:
    """A container would write where the links to read-only files lie, or see only a part."""
    reason = DecisionReason.WRITABLE_MOUNT_REQUESTED
    if pod.annotations.get(_READ_ONLY_ANNOTATION) == "false":
        return Refusal(reason, f'the pod has the annotation {_READ_ONLY_ANNOTATION}: "false"')
    for container in pod.all_containers:
        is_initializer = container is rewrite.initializer.container
        for mount in container.mounts:
            if mount.volume not in rewrite.keys_of:
                continue
            if mount.has_subpath:
                return Refusal(reason, "a container mounts a part of the model's volume")
            if not (mount.is_read_only or is_initializer):
                return Refusal(reason, "a container mounts the model's volume to write")
    return None


def _squatted(pod: Pod, rewrite: Rewrite) -> Refusal | None:
    """Something of the pod's own stands under a name or path of ours."""
    wanted_volumes = [rewrite.volume(key) for key in rewrite.keys]
    ours = [v for v in map(object_of, pod.volumes) if _OUR_VOLUME.fullmatch(_name(v))]
    if not _each_once(ours, wanted_volumes):
        detail = "a volume of the pod has a name of Larder's"
        return Refusal(DecisionReason.CUSTOM_STORAGE_CONTAINER, detail)
    for container in pod.all_containers:
        in_our_place = [m.raw for m in container.mounts if _is_in_our_place(m)]
        if not _each_once(in_our_place, rewrite.mounts(container)):
            detail = f"a container has a mount of its own at {SLOTS_MOUNT_ROOT}"
            return Refusal(DecisionReason.CUSTOM_STORAGE_CONTAINER, detail)
    return None


def _name(volume: Mapping[str, Json]) -> str:
    return text_of(volume.get("name"))


def _is_in_our_place(mount: Mount) -> bool:
    overlaps = is_below(mount.path, _OUR_PATH) or is_below(_OUR_PATH, mount.path)
    return overlaps or _OUR_VOLUME.fullmatch(mount.volume) is not None


def _each_once(present: Iterable[object], wanted: Iterable[object]) -> bool:
    """Whether everything present is wanted, and not there twice."""
    left = list(wanted)
    for item in present:
        if item not in left:
            return False
        left.remove(item)
    return True


# --- the steps ----------------------------------------------------------------------------------


def operations_for(pod: Pod, rewrite: Rewrite) -> tuple[Operation, ...]:
    """The patch, without operations whose effect is already there."""
    steps = (set_command, set_variables, add_mounts, add_volumes, annotate)
    return tuple(operation for step in steps for operation in step(pod, rewrite))


def set_command(_: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """The initializer runs the slot's program; its arguments stay."""
    container = rewrite.initializer.container
    command: list[Json] = list(INITIALIZER_COMMAND)
    if container.raw.get("command") != command:
        yield Operation("add", container.at + pointer("command"), command)


def set_variables(_: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """The initializer learns its slots and the way back; entries of these names are replaced."""
    container = rewrite.initializer.container
    at, raw = container.at + pointer("env"), container.raw.get("env")
    missing: list[Json] = []
    for name, value in (
        (SLOTS_VARIABLE, format_slots(_rows(rewrite.served))),
        (FALLBACK_VARIABLE, rewrite.initializer.entrypoint),
    ):
        wanted: JsonObject = {"name": name, "value": value}
        there = [(i, v) for i, v in enumerate(list_of(raw)) if object_of(v).get("name") == name]
        if not there:
            missing.append(wanted)
        for i, variable in there:
            if variable != wanted:
                yield Operation("replace", at + pointer(str(i)), wanted)
    yield from append(at, raw, missing)


def _rows(served: Iterable[Served]) -> list[SlotMount]:
    """A row a URI; the same URI for two destinations needs one."""
    rows = {s.download.uri: _row(s.download.uri, s.match) for s in served}
    return list(rows.values())


def _row(uri: str, match: Match) -> SlotMount:
    return SlotMount(
        uri=uri,
        mount_path=slot_mount_path(match.entry.key),
        subpath=match.subpath.replace("$", "$$"),  # it was matched as the kubelet unescapes it
        fallback_uri=_fallback_uri(uri, match),
    )


def _fallback_uri(uri: str, match: Match) -> str:
    """The URI at the entry's pin, so that replicas do not differ by node.

    A revision with a `/` stays out: KServe's own downloader refuses such a URI.
    """
    model = parse_hub_uri(uri)
    revision = match.entry.revision
    if model is None or revision is None or "/" in revision:
        return uri
    return model.uri(revision)


def add_mounts(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """Whoever mounts the model mounts its slots, too: the links lead there."""
    for container in pod.all_containers:
        raw = container.raw.get("volumeMounts")
        missing = [mount for mount in rewrite.mounts(container) if mount not in list_of(raw)]
        yield from append(container.at + pointer("volumeMounts"), raw, missing)


def add_volumes(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """Each slot is a volume of the pod."""
    raw = pod.spec.get("volumes")
    missing: list[Json] = [
        volume for volume in map(rewrite.volume, rewrite.keys) if volume not in list_of(raw)
    ]
    yield from append(pointer("spec", "volumes"), raw, missing)


def annotate(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """People see what was decided; nothing reads it back."""
    wanted: JsonObject = {
        DECISION_ANNOTATION: DecisionReason.CACHED.value,
        KEYS_ANNOTATION: ",".join(rewrite.keys),
    }
    at = pointer("metadata", "annotations")
    if pod.raw_annotations is None:
        yield Operation("add", at, wanted)
        return
    for name, value in wanted.items():
        if pod.annotations.get(name) != value:
            yield Operation("add", at + pointer(name), value)
