"""Placement `Prefer`: each concern of the rewrite a pure step from pod to operations.

Image, args, resources and mounts stay KServe's; lists are only appended to, and what is already
there as it should be is left alone, so that a second application gives no operation.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from larder.contract import (
    DECISION_ANNOTATION,
    FALLBACK_VARIABLE,
    INITIALIZER_COMMAND,
    KEYS_ANNOTATION,
    SLOTS_VARIABLE,
    DecisionReason,
    SlotMount,
    format_slots,
    slot_mount_path,
)
from larder.layout import Key
from larder.matching import Match
from larder.storage_uri import parse_hub_uri
from webhook.mutation.affinity import is_placed, preferring
from webhook.mutation.eligibility import Initializer, Refusal, Served
from webhook.mutation.model_volume import model_volumes, squatted, writable
from webhook.mutation.patch import Operation, append, set_members
from webhook.mutation.pod import Container, Pod
from webhook.mutation.raw import Json, JsonObject, list_of, object_of
from webhook.mutation.restricted import completed_context, is_restricted
from webhook.mutation.slot_volume import slot_volume_name
from webhook.mutation.values import Change, View


@dataclass(frozen=True, slots=True)
class Rewrite:
    """All that the steps write. `mounts` holds for each container the slot mounts it gets."""

    initializer: Initializer
    served: tuple[Served, ...]
    keys: tuple[Key, ...]
    volumes: list[Json]
    mounts: tuple[tuple[Container, list[Json]], ...]
    view: View


def rewritten(
    pod: Pod, initializer: Initializer, served: tuple[Served, ...], view: View
) -> Change | Refusal:
    """What is to be written, or what about the pod's volumes and mounts forbids it."""
    keys_of = model_volumes(pod, initializer.container, served)
    if isinstance(keys_of, Refusal):
        return keys_of
    volume_of = {s.match.entry.key: s.volume for s in served}
    keys = tuple(sorted(volume_of))
    volumes = [volume_of[key] for key in keys]
    mounts = tuple([(c, _slot_mounts(c, keys_of)) for c in pod.all_containers])
    refusal = writable(pod, initializer.container, keys_of) or squatted(pod, volumes, mounts)
    if refusal:
        return refusal
    rewrite = Rewrite(initializer, served, keys, volumes, mounts, view)
    operations = tuple(operation for step in _STEPS for operation in step(pod, rewrite))
    return Change(len(served), keys, operations)


def _slot_mounts(container: Container, keys_of: Mapping[str, set[Key]]) -> list[Json]:
    """The slot mounts that a container gets: for what it mounts of the model."""
    keys = {key for mount in container.mounts for key in keys_of.get(mount.volume, ())}
    return [
        {"name": slot_volume_name(key), "mountPath": slot_mount_path(key), "readOnly": True}
        for key in sorted(keys)
    ]


# --- the steps ----------------------------------------------------------------------------------


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
    revision = match.entry.revision
    if revision is None or "/" in revision:
        return uri
    model = parse_hub_uri(uri)
    return uri if model is None else model.uri(revision)


def set_context(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """In a restricted namespace the initializer meets the profile, as far as nobody says no."""
    container = rewrite.initializer.container
    wanted = completed_context(container.raw, pod.spec)
    if (
        is_restricted(rewrite.view.namespace_labels)
        and container.raw.get("securityContext") != wanted
    ):
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


def prefer_ready_nodes(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """The scheduler is told of nodes that have the models, while there are some."""
    ready = [] if is_placed(pod.spec) else [k for k in rewrite.keys if k in rewrite.view.ready]
    affinity = pod.spec.get("affinity")
    wanted = preferring(affinity, ready)
    if wanted != affinity:
        yield Operation("add", "/spec/affinity", wanted)


def annotate(pod: Pod, rewrite: Rewrite) -> Iterator[Operation]:
    """People see what was decided; nothing reads it back."""
    yield from set_members("/metadata/annotations", pod.raw_annotations, decided(rewrite.keys))


def decided(keys: Iterable[Key]) -> JsonObject:
    """The annotations that tell people what was decided."""
    return {
        DECISION_ANNOTATION: DecisionReason.CACHED.value,
        KEYS_ANNOTATION: ",".join(keys),
    }


_STEPS = (
    set_command,
    set_variables,
    set_context,
    add_mounts,
    add_volumes,
    prefer_ready_nodes,
    annotate,
)
