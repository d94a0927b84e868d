"""A pod that a cluster has, in words: what was done to it, what became of it there, and why. Pure.

What a pod says for itself is shown as what it says. Whether it was pointed at a slot, the command
of its initializer tells, or the volume in the place of it; what its nodes hold, their reports do.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from larder.contract import (
    DECISION_ANNOTATION,
    INITIALIZER_COMMAND,
    KEYS_ANNOTATION,
    SLOTS_VARIABLE,
    STORAGE_INITIALIZER,
    DecisionReason,
    parse_slots,
)
from larder.layout import Key, is_key
from larder.node_report import ModelReport, NodeReport
from larder.reasons import meaning_of
from larder.status import ModelState
from webhook.explaining.explanation import Explanation, explain_pod
from webhook.explaining.scheduling import node_fault
from webhook.mutation import AdmissionRequest, View
from webhook.mutation.pod import Container, read_pod
from webhook.mutation.raw import Json, JsonObject, list_of, object_of, text_of
from webhook.mutation.require import placed_keys

_OURS: Final = (DECISION_ANNOTATION, KEYS_ANNOTATION)
_SAID: Final = re.compile(r"(hit|joined) ([0-9]{1,9}\.[0-9]{2})s")  # the termination message


class Start(StrEnum):
    """How far a pod's model is, by its init container."""

    HIT = "Hit"
    JOINED = "Joined"
    FELL_BACK = "FellBack"
    DOWNLOADED = "Downloaded"
    FAILED = "Failed"
    RUNNING = "Running"
    WAITING = "Waiting"
    UNKNOWN = "Unknown"
    PLACED = "Placed"
    ABSENT = "Absent"


_NOT_SERVED: Final = frozenset({Start.FELL_BACK, Start.FAILED})


@dataclass(frozen=True, slots=True)
class InitializerRun:
    """What the init container did; `seconds` are those it tells, or it ran."""

    outcome: Start
    sentence: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """One model on one node. `state` is None without a word of the node about it.

    `can_take_pod` is None where the node is not known.
    """

    node: str
    key: Key
    state: ModelState | None
    reason: str | None
    message: str | None
    revision: str | None
    bytes_done: int
    bytes_total: int
    eta_seconds: int | None
    can_take_pod: bool | None
    because: str


@dataclass(frozen=True, slots=True)
class LivePod:
    """One pod: what was done to it, what it says, what became of it, and what is so now.

    `is_served`: the model comes from the node's cache, as far as can be told yet.
    """

    is_served: bool
    name: str
    node: str | None
    is_rewritten: bool
    annotations: Mapping[str, str]
    initializer: InitializerRun
    explanation: Explanation
    nodes: tuple[NodeView, ...]


