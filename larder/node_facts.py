"""What an edit of the catalog is judged by: of each node's report, what matters there.

Sizes are known of models that some node listed; of others `maxSize` says how large they may get,
and where nothing does, they count nothing: a warning is given where it is sure, or where the
admin's own numbers give cause.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from sys import intern

from larder.catalog import DEFAULT_BUDGET, Catalog, ModelEntry
from larder.layout import Key
from larder.node_report import NodeReport
from larder.quantities import format_bytes
from larder.status import ModelState


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model of a node; `size_bytes` is 0 while nobody listed it, `revision` of a Ready one."""

    name: str | None
    size_bytes: int
    revision: str | None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. `groups` is None while they are unknown; `budget_bytes` is by the catalog then."""

    node: str
    disk_bytes: int
    budget_bytes: int
    groups: frozenset[str] | None
    models: Mapping[Key, ModelFacts]


def facts_of(report: NodeReport) -> NodeFacts:
    """What is kept of a report: nothing that moves with a fill's progress."""
    models = {}
    for model in report.models:
        is_ready = model.state is ModelState.READY and model.revision is not None
        models[Key(intern(model.key))] = ModelFacts(
            name=None if model.name is None else intern(model.name),
            size_bytes=model.bytes_total,
            revision=intern(model.revision or "") if is_ready else None,
        )
    groups = None if report.node_groups is None else frozenset(map(intern, report.node_groups))
    return NodeFacts(report.node, report.disk_bytes, report.budget_bytes, groups, models)


def ready_keys(nodes: Iterable[NodeFacts]) -> frozenset[Key]:
    """Models that some node has Ready."""
    return frozenset(
        k for n in nodes for k, model in n.models.items() if model.revision is not None
    )


def differing_revisions(nodes: Iterable[NodeFacts]) -> Mapping[Key, tuple[str, ...]]:
    """Models that are Ready with one revision here and another there, and those revisions."""
    seen: dict[Key, set[str]] = {}
    for node in nodes:
        for key, model in node.models.items():
            if model.revision is not None:
                seen.setdefault(key, set()).add(model.revision)
    return {key: tuple(sorted(found)) for key, found in sorted(seen.items()) if len(found) > 1}


@dataclass(frozen=True, slots=True)
class _Room:
    """Nodes of the same groups: what the smallest of them may hold, and which one it is."""

    groups: frozenset[str]
    budget_bytes: int
    node: NodeFacts | None = None


def room_notes(catalog: Catalog, nodes: Sequence[NodeFacts] = ()) -> tuple[str, ...]:
    """What does not fit the budgets: pinned models together, or a model's two revisions."""
    sizes = _sizes(nodes)
    notes = []
    for room in _rooms(catalog, nodes):
        entries = _entries_of(catalog, room.groups)
        notes += [f"{_place(room)} {note}" for note in _notes_of(room, entries, sizes)]
    return tuple(notes)


def _sizes(nodes: Iterable[NodeFacts]) -> Mapping[Key, int]:
    sizes: dict[Key, int] = {}
    for node in nodes:
        for key, model in node.models.items():
            sizes[key] = max(model.size_bytes, sizes.get(key, 0))
    return sizes


def _rooms(catalog: Catalog, nodes: Iterable[NodeFacts]) -> Iterator[_Room]:
    """The tightest node of each set of groups; a group without nodes by its bytes, if it has any.

    Which groups a node is in, its labels say, which nobody here knows: they are those of its
    report, as far as the catalog still has them.
    """
    budgets = {group.name: group.budget for group in catalog.node_groups}
    tightest: dict[frozenset[str], _Room] = {}
    for node in nodes:
        if node.groups is None:
            continue
        groups = node.groups.intersection(budgets)
        shares = [budgets[name] for name in groups] or [DEFAULT_BUDGET]
        budget_bytes = min(share.of_bytes(node.disk_bytes) for share in shares)
        if not node.groups:  # no edit changes it; it may be the agent's own, from its flag
            budget_bytes = node.budget_bytes
        if groups not in tightest or budget_bytes < tightest[groups].budget_bytes:
            tightest[groups] = _Room(groups, budget_bytes, node)
    yield from sorted(tightest.values(), key=lambda room: sorted(room.groups))
    inhabited = frozenset[str]().union(*tightest)
    for name, budget in budgets.items():
        if name not in inhabited and budget.size_bytes is not None:
            yield _Room(frozenset({name}), budget.size_bytes)


def _entries_of(catalog: Catalog, groups: frozenset[str]) -> list[ModelEntry]:
    return [e for e in catalog.models if not e.node_groups or groups & set(e.node_groups)]


def _notes_of(
    room: _Room, entries: Sequence[ModelEntry], sizes: Mapping[Key, int]
) -> Iterator[str]:
    holds = f"may hold {format_bytes(room.budget_bytes)}"
    pinned = [entry for entry in entries if entry.retention == "Pinned"]
    needed = sum(_size_of(entry, sizes) for entry in pinned)
    if needed > room.budget_bytes:
        names = ", ".join(repr(entry.name) for entry in pinned)
        is_sure = all(sizes.get(entry.key) for entry in pinned if _size_of(entry, sizes))
        take = "take" if is_sure else "may take up to"
        yield f"{holds}, and the pinned models {take} {format_bytes(needed)}: {names}"
    if room.node is None:
        return
    used = sum(model.size_bytes for model in room.node.models.values())
    for entry in entries:
        old_bytes = _old_size(entry, room.node)
        new_bytes = sizes.get(entry.key) or old_bytes
        if old_bytes and used + new_bytes > room.budget_bytes:
            yield f"{holds}, too little for the old and the new model {entry.name!r} side by side"


def _size_of(entry: ModelEntry, sizes: Mapping[Key, int]) -> int:
    return sizes.get(entry.key) or entry.max_size or 0


def _old_size(entry: ModelEntry, node: NodeFacts) -> int:
    """Bytes of what a node has by an entry's name, but with another identity."""
    if entry.key in node.models:
        return 0
    return max((m.size_bytes for m in node.models.values() if m.name == entry.name), default=0)


def _place(room: _Room) -> str:
    names = ", ".join(map(repr, sorted(room.groups)))
    groups = f"node groups {names}" if len(room.groups) > 1 else f"node group {names}"
    where = groups if room.groups else "nodes of no group"
    return f"{where}: node {room.node.node!r}" if room.node else f"{where}: a node"
