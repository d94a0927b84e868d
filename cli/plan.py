"""`larder plan`: what the agent would do next on this node, and what it would not, and why.

The observation is the agent's own, made beside it: same catalog, same scan, same pure plan. What
only the living agent knows is missing and said to be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from agent.planning.plan import (
    Action,
    Cancel,
    Evict,
    EvictReason,
    Fill,
    Observation,
    Plan,
    Publish,
    Resolve,
    make_plan,
)
from agent.planning.values import Disk
from agent.planning.wishes import Node, Wishes, wishes_of
from agent.store.inventory import scan
from cli import OutputForm
from cli.inputs import labels_of, looking_at, read_catalog_file
from cli.output import (
    FOUND_A_PROBLEM,
    console,
    in_bytes,
    refuse,
    say,
    show_json,
    show_table,
    styled,
)
from larder.layout import Key
from larder.quantities import Share, parse_share
from runtime.clock import SystemClock

JSON_EXAMPLE: Final = """\
{
  "node": "worker-1",
  "catalogProblems": [],
  "budgetBytes": 800000,
  "freeAfterBytes": 795904,
  "disk": {"totalBytes": 1000000, "availableBytes": 900000},
  "actions": [
    {
      "action": "Evict", "key": "52a2d80d4bc5fa16", "name": null, "sizeBytes": 4096,
      "reason": "Unlisted"
    }
  ],
  "deferred": [
    {"key": "7e7bd1d72ff91eb0", "name": "llama", "sizeBytes": 8192, "reason": "ConcurrencyLimit"}
  ],
  "unknown": ["fills in flight: a model that is being filled is planned again"]
}"""

LISTED: Final = "Listed"
"""Why a model comes: the catalog lists it for this node."""
UNKNOWN: Final = (
    "fills in flight: a model that is being filled is planned again",
    "failures: a fill that waits for its next try is planned at once",
    "pods: none counts as using a model or waiting for one",
)
"""What only the agent knows, and what its absence does to the plan."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line says."""

    catalog: Path
    cache_root: Path
    node_name: str
    node_labels: tuple[str, ...]
    budget: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One action. `size_bytes` is what a fill takes or an eviction frees."""

    action: str
    key: str
    name: str | None
    size_bytes: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Postponed:
    """What should happen and does not."""

    key: str
    name: str | None
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class PlanReport:
    """Everything that `larder plan` shows. Without a good catalog nothing is planned."""

    node: str
    catalog_problems: tuple[str, ...]
    budget_bytes: int | None
    free_after_bytes: int | None
    disk: Disk
    actions: tuple[Step, ...]
    deferred: tuple[Postponed, ...]
    unknown: tuple[str, ...] = UNKNOWN


def plan(question: Question, output: OutputForm) -> int:
    """Print the plan for a node. Returns the exit status."""
    node = Node(
        question.node_name,
        labels_of("--node-label", question.node_labels),
        _budget(question.budget),
    )
    read = read_catalog_file(question.catalog)
    with looking_at(question.cache_root) as root:
        disk, inventory = root.disk(), scan(root.fd)
    wishes = wishes_of(read.catalog, node, disk.total_bytes) if read.catalog else None
    seen = Observation(
        now=SystemClock().now(),
        wishes=wishes,
        inventory=inventory,
        disk=disk,
        statuses={k: slot.status for k, slot in inventory.slots.items() if slot.status},
    )
    report = report_of(node, seen, make_plan(seen), read.problems)
    if output == "json":
        show_json(report)
    else:
        _show(console(), report)
    return FOUND_A_PROBLEM if read.problems else 0


def _budget(text: str | None) -> Share | None:
    if text is None:
        return None
    try:
        return parse_share(text)
    except ValueError as error:
        refuse(f"--budget {error}")


def report_of(
    node: Node, seen: Observation, planned: Plan, problems: tuple[str, ...]
) -> PlanReport:
    """A plan as it is shown."""
    names = _names(seen.wishes)
    return PlanReport(
        node=node.name,
        catalog_problems=problems,
        budget_bytes=seen.wishes.limits.budget_bytes if seen.wishes else None,
        free_after_bytes=planned.expected_free_bytes if seen.wishes else None,
        disk=seen.disk,
        actions=tuple(_step(action, names) for action in planned.actions),
        deferred=tuple(
            Postponed(d.key, names.get(d.key), d.size_bytes, d.reason) for d in planned.deferred
        ),
    )


def _names(wishes: Wishes | None) -> Mapping[Key, str]:
    return {key: wanted.name for key, wanted in wishes.wanted.items()} if wishes else {}


def _step(action: Action, names: Mapping[Key, str]) -> Step:
    size_bytes = action.size_bytes if isinstance(action, (Fill, Evict)) else None
    return Step(
        type(action).__name__, action.key, names.get(action.key), size_bytes, _reason(action)
    )


def _reason(action: Action) -> str:
    match action:
        case Evict(reason=reason):
            return reason
        case Cancel():
            return EvictReason.UNLISTED
        case Resolve() | Fill() | Publish():
            return LISTED


def _show(out: Console, report: PlanReport) -> None:
    for problem in report.catalog_problems:
        say(out, styled(f"catalog: {problem}", "red"))
    figures = frozenset({"", "SIZE"})
    headers = ("", "ACTION", "NAME", "KEY", "SIZE", "REASON")
    rows = (
        (str(number), s.action, s.name or "", s.key, in_bytes(s.size_bytes), s.reason)
        for number, s in enumerate(report.actions, start=1)
    )
    show_table(out, headers, rows, figures)
    show_table(
        out,
        ("DEFERRED", "KEY", "SIZE", "REASON"),
        ((d.name or "", d.key, in_bytes(d.size_bytes), d.reason) for d in report.deferred),
        figures,
    )
    if report.budget_bytes is None or report.free_after_bytes is None:
        say(out, styled("without a good catalog nothing is planned", "red"))
    else:
        if not report.actions:
            say(out, "nothing to do")
        budget, free = in_bytes(report.budget_bytes), in_bytes(report.free_after_bytes)
        say(out, f"budget {budget}, {free} of it free after that")
    for line in report.unknown:
        say(out, styled(f"not known here: {line}", "dim"))