@dataclass(frozen=True, slots=True)
class LiveExplanation:
    """Everything that is shown of a target. `unknown` is what could not be read, a clause each."""

    target: str
    namespace: str
    is_served: bool
    pods: tuple[LivePod, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the cluster says beside the pods. None of `nodes`: they could not be listed."""

    view: View
    catalog_problems: tuple[str, ...]
    reports: tuple[NodeReport, ...]
    nodes: Mapping[str, JsonObject] | None


def explain_live(pod: JsonObject, around: Surroundings) -> LivePod:
    """All that can be told of a pod."""
    metadata, spec = object_of(pod.get("metadata")), object_of(pod.get("spec"))
    slots = _slots(pod)
    explanation = _explanation(pod, slots, around)
    matched = {Key(uri.key) for uri in explanation.uris if uri.key}
    keys = sorted({*slots, *map(Key, explanation.keys), *matched})
    node = text_of(spec.get("nodeName")) or None
    said = object_of(metadata.get("annotations"))
    run = initializer_run(pod, is_rewritten=bool(slots))
    return LivePod(
        is_served=bool(slots) and run.outcome not in _NOT_SERVED,
        name=text_of(metadata.get("name")),
        node=node,
        is_rewritten=bool(slots),
        annotations={name: text_of(said[name]) for name in _OURS if name in said},
        initializer=run,
        explanation=explanation,
        nodes=tuple(v for key in keys for v in _views(key, pod, node, around)),
    )


# --- what was done to it --------------------------------------------------------------------------


def _slots(pod: JsonObject) -> tuple[Key, ...]:
    """The slots that a pod was pointed at; none if Larder left it alone."""
    initializer = _initializer(pod)
    if initializer is None:
        return placed_keys(read_pod(pod))
    if initializer.raw.get("command") != list(INITIALIZER_COMMAND):
        return ()
    mounts = parse_slots(text_of(initializer.variables.get(SLOTS_VARIABLE, {}).get("value"))) or ()
    keys = {mount.mount_path.rpartition("/")[2] for mount in mounts}
    return tuple(sorted(Key(key) for key in keys if is_key(key)))


def _initializer(pod: JsonObject) -> Container | None:
    found = read_pod(pod).init_containers
    return next((c for c in found if c.name == STORAGE_INITIALIZER), None)


def _explanation(pod: JsonObject, slots: tuple[Key, ...], around: Surroundings) -> Explanation:
    """What is so now; of a pod that was rewritten, that it was, and the entries of its URIs."""
    namespace = text_of(object_of(pod.get("metadata")).get("namespace"))
    request = AdmissionRequest(_unscheduled(pod), namespace)
    now, _ = explain_pod(request, around.view, around.catalog_problems)
    if slots:
        meaning = meaning_of(DecisionReason.ALREADY_REWRITTEN)
        return replace(
            now,
            is_served=True,
            reason=DecisionReason.ALREADY_REWRITTEN,
            sentence=meaning.sentence,
            cure=meaning.cure,
            detail="",
            keys=slots,
            patch=(),
        )
    if now.reason is DecisionReason.CACHED:
        return replace(
            now,
            is_served=False,
            sentence="The pod is as KServe made it; one made now is pointed at its node's copy.",
            cure="Delete the pod, so that it is made again.",
            detail="",
        )
    return replace(now, is_served=False)


def _unscheduled(pod: JsonObject) -> JsonObject:
    """The pod without the node that it was given since: reviews come before."""
    return {**pod, "spec": {k: v for k, v in object_of(pod.get("spec")).items() if k != "nodeName"}}


# --- what became of it ----------------------------------------------------------------------------


def initializer_run(pod: JsonObject, *, is_rewritten: bool) -> InitializerRun:
    """What the pod's status says of its initializer. Its message may be anything of KServe's."""
    if _initializer(pod) is None:
        if is_rewritten:
            return InitializerRun(Start.PLACED, "the model is mounted at its path")
        return InitializerRun(Start.ABSENT, "the pod has none")
    statuses = map(object_of, list_of(object_of(pod.get("status")).get("initContainerStatuses")))
    status = next((s for s in statuses if s.get("name") == STORAGE_INITIALIZER), {})
    state = object_of(status.get("state"))
    if "terminated" in state:
        run = _ended(object_of(state["terminated"]), is_rewritten=is_rewritten)
    elif "running" in state:
        since = text_of(object_of(state["running"]).get("startedAt"))
        run = InitializerRun(Start.RUNNING, f"running since {since or 'an unknown time'}")
    elif "waiting" in state:
        reason = text_of(object_of(state["waiting"]).get("reason"))
        run = InitializerRun(Start.WAITING, f"waiting: {reason or 'nobody says for what'}")
    else:
        run = InitializerRun(Start.UNKNOWN, "not started yet")
    restarts = status.get("restartCount")
    if isinstance(restarts, int) and restarts > 0:
        return replace(run, sentence=f"{run.sentence} (restarts: {restarts})")
    return run


def _ended(ended: Mapping[str, Json], *, is_rewritten: bool) -> InitializerRun:
    seconds = _seconds_between(ended.get("startedAt"), ended.get("finishedAt"))
    took = "" if seconds is None else f" after {seconds:.0f} s"
    if ended.get("exitCode") != 0:
        reason = text_of(ended.get("reason")) or "Error"
        sentence = f"ended with status {ended.get('exitCode')}{took}: {reason}"
        return InitializerRun(Start.FAILED, sentence, seconds)
    if not is_rewritten:
        return InitializerRun(Start.DOWNLOADED, f"KServe's own download, done{took}", seconds)
    if said := _SAID.fullmatch(text_of(ended.get("message")).strip()):
        word, told = said[1], float(said[2])
        outcome = Start.HIT if word == "hit" else Start.JOINED
        return InitializerRun(outcome, f"{word} in {told:.2f} s", told)
    sentence = f"fell back to KServe's own download, done{took}; its log says why"
    return InitializerRun(Start.FELL_BACK, sentence, seconds)


def _seconds_between(start: Json, end: Json) -> float | None:
    try:
        since, until = (datetime.fromisoformat(text_of(t)) for t in (start, end))
        return (until - since).total_seconds()
    except (ValueError, TypeError):  # none, or one with a zone and one without
        return None


# --- the nodes ------------------------------------------------------------------------------------


def _views(
    key: Key, pod: JsonObject, own_node: str | None, around: Surroundings
) -> Iterable[NodeView]:
    """The nodes that speak of a model, and the pod's own: that first, then those that have it."""
    found = {
        report.node: model
        for report in around.reports
        for model in report.models
        if model.key == key
    }
    names = {*found, *([own_node] if own_node else [])}
    views = [_view(name, key, found.get(name), _fault(name, pod, around)) for name in names]
    return sorted(
        views, key=lambda v: (v.node != own_node, v.state is not ModelState.READY, v.node)
    )


def _fault(name: str, pod: JsonObject, around: Surroundings) -> tuple[bool | None, str]:
    """Whether a node could take a pod, and what is to be said of it."""
    if around.nodes is None:
        return None, "the nodes could not be listed"
    node = around.nodes.get(name)
    if node is None:
        return False, "there is no such node"
    fault = node_fault(pod, node)
    return fault is None, fault or ""


def _view(
    name: str, key: Key, model: ModelReport | None, verdict: tuple[bool | None, str]
) -> NodeView:
    return NodeView(
        node=name,
        key=key,
        state=model.state if model else None,
        reason=model.reason if model else None,
        message=model.message if model else None,
        revision=model.revision if model else None,
        bytes_done=model.bytes_done if model else 0,
        bytes_total=model.bytes_total if model else 0,
        eta_seconds=model.eta_seconds if model else None,
        can_take_pod=verdict[0],
        because=verdict[1],
    )


def distinct(pods: Iterable[LivePod]) -> Iterator[Explanation]:
    """What is to be said of several pods, each thing once."""
    seen: list[Explanation] = []
    for pod in pods:
        said = replace(pod.explanation, patch=())
        if said not in seen:
            seen.append(said)
            yield said
