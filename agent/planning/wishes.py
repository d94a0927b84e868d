"""What the catalog wants of this node: its models, and the limits they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from larder.catalog import DEFAULT_BUDGET, BandwidthHours, Catalog, ModelEntry, Network
from larder.layout import Key
from larder.quantities import Share


@dataclass(frozen=True, slots=True)
class Wanted:
    """One model this node should hold. Of two, the one with the higher priority stays."""

    key: Key
    name: str
    priority: int = 0
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The node's share of disk and effort. Percentages are of the budget."""

    budget_bytes: int
    free_floor_bytes: int
    high_threshold_percent: int = 90
    low_threshold_percent: int = 80
    min_age_seconds: float = 600.0
    unlisted_ttl_seconds: float = 86400.0
    max_concurrent: int = 2
    join_timeout_seconds: int = 1800
    max_bandwidth: int | Sequence[BandwidthHours] = 0
    xet_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """The catalog, read for one node. `entries` are those of `wanted`, whole.

    `groups` are the names of the node's groups, in document order; `network` is the way out for
    entries that name none.
    """

    wanted: Mapping[Key, Wanted]
    limits: Limits
    entries: Mapping[Key, ModelEntry] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    network: Network = field(default_factory=Network)


@dataclass(frozen=True, slots=True)
class Node:
    """Who we are: name, labels, and the budget given on the command line, if any."""

    name: str
    labels: Mapping[str, str]
    budget: Share | None = None


def wishes_of(catalog: Catalog, node: Node, filesystem_bytes: int) -> Wishes:
    """Read a catalog for a node. Of several budgets (groups, command line) the smallest holds."""
    groups = catalog.groups_of(node.labels)
    shares = [group.budget for group in groups]
    if node.budget is not None:
        shares.append(node.budget)
    budget = min(share.of_bytes(filesystem_bytes) for share in shares or [DEFAULT_BUDGET])
    defaults = catalog.defaults
    entries = {entry.key: entry for entry in catalog.models_of(node.labels)}
    return Wishes(
        wanted={key: _wanted(entry) for key, entry in entries.items()},
        entries=entries,
        groups=tuple(group.name for group in groups),
        network=defaults.network,
        limits=Limits(
            budget_bytes=budget,
            free_floor_bytes=defaults.free_floor.of_bytes(filesystem_bytes),
            high_threshold_percent=defaults.eviction.high_threshold_percent,
            low_threshold_percent=defaults.eviction.low_threshold_percent,
            min_age_seconds=defaults.eviction.min_age,
            unlisted_ttl_seconds=defaults.unlisted_ttl,
            max_concurrent=defaults.fills.max_concurrent,
            join_timeout_seconds=int(defaults.join_timeout),
            max_bandwidth=defaults.fills.max_bandwidth,
            xet_memory_bytes=defaults.fills.xet_memory,
        ),
    )


def _wanted(entry: ModelEntry) -> Wanted:
    return Wanted(
        key=entry.key,
        name=entry.name,
        priority=entry.priority,
        is_pinned=entry.retention == "Pinned",
    )
