"""How long a pod waits for an agent: the waiting table, as a pure judgement over statuses.

    no status, or a torn one      a few seconds (it may be replaced just now), then NoStatus
    Absent, Failed, Quarantined, Evicting                 not at all
    Queued, Downloading, Verifying   while the sequence moves (else Stalled) and the ETA fits into
                                  what is left of joinTimeout (else EtaTooLong)
    Queued, without an ETA        a few seconds, then Queued
    restarting                    until the sequence moves again, else AgentGone
    Ready                         a few polls (the content is on its way), then Unreadable

The sequence is compared, never understood, and times are of the reader's own clock: an agent that
was killed stops moving, whatever its last status promised. So an agent keeps rewriting the status
of a slot that is Queued, too. Repeats what `larder.contract` and `larder.status` say.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from initializer.hit import NotHit, write

STATUS_VERSION = 1
STATUS_APPEARS_SECONDS = 3.0
QUEUED_WITHOUT_ETA_SECONDS = 5.0
STALLED_SECONDS = 60.0
RESTARTING_SECONDS = 120.0
DEFAULT_JOIN_TIMEOUT_SECONDS = 1800.0

READY_POLLS = 4
PROGRESS_SECONDS = 10.0

WAITING_STATES = ("Queued", "Downloading", "Verifying")
READY = "Ready"
FINAL_STATES = {
    "Absent": "NotCached",
    "Failed": "Failed",
    "Quarantined": "Quarantined",
    "Evicting": "Evicting",
}


class Outcome(NamedTuple):
    """What became of a URI: a run-time reason of the contract, and details for the log."""

    reason: str
    detail: str = ""

    @property
    def is_served(self) -> bool:
        """Whether the links are there."""
        return self.reason in {"Hit", "Joined"}


class Status(NamedTuple):
    """One `status.json`, see `larder.status`."""

    state: str
    sequence: int
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_per_second: int = 0
    eta_seconds: int | None = None
    join_timeout_seconds: float = DEFAULT_JOIN_TIMEOUT_SECONDS
    restarting: bool = False
    reason: str | None = None
    revision: str | None = None


def parse_status(text: str) -> Status | None:
    """Read a `status.json`; None if torn. Raises `NotHit` if it is of another version or state."""
    try:
        raw = json.loads(text)
        if raw["version"] != STATUS_VERSION:
            raise NotHit("ContractUnknown", "the status is of another version")
        eta, reason, revision = raw.get("etaSeconds"), raw.get("reason"), raw.get("revision")
        status = Status(
            state=str(raw["state"]),
            sequence=int(raw["sequence"]),
            bytes_done=int(raw.get("bytesDone", 0)),
            bytes_total=int(raw.get("bytesTotal", 0)),
            rate_bytes_per_second=int(raw.get("rateBytesPerSecond", 0)),
            eta_seconds=None if eta is None else int(eta),
            join_timeout_seconds=int(raw.get("joinTimeoutSeconds", DEFAULT_JOIN_TIMEOUT_SECONDS)),
            restarting=bool(raw.get("restarting", False)),
            reason=None if reason is None else str(reason),
            revision=None if revision is None else str(revision),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    if status.state not in (*WAITING_STATES, READY, *FINAL_STATES):
        raise NotHit("ContractUnknown", "the status names an unknown state")
    return status


class Watch:
    """One slot, seen over time, for as long as its content is not usable."""

    def __init__(self, waiting_since: float, now: float) -> None:
        self._waiting_since = waiting_since  # all waits of a pod share one joinTimeout
        self._status_at = now
        self._beat: tuple[str, int, bool] | None = None
        self._beat_at = now
        self._queued_at: float | None = None
        self._ready_polls = 0

    def judge(self, status: Status | None, now: float) -> Outcome | None:
        """Return why not to wait on, or None. Asked once a poll, with what is to be read then."""
        if status is None:
            is_late = now - self._status_at >= STATUS_APPEARS_SECONDS
            return Outcome("NoStatus") if is_late else None
        self._status_at = now
        beat = (status.state, status.sequence, status.restarting)
        if beat != self._beat:
            self._beat, self._beat_at = beat, now
        if status.state in FINAL_STATES:
            return Outcome(FINAL_STATES[status.state], status.reason or "")
        if status.state == READY:
            self._ready_polls += 1
            is_enough = self._ready_polls > READY_POLLS
            return Outcome("Unreadable", "Ready without usable content") if is_enough else None
        self._ready_polls = 0
        return self._silence(status, now) or self._lateness(status, now)

    def _silence(self, status: Status, now: float) -> Outcome | None:
        silent_seconds = now - self._beat_at
        if status.restarting and silent_seconds >= RESTARTING_SECONDS:
            return Outcome("AgentGone", f"it did not come back for {silent_seconds:.0f} s")
        if not status.restarting and silent_seconds >= STALLED_SECONDS:
            return Outcome("Stalled", f"no progress for {silent_seconds:.0f} s")
        return None

    def _lateness(self, status: Status, now: float) -> Outcome | None:
        left_seconds = status.join_timeout_seconds - (now - self._waiting_since)
        if left_seconds <= 0:
            return Outcome("EtaTooLong", "joinTimeout is over")
        if status.restarting:  # its ETA is of the agent that went
            return None
        if status.eta_seconds is not None:
            self._queued_at = None
            is_too_long = status.eta_seconds > left_seconds
            detail = f"{status.eta_seconds} s, and {left_seconds:.0f} s are left"
            return Outcome("EtaTooLong", detail) if is_too_long else None
        if status.state != "Queued":
            self._queued_at = None
            return None
        if self._queued_at is None:
            self._queued_at = now
        is_over = now - self._queued_at >= QUEUED_WITHOUT_ETA_SECONDS
        return Outcome("Queued", "and nobody knows for how long") if is_over else None


class Progress:
    """Says how a wait goes: at each change of state, else a line in ten seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._phase: tuple[str, bool] | None = None
        self._said_at = 0.0

    def tell(self, status: Status | None, now: float) -> None:
        """Write the line that is due, if one is."""
        if status is None:
            return
        phase = (status.state, status.restarting)
        if phase != self._phase or now - self._said_at >= PROGRESS_SECONDS:
            self._phase, self._said_at = phase, now
            say(f"{self._name}: {describe(status)}")


def describe(status: Status) -> str:
    """Return a status in words: `Downloading 42% of 15.2 GiB, 310.0 MiB/s, 45 s left`."""
    words = status.state
    if status.bytes_total > 0:
        percent = 100 * status.bytes_done // status.bytes_total
        words += f" {percent}% of {in_units(status.bytes_total)}"
    if status.restarting:
        return words + ", the agent restarts"
    if status.rate_bytes_per_second > 0:
        words += f", {in_units(status.rate_bytes_per_second)}/s"
    if status.eta_seconds is not None:
        words += f", {status.eta_seconds} s left"
    return words


def in_units(size_bytes: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:  # noqa: PLR2004 - that is what Ki means
            return f"{size_bytes:.{0 if unit == 'B' else 1}f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def say(line: str) -> None:
    """Write one line to the pod's log."""
    write(1, f"larder: {line}\n")
