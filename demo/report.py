"""The demo's figures. `larder demo --output json` writes them as they are here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PodStart:
    """An init container's wall seconds, and the bytes that the hub sent meanwhile."""

    seconds: float
    hub_bytes: int


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One model: its pod as KServe made it, its pod from the cache, the agent's fill.

    `ratio` is how many times faster the pod from the cache had its model.
    """

    name: str
    storage_uri: str
    revision: str
    key: str
    size_bytes: int
    decision: str
    cold: PodStart
    cached: PodStart
    ratio: float
    fill_seconds: float
    check: str


@dataclass(frozen=True, slots=True)
class DemoReport:
    """All that was measured; `uncached_node` is the changed pod on a node without a copy."""

    models: tuple[ModelFigures, ...]
    uncached_node: PodStart
    notes: tuple[str, ...]
