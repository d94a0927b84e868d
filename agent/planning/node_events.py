"""What a new report has that is worth an Event about the node.

Events of nodes are read by more people than may read the catalog, so that a note names a model by
its key, as the node's labels do, and gives reasons by their codes. Who may read the node's report
finds name and sentence there.

A source that is away or silent is back by itself as a rule, and asked again after seconds: that is
told once it lasts. Whatever else fails is told at once, for somebody has to do something.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from agent.planning.plan import Evict, Plan
from agent.planning.values import Failure
from larder.contract import SYSTEM_NAMESPACE, EventReason, FillFailure
from larder.layout import Key
from larder.node_report import ModelReport, NodeReport, config_map_name
from larder.status import ModelState, SlotStatus

_ON_DISK: Final = frozenset({ModelState.READY, ModelState.QUARANTINED, ModelState.EVICTING})
_PASSING: Final = frozenset({FillFailure.SOURCE_UNAVAILABLE, FillFailure.STALLED})
LASTING_ATTEMPTS: Final = 3
"""In a row they are no moment: half a minute of a source that refuses, minutes of a silent one."""
_OF_FAILURE: Final[Mapping[str, EventReason]] = {
    FillFailure.INTEGRITY_MISMATCH: EventReason.VERIFICATION_FAILED,
    FillFailure.BUDGET_EXCEEDED: EventReason.BUDGET_EXCEEDED,
    FillFailure.SOURCE_DRIFTED: EventReason.SOURCE_DRIFTED,
}


@dataclass(frozen=True, slots=True)
class ModelNews:
    """One Event to write; `note` is whole sentences."""

    reason: EventReason
    note: str


def model_news(
    before: Mapping[Key, SlotStatus],
    now: NodeReport,
    plan: Plan,
    failures: Mapping[Key, Failure],
) -> tuple[ModelNews, ...]:
    """What happened since the slots said `before`; `plan` was executed in between."""
    passing = {key for key, failure in failures.items() if _passes(failure)}
    evicted = {action.key: action.reason for action in plan.actions if isinstance(action, Evict)}
    on_disk = {model.key for model in now.models if model.state in _ON_DISK}
    gone = [
        ModelNews(EventReason.MODEL_EVICTED, f"Model {key} was evicted: {evicted[key]}.")
        for key in sorted(evicted)
        if key in before and before[key].state in _ON_DISK and key not in on_disk
    ]
    changes = [
        item
        for model in now.models
        if model.state is not ModelState.FAILED or model.key not in passing
        for item in _changes(before.get(model.key), model, now.node)
    ]
    return (*gone, *changes)


def _passes(failure: Failure) -> bool:
    return failure.reason in _PASSING and failure.attempts < LASTING_ATTEMPTS


def _changes(before: SlotStatus | None, now: ModelReport, node: str) -> Iterator[ModelNews]:
    if before and (before.state, before.reason) == (now.state, now.reason):
        return
    more = f"ConfigMap {SYSTEM_NAMESPACE}/{config_map_name(node)} says more."
    if now.state is ModelState.READY:
        yield ModelNews(EventReason.MODEL_READY, f"Model {now.key} is ready on this node.")
    elif now.state is ModelState.QUARANTINED:
        yield ModelNews(
            EventReason.VERIFICATION_FAILED,
            f"Model {now.key} is not on the disk as it was verified; no pod uses it. {more}",
        )
    elif now.state is ModelState.FAILED:
        yield ModelNews(
            _OF_FAILURE.get(now.reason or "", EventReason.FILL_FAILED),
            f"Model {now.key} could not be filled: {now.reason}. {more}",
        )
