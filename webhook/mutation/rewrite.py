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
from larder.layout import SLOTS, Key
from larder.matching import Match
from larder.storage_uri import parse_hub_uri
from webhook.mutation.eligibility import Initializer, Refusal, Served
from webhook.mutation.patch import Operation, append, pointer
from webhook.mutation.pod import Container, Mount, Pod, is_below, path_parts
from webhook.mutation.raw import Json, JsonObject, list_of, object_of, text_of
from webhook.mutation.restricted import completed_context, is_restricted
from webhook.mutation.values import View

_READ_ONLY_ANNOTATION: Final = "storage.kserve.io/readonly"
_OUR_VOLUME = re.compile(r"larder-[0-9a-f]{16}\Z")
_OUR_PATH: Final = path_parts(SLOTS_MOUNT_ROOT)


def slot_volume_name(key: Key) -> str:
    """The name of a slot's volume in a pod (and of its claim)."""
    return f"larder-{key}"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """All that the steps write. `mounts` holds for each container the slot mounts it gets.

    `is_restricted` says that the namespace refuses pods without the context of that profile.
    """

    initializer: Initializer
    served: tuple[Served, ...]
    keys: tuple[Key, ...]
    volumes: list[Json]
    mounts: tuple[tuple[Container, list[Json]], ...]
    is_restricted: bool


def plan_rewrite(
    pod: Pod,
    initializer: Initializer,
    served: tuple[Served, ...],
    view: View,
) -> Rewrite | Refusal:
    """What is to be written, or what about the pod's volumes and mounts forbids it."""
    keys_of = _model_volumes(pod, initializer.container, served)
    if isinstance(keys_of, Refusal):
        return keys_of
    if refusal := _writable(pod, initializer.container, keys_of):
        return refusal
    keys = tuple(sorted({s.match.entry.key for s in served}))
    volumes = [_slot_volume(key, view.cache_root) for key in keys]
    mounts = tuple((c, _slot_mounts(c, keys_of)) for c in pod.all_containers)
    return _squatted(pod, volumes, mounts) or Rewrite(
        initializer, served, keys, volumes, mounts, is_restricted(view.namespace_labels)
    )


def _slot_volume(key: Key, cache_root: PurePosixPath) -> Json:
    """A slot's volume. It is made where it is missing: on a node without agent, pods fall back."""
    path = f"{cache_root}/{SLOTS}/{key}"
    return {
        "name": slot_volume_name(key),
        "hostPath": {"path": path, "type": "DirectoryOrCreate"},
    }


def _slot_mounts(container: Container, keys_of: Mapping[str, set[Key]]) -> list[Json]:
    """The slot mounts that a container gets: for what it mounts of the model."""
    keys = {key for mount in container.mounts for key in keys_of.get(mount.volume, ())}
    return [
        {"name": slot_volume_name(key), "mountPath": slot_mount_path(key), "readOnly": True}
        for key in sorted(keys)
    ]


def _model_volumes(
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


def _writable(pod: Pod, initializer: Container, keys_of: Mapping[str, object]) -> Refusal | None:
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


def _squatted(
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


# --- the steps ----------------------------------------------------------------------------------


def operations_for(pod: Pod, rewrite: Rewrite) -> tuple[Operation, ...]:
    """The patch, without operations whose effect is already there."""
    steps = (set_command, set_variables, set_context, add_mounts, add_volumes, annotate)
    return tuple(operation for step in steps for operation in step(pod, rewrite))


def set_command(_: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """The initializer runs the slot's program; its arguments stay."""
    container = rewrite.initializer.container
    command: list[Json] = list(INITIALIZER_COMMAND)
    if container.raw.get("command") != command:
        yield Operation("add", container.at + "/command", command)


def set_variables(_: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """The initializer learns its slots and the way back; entries of these names are replaced."""
    container = rewrite.initializer.container
    at, raw = container.at + "/env", container.raw.get("env")
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
                yield Operation("replace", f"{at}/{i}", wanted)
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


def set_context(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """In a restricted namespace the initializer meets the profile, as far as nobody says no."""
    container = rewrite.initializer.container
    wanted = completed_context(container.raw, pod.spec)
    if rewrite.is_restricted and container.raw.get("securityContext") != wanted:
        yield Operation("add", container.at + "/securityContext", wanted)


def add_mounts(_: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """Whoever mounts the model mounts its slots, too: the links lead there."""
    for container, wanted in rewrite.mounts:
        raw = container.raw.get("volumeMounts")
        missing = [mount for mount in wanted if mount not in list_of(raw)]
        yield from append(container.at + "/volumeMounts", raw, missing)


def add_volumes(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """Each slot is a volume of the pod."""
    missing = [volume for volume in rewrite.volumes if volume not in pod.volumes]
    yield from append("/spec/volumes", pod.spec.get("volumes"), missing)


def annotate(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """People see what was decided; nothing reads it back."""
    wanted: JsonObject = {
        DECISION_ANNOTATION: DecisionReason.CACHED.value,
        KEYS_ANNOTATION: ",".join(rewrite.keys),
    }
    at = "/metadata/annotations"
    if pod.raw_annotations is None:
        yield Operation("add", at, wanted)
        return
    for name, value in wanted.items():
        if pod.annotations.get(name) != value:
            yield Operation("add", at + pointer(name), value)
