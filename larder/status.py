"""A slot's status: where a model is on its way to a node, and what a waiting pod is told.

The states, and the JSON of `status.json`: one object, replaced by rename, read by initializers of
other versions. Unknown keys are ignored, missing optional ones have the defaults below.

    {"version": 1, "state": "Downloading", "sequence": 17, "bytesDone": 1024, "bytesTotal": 4096,
     "rateBytesPerSecond": 512, "etaSeconds": 6, "joinTimeoutSeconds": 1800, "restarting": false,
     "reason": null, "revision": "0e9e39f2…", "unprovenFiles": 0, "unlistedSince": null}

`sequence` grows with every write that a living fill makes: pods compare it on their own clocks and
never look at timestamps. `reason` says why a model is Failed, or what a Queued one waits for:
`ConcurrencyLimit`, other fills (the catalog's `fills.maxConcurrent`). `bytesTotal` is 0 and
`etaSeconds` null when nobody can say. Nothing in it names a host, a token, another model or another
tenant. `unprovenFiles` are those of which the source told no digest, nor the catalog one of the
model: the first fill is what they are compared with; null where nobody knows. `unlistedSince` (unix
seconds) is for the agent itself: it must survive a restart, so it stands beside the model.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from larder.contract import DEFAULT_JOIN_TIMEOUT_SECONDS

VERSION: Final = 1


class ModelState(StrEnum):
    """Where a model is on its way to this node."""

    ABSENT = "Absent"
    QUEUED = "Queued"
    DOWNLOADING = "Downloading"
    VERIFYING = "Verifying"
    READY = "Ready"
    EVICTING = "Evicting"
    FAILED = "Failed"
    QUARANTINED = "Quarantined"


NodeLabel = Literal["ready", "filling", "failed"]


def node_label(state: ModelState) -> NodeLabel | None:
    """The value of `model.larder.dev/<key>` for a state; None means no label at all."""
    match state:
        case ModelState.READY:
            return "ready"
        case ModelState.QUEUED | ModelState.DOWNLOADING | ModelState.VERIFYING:
            return "filling"
        case ModelState.FAILED | ModelState.QUARANTINED:
            return "failed"
        case ModelState.ABSENT | ModelState.EVICTING:
            return None


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """One `status.json`. Bytes and seconds as their names say; `revision` is the resolved one."""

    state: ModelState
    sequence: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_per_second: int = 0
    eta_seconds: int | None = None
    join_timeout_seconds: int = int(DEFAULT_JOIN_TIMEOUT_SECONDS)
    restarting: bool = False
    reason: str | None = None
    revision: str | None = None
    unproven_files: int | None = None
    unlisted_since: int | None = None

    def text(self) -> str:
        """The file's content, one line of JSON."""
        document = {
            "version": VERSION,
            "state": self.state.value,
            "sequence": self.sequence,
            "bytesDone": self.bytes_done,
            "bytesTotal": self.bytes_total,
            "rateBytesPerSecond": self.rate_bytes_per_second,
            "etaSeconds": self.eta_seconds,
            "joinTimeoutSeconds": self.join_timeout_seconds,
            "restarting": self.restarting,
            "reason": self.reason,
            "revision": self.revision,
            "unprovenFiles": self.unproven_files,
            "unlistedSince": self.unlisted_since,
        }
        return json.dumps(document) + "\n"


def parse_status(text: str) -> SlotStatus | None:
    """Read a `status.json`; None if it is torn, of another version, or of a state unknown here."""
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw["version"] != VERSION:
            return None
        return SlotStatus(
            state=ModelState(raw["state"]),
            sequence=int(raw["sequence"]),
            bytes_done=int(raw.get("bytesDone", 0)),
            bytes_total=int(raw.get("bytesTotal", 0)),
            rate_bytes_per_second=int(raw.get("rateBytesPerSecond", 0)),
            eta_seconds=_optional_int(raw.get("etaSeconds")),
            join_timeout_seconds=int(raw.get("joinTimeoutSeconds", DEFAULT_JOIN_TIMEOUT_SECONDS)),
            restarting=bool(raw.get("restarting", False)),
            reason=_optional_text(raw.get("reason")),
            revision=_optional_text(raw.get("revision")),
            unproven_files=_optional_int(raw.get("unprovenFiles")),
            unlisted_since=_optional_int(raw.get("unlistedSince")),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)


def _optional_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{value!r} is not text")
