"""Placement `Require`: the slot's content stands straight at the model's path, and nothing else.

The pod waits on a node of the entry's groups until the model is there; it has no initializer and
no way back. A change takes away all that KServe added for its download, the annotation that would
make KServe add it again among it (fact T2), so it fits only pods of the simplest shape: one model,
mounted by itself. Of the others `PlacementUnsupported` says what is in the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from larder.contract import (
    DECISION_ANNOTATION,
    KEYS_ANNOTATION,
    SOURCE_URI_ANNOTATION,
    DecisionReason,
)
from larder.layout import Key, is_key
from webhook.mutation.affinity import is_placed, preferring, requirements_of, requiring
from webhook.mutation.eligibility import Initializer, Refusal, Served
from webhook.mutation.model_volume import model_volumes, squatted, writable
from webhook.mutation.patch import Operation, pointer, set_members
from webhook.mutation.pod import Container, Pod, path_parts
from webhook.mutation.raw import Json, JsonObject, list_of, object_of, text_of
from webhook.mutation.rewrite import decided
from webhook.mutation.slot_volume import slot_volume_name
from webhook.mutation.values import Change, View

_SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"


@dataclass(frozen=True, slots=True)
class Placement:
    """All that the steps write."""

    initializer: Container
    key: Key
    model_volume: str
    volume: Json
    affinity: Json


def placed(
    pod: Pod, initializer: Initializer, served: tuple[Served, ...], view: View
) -> Change | Refusal:
    """What is to be written, or what about the pod forbids it. An entry has placement Require."""
    container = initializer.container
    if fault := _unfit(pod, initializer, served):
        return Refusal(DecisionReason.PLACEMENT_UNSUPPORTED, fault)
    keys_of = model_volumes(pod, container, served)
    if isinstance(keys_of, Refusal):
        return keys_of
    if refusal := writable(pod, container, keys_of) or squatted(pod, [], ()):
        return refusal
    entry = served[0].match.entry
    groups = view.index.catalog.node_groups if view.index else []
    affinity = requiring(pod.spec.get("affinity"), requirements_of(groups, entry))
    if affinity is None:
        detail = "its node affinity has too many terms to add the entry's node groups to"
        return Refusal(DecisionReason.PLACEMENT_UNSUPPORTED, detail)
    placement = Placement(
        container,
        entry.key,
        next(iter(keys_of)),
        served[0].volume,
        preferring(affinity, view.ready & {entry.key}),
    )
    operations = tuple(operation for step in _STEPS for operation in step(pod, placement))
    return Change(len(served), (entry.key,), operations)


def _unfit(pod: Pod, initializer: Initializer, served: tuple[Served, ...]) -> str | None:
    """Why a pod's model cannot stand by itself at the model's path."""
    if len(initializer.downloads) > 1:
        return "an entry has placement Require, and the pod downloads something beside it"
    if served[0].match.subpath:
        return "an entry has placement Require, and the pod asks for a part of its model"
    destination = path_parts(served[0].download.destination)
    if destination not in {mount.path for mount in initializer.container.mounts}:
        return "an entry has placement Require, and the model lies below the volume's mount"
    if is_placed(pod.spec):
        return "an entry has placement Require, and the pod's node is chosen already"
    return None


def placed_keys(pod: Pod) -> tuple[Key, ...]:
    """The slots of a pod that has no initializer because its model was placed already.

    A pod's own words, which nothing but the reason rests on.
    """
    keys = [Key(k) for k in text_of(pod.annotations.get(KEYS_ANNOTATION)).split(",") if is_key(k)]
    is_decided = pod.annotations.get(DECISION_ANNOTATION) == DecisionReason.CACHED.value
    is_mounted = all(pod.volumes_named(slot_volume_name(key)) for key in keys)
    return tuple(keys) if is_decided and is_mounted else ()


# --- the steps ----------------------------------------------------------------------------------


def mount_content(pod: Pod, placement: Placement) -> Iterator[Operation]:
    """Whoever mounted the model mounts the slot's content, at the same path."""
    for container in pod.all_containers:
        for i, mount in enumerate(container.mounts):
            if mount.volume == placement.model_volume and container is not placement.initializer:
                ours: JsonObject = {
                    **object_of(mount.raw),
                    "name": slot_volume_name(placement.key),
                    "readOnly": True,
                }
                yield Operation("replace", f"{container.at}/volumeMounts/{i}", ours)


def sweep_volumes(pod: Pod, placement: Placement) -> Iterator[Operation]:
    """What only the initializer mounted goes with it: credentials, CA bundles, the model's."""
    swept = _mounted_by(placement.initializer)
    for container in pod.all_containers:
        if container is not placement.initializer:
            swept -= _mounted_by(container) - {placement.model_volume}
    for i, volume in reversed(list(enumerate(pod.volumes))):
        if text_of(object_of(volume).get("name")) in swept:
            yield Operation("remove", f"/spec/volumes/{i}")
    yield Operation("add", "/spec/volumes/-", placement.volume)


def _mounted_by(container: Container) -> set[str]:
    devices = list_of(container.raw.get("volumeDevices"))
    names = {text_of(object_of(device).get("name")) for device in devices}
    return {mount.volume for mount in container.mounts} | names


def require_nodes(_: Pod, placement: Placement) -> Iterator[Operation]:
    """The pod goes where the model is kept."""
    yield Operation("add", "/spec/affinity", placement.affinity)


def annotate(pod: Pod, placement: Placement) -> Iterator[Operation]:
    """KServe's annotation is kept under another name, so that KServe does not act on it again."""
    wanted = decided((placement.key,))
    uri = pod.annotations.get(_SOURCE_URI)
    if uri is not None:
        wanted[SOURCE_URI_ANNOTATION] = uri
        yield Operation("remove", "/metadata/annotations" + pointer(_SOURCE_URI))
    yield from set_members("/metadata/annotations", pod.raw_annotations, wanted)


def remove_initializer(_: Pod, placement: Placement) -> Iterator[Operation]:
    """There is nothing left to download. It goes last: those after it move up."""
    yield Operation("remove", placement.initializer.at)


_STEPS = (mount_content, sweep_volumes, require_nodes, annotate, remove_initializer)
