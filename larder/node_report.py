"""What a node tells the cluster: one JSON document in a ConfigMap of its own.

    larder-node-<node>   data: {"report.json": …}

    {"version": 1, "node": "gpu-7", "budgetBytes": 1, "usedBytes": 1, "diskBytes": 1,
     "diskAvailableBytes": 1, "nodeGroups": ["h100"], "catalogProblems": [],
     "models": [{"key": "…", "name": "…", "state": "Downloading", "reason": null, "message": null,
     "revision": "…", "bytesDone": 1, "bytesTotal": 2, "rateBytesPerSecond": 1, "etaSeconds": 1}]}

Admins and the webhook read it; tenants cannot. Readers ignore keys they do not know, leave out
models in a state that they do not know, and take another version for no report. A report is written
when a state changes, and otherwise, for bytes and rates alone, at most every `PROGRESS_SECONDS`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from larder.layout import Key, is_key
from larder.status import ModelState

VERSION: Final = 1
DATA_KEY: Final = "report.json"
PROGRESS_SECONDS: Final = 30.0
COMPONENT: Final = ("app.kubernetes.io/component", "node-report")  # a label that reports have
NODE_NAME_MAX: Final = 241  # 253, the longest name of a ConfigMap, less the prefix
_PREFIX: Final = "larder-node-"
_STATES: Final = frozenset(map(str, ModelState))


def config_map_name(node: str) -> str:
    """The name of a node's ConfigMap. Raises `ValueError` for a node whose name is too long."""
    if len(node) > NODE_NAME_MAX:
        raise ValueError(
            f"node name {node[:40]!r}… has {len(node)} characters; accepted: up to {NODE_NAME_MAX}"
        )
    return _PREFIX + node


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model of a node. `message` is the sentence of the last failure."""

    key: Key
    name: str | None
    state: ModelState
    reason: str | None = None
    message: str | None = None
    revision: str | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_per_second: int = 0
    eta_seconds: int | None = None

    @property
    def settled(self) -> "ModelReport":
        """The same without what only moves while a fill does."""
        return replace(self, bytes_done=0, rate_bytes_per_second=0, eta_seconds=None)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node. `models` are sorted by key.

    `node_groups` are those that choose the node: None while the catalog is unknown, or where the
    agent is too old to say.
    """

    node: str
    budget_bytes: int = 0
    used_bytes: int = 0
    disk_bytes: int = 0
    disk_available_bytes: int = 0
    catalog_problems: tuple[str, ...] = ()
    models: tuple[ModelReport, ...] = ()
    node_groups: tuple[str, ...] | None = None

    def text(self) -> str:
        """The document, one line of JSON."""
        document = {
            "version": VERSION,
            "node": self.node,
            "budgetBytes": self.budget_bytes,
            "usedBytes": self.used_bytes,
            "diskBytes": self.disk_bytes,
            "diskAvailableBytes": self.disk_available_bytes,
            "nodeGroups": self.node_groups,
            "catalogProblems": list(self.catalog_problems),
            "models": [_model(m) for m in self.models],
        }
        return json.dumps(document)


def is_due(before: NodeReport | None, now: NodeReport, since_seconds: float) -> bool:
    """Whether a report is to be written `since_seconds` after the one that was written last.

    Free bytes of the disk alone are no news: others write there, too.
    """
    if before is None or _settled(before) != _settled(now):
        return True
    moved = replace(before, disk_available_bytes=0) != replace(now, disk_available_bytes=0)
    return moved and since_seconds >= PROGRESS_SECONDS


def _settled(report: NodeReport) -> NodeReport:
    models = tuple(m.settled for m in report.models)
    return replace(report, models=models, used_bytes=0, disk_available_bytes=0)


def _model(m: ModelReport) -> dict[str, object]:
    return {
        "key": m.key,
        "name": m.name,
        "state": m.state.value,
        "reason": m.reason,
        "message": m.message,
        "revision": m.revision,
        "bytesDone": m.bytes_done,
        "bytesTotal": m.bytes_total,
        "rateBytesPerSecond": m.rate_bytes_per_second,
        "etaSeconds": m.eta_seconds,
    }


def parse_node_report(text: str) -> NodeReport | None:
    """Read a report; None if it is torn, of another version, or says what none can."""
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw["version"] != VERSION:
            return None
        groups = raw.get("nodeGroups")
        return NodeReport(
            node=str(raw["node"]),
            budget_bytes=_count(raw["budgetBytes"]),
            used_bytes=_count(raw["usedBytes"]),
            disk_bytes=_count(raw["diskBytes"]),
            disk_available_bytes=_count(raw["diskAvailableBytes"]),
            catalog_problems=tuple(str(p) for p in raw["catalogProblems"]),
            models=tuple(_parse_model(m) for m in raw["models"] if m["state"] in _STATES),
            node_groups=None if groups is None else tuple(str(name) for name in groups),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def report_in(config_map: Mapping[str, Any]) -> NodeReport | None:
    """The report that a ConfigMap holds; None if there is none, or it speaks for another node."""
    data = config_map.get("data")
    text = data.get(DATA_KEY) if isinstance(data, dict) else None
    report = parse_node_report(text) if isinstance(text, str) else None
    try:
        is_its_own = report and config_map_name(report.node) == config_map["metadata"]["name"]
    except ValueError:
        return None
    return report if is_its_own else None


def _parse_model(raw: dict[str, Any]) -> ModelReport:
    key = raw["key"]
    if not isinstance(key, str) or not is_key(key):
        raise ValueError(f"{key!r} is not a key")
    eta = raw["etaSeconds"]
    return ModelReport(
        key=Key(key),
        name=_text(raw["name"]),
        state=ModelState(raw["state"]),
        reason=_text(raw["reason"]),
        message=_text(raw["message"]),
        revision=_text(raw["revision"]),
        bytes_done=_count(raw["bytesDone"]),
        bytes_total=_count(raw["bytesTotal"]),
        rate_bytes_per_second=_count(raw["rateBytesPerSecond"]),
        eta_seconds=None if eta is None else _count(eta),
    )


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
