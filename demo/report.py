"""The demo's figures, as values and as a document."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PodStart:
    """An init container's wall seconds, and the bytes that the hub sent meanwhile."""

    seconds: float
    hub_bytes: int


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One model: its pod as KServe made it, its pod from the cache, the agent's fill."""

    name: str
    storage_uri: str
    revision: str
    key: str
    size_bytes: int
    decision: str
    cold: PodStart
    cached: PodStart
    fill_seconds: float
    check: str

    @property
    def ratio(self) -> float:
        """How many times faster the pod from the cache had its model."""
        return self.cold.seconds / self.cached.seconds


@dataclass(frozen=True, slots=True)
class DemoReport:
    """All that was measured; `uncached_node` is the rewritten pod on a node without a copy."""

    models: tuple[ModelFigures, ...]
    uncached_node: PodStart
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The report as JSON, with the keys' units in their names."""
        models = [{**asdict(m), "ratio": round(m.ratio, 1)} for m in self.models]
        document = {
            "models": models,
            "uncached_node": asdict(self.uncached_node),
            "notes": list(self.notes),
        }
        return {_camel(name): _in_camel_case(member) for name, member in document.items()}


def _in_camel_case(value: Any) -> Any:
    if isinstance(value, dict):
        return {_camel(name): _in_camel_case(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_in_camel_case(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
