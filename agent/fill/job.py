"""What a fill's parent and child say to each other: a job and steering down, event lines up.

JSON, one object a line. The job comes first on the child's standard input and is the only place
where a secret ever is; then a line whenever something changes that a fill under way has to heed.
The open pipe means "go on", its end means "exit". Events come on standard output:

    {"event": "heard"}
    {"event": "listed", "revision": "0e9e39f2…", "files": 12, "bytes": 4096}
    {"event": "progress", "state": "Downloading", "bytesDone": 1, "bytesTotal": 2,
     "bytesFetched": 1, "isSetAside": true}
    {"event": "noted", "message": "…"}
    {"event": "done"}
    {"event": "failed", "reason": "SourceUnavailable", "message": "…", "permanent": false,
     "retryAfterSeconds": null}

`heard`: the source answered while it is listed, when nothing else moves. `bytesDone` counts bytes
of the model that are on disk and were hashed, in this run or in an earlier one; `bytesFetched` what
came from the source in this run; `isSetAside` says that the disk counts all of the model as taken.
`noted` is for the log. `done` or `failed` is the last.
"""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from agent.planning.streams import MOST_STREAMS
from agent.sources.secret import NO_SECRET, Secret
from agent.sources.web import Network
from larder.contract import FillFailure
from larder.errors import FillError, PermanentError, TransientError
from larder.layout import PART_BYTES, Key
from larder.status import ModelState


class Operation(StrEnum):
    """What a child is to do."""

    RESOLVE = "resolve"
    FILL = "fill"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a child fetches. `tries` are those without progress, before the fault is reported.

    A range is what a stream asks for at once: as much as a part, since hubs count requests.
    `chunk_seconds` is the longest that the next 256 KiB may take.
    """

    part_bytes: int = PART_BYTES
    range_bytes: int = PART_BYTES
    first_streams: int = 1
    most_streams: int = MOST_STREAMS
    chunk_seconds: float = 30.0
    tries: int = 4
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 15.0
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 30.0


DEFAULT_PACE: Final = Pace()
_COUNTS: Final = ("bytesDone", "bytesTotal", "bytesFetched")


@dataclass(frozen=True, slots=True)
class Steering:
    """What may change while a child is at work; a rate of 0 is no limit.

    `keeps_cache`: a pod waits for the model, and is about to read what is in the page cache.
    """

    bytes_per_second: int = 0
    keeps_cache: bool = False

    def line(self) -> bytes:
        """The line that a child reads."""
        return json.dumps(asdict(self)).encode() + b"\n"


def parse_steering(line: bytes) -> Steering:
    """Read what a parent of the same release wrote. Raises `ValueError`."""
    try:
        return Steering(**json.loads(line))
    except TypeError as error:
        raise ValueError("not a steering line") from error


@dataclass(frozen=True, slots=True)
class Job:
    """One operation on one key. An empty `revision` is the source's default.

    `root` is the cache root's absolute path. `digest` (`sha256:…`) is of the manifest or of the
    only file. `fills` may be under way on the node at once, and share what it may ask of a hub.
    hf-xet may take so much memory; 0: it is not used.
    """

    operation: Operation
    root: str
    key: Key
    storage_uri: str
    revision: str
    endpoint: str
    secret: Secret = field(default=NO_SECRET, repr=False)
    allow_patterns: tuple[str, ...] = ()
    ignore_patterns: tuple[str, ...] = ()
    digest: str | None = None
    max_size_bytes: int | None = None
    pace: Pace = DEFAULT_PACE
    steering: Steering = Steering()
    network: Network = field(default_factory=Network)
    fills: int = 1
    xet_memory_bytes: int = 0

    def line(self) -> bytes:
        """The job as its child reads it. Holds the secret."""
        return json.dumps(asdict(self)).encode() + b"\n"


def parse_job(line: bytes) -> Job:
    """Read a job that a parent of the same release wrote. Raises `ValueError`."""
    try:
        raw: dict[str, Any] = json.loads(line)
        raw["operation"] = Operation(raw["operation"])
        raw["allow_patterns"] = tuple(raw["allow_patterns"])
        raw["ignore_patterns"] = tuple(raw["ignore_patterns"])
        raw["pace"] = Pace(**raw["pace"])
        raw["steering"] = Steering(**raw["steering"])
        raw["secret"] = Secret(**raw["secret"])
        raw["network"] = Network(**raw["network"])
        return Job(**raw)
    except (ValueError, KeyError, TypeError):
        raise ValueError("standard input does not hold a job") from None  # the cause may show it


@dataclass(frozen=True, slots=True)
class Heard:
    """The source answered a question for its listing."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The listing is on disk."""

    revision: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the child is."""

    state: ModelState
    bytes_done: int
    bytes_total: int
    bytes_fetched: int
    is_set_aside: bool = False


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that whoever runs the node should know, in one sentence; the fill goes on."""

    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """The operation is complete on disk."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The operation ended; what it left on disk can be continued."""

    reason: FillFailure
    message: str
    is_permanent: bool
    retry_after_seconds: float | None = None

    def error(self) -> FillError:
        """The error as the child's parent deals with it."""
        if self.is_permanent:
            return PermanentError(self.reason, self.message)
        return TransientError(self.reason, self.message, self.retry_after_seconds)


Event = Heard | Listed | Progress | Noted | Done | Failed


def failed(error: FillError) -> Failed:
    """An error as an event."""
    retry = error.retry_after_seconds if isinstance(error, TransientError) else None
    return Failed(error.reason, str(error), isinstance(error, PermanentError), retry)


def event_line(event: Event) -> bytes:
    """An event as its parent reads it."""
    return json.dumps(_said(event)).encode() + b"\n"


def _said(event: Event) -> dict[str, object]:
    match event:
        case Heard():
            return {"event": "heard"}
        case Listed():
            return {
                "event": "listed",
                "revision": event.revision,
                "files": event.files,
                "bytes": event.size_bytes,
            }
        case Progress():
            return {
                "event": "progress",
                "state": event.state,
                "bytesDone": event.bytes_done,
                "bytesTotal": event.bytes_total,
                "bytesFetched": event.bytes_fetched,
                "isSetAside": event.is_set_aside,
            }
        case Noted():
            return {"event": "noted", "message": event.message}
        case Done():
            return {"event": "done"}
        case Failed():
            return {
                "event": "failed",
                "reason": event.reason,
                "message": event.message,
                "permanent": event.is_permanent,
                "retryAfterSeconds": event.retry_after_seconds,
            }


def parse_event(line: bytes) -> Event | None:
    """Read an event; None for a line that is none."""
    try:
        raw: dict[str, Any] = json.loads(line)
        match raw["event"]:
            case "heard":
                return Heard()
            case "listed":
                return Listed(str(raw["revision"]), int(raw["files"]), int(raw["bytes"]))
            case "progress":
                done, total, fetched = (int(raw[n]) for n in _COUNTS)
                is_set_aside = bool(raw.get("isSetAside"))
                return Progress(ModelState(raw["state"]), done, total, fetched, is_set_aside)
            case "noted":
                return Noted(str(raw["message"]))
            case "done":
                return Done()
            case "failed":
                retry = raw["retryAfterSeconds"]
                return Failed(
                    FillFailure(raw["reason"]),
                    str(raw["message"]),
                    bool(raw["permanent"]),
                    None if retry is None else float(retry),
                )
            case _:
                return None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
