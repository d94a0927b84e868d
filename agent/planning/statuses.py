"""What each slot's `status.json` should say, from an observation and the plan made of it.

Every write of a fill that moved carries a larger `sequence`: waiting pods take a sequence that
stands still for a stalled fill, so a write without progress must keep it. A queued model moves
with the fills it waits for, and its ETA is the time that those and its own bytes take at most.
Nobody can say how large a model will be that comes of an archive: while it is filled, it has
neither total nor ETA.
"""

from collections.abc import Mapping
from dataclasses import replace

from agent.planning.plan import DeferReason, Observation, Plan
from agent.planning.values import FillProgress, Listing, SlotFacts
from agent.planning.wishes import Wishes
from larder.contract import FillFailure
from larder.layout import Key
from larder.status import ModelState, SlotStatus

_FAILURES = {
    DeferReason.BUDGET_EXCEEDED: FillFailure.BUDGET_EXCEEDED,
    DeferReason.DISK_FULL: FillFailure.DISK_FULL,
}


def slot_statuses(seen: Observation, plan: Plan) -> Mapping[Key, SlotStatus]:
    """The status of every slot that is there or should be; nothing while the catalog is unknown.

    An unchanged status is equal to the observed one, so that nothing is written.
    """
    if seen.wishes is None:
        return {}
    failed = {d.key: _FAILURES[d.reason] for d in plan.deferred if d.reason in _FAILURES}
    failed |= {
        key: failure.reason
        for key, failure in seen.failures.items()
        if failure.holds_back(seen.now)
    }
    queue = _queue(seen, plan)
    return {
        key: _status(key, seen, seen.wishes, failed, queue.get(key))
        for key in {*seen.wishes.wanted, *seen.inventory.slots}
    }


def _queue(seen: Observation, plan: Plan) -> Mapping[Key, SlotStatus]:
    """What is said of models that wait for a fill's turn, in the order in which they get it."""
    fills = [f for f in seen.in_flight.values() if f.state is not ModelState.QUEUED]
    rate = sum(fill.rate_bytes_per_second for fill in fills)
    ahead = sum(max(0, fill.bytes_total - fill.bytes_done) for fill in fills)
    queue = {}
    for deferred in plan.deferred:
        if deferred.reason is DeferReason.CONCURRENCY_LIMIT:
            ahead += deferred.size_bytes
            is_known = rate and deferred.size_bytes
            eta = -(-ahead // rate) if is_known else None
            queue[deferred.key] = SlotStatus(
                ModelState.QUEUED,
                bytes_total=deferred.size_bytes if _is_measured(deferred.key, seen) else 0,
                eta_seconds=eta,
                reason=deferred.reason,
            )
    return queue


def _status(
    key: Key,
    seen: Observation,
    wishes: Wishes,
    failed: Mapping[Key, FillFailure],
    queued: SlotStatus | None,
) -> SlotStatus:
    slot = seen.inventory.slots.get(key, SlotFacts())
    before = seen.statuses.get(key, SlotStatus(ModelState.ABSENT))
    fill = seen.in_flight.get(key)
    if slot.has_content:
        now = _settled(slot)
    elif fill is not None:
        now = _filling(fill, is_measured=_is_measured(key, seen))
    elif key not in wishes.wanted:
        now = SlotStatus(ModelState.ABSENT)
    elif key in failed:
        now = SlotStatus(ModelState.FAILED, reason=failed[key])
    else:
        now = queued or SlotStatus(ModelState.QUEUED)
    is_listed, now_unix = key in wishes.wanted, int(seen.now)
    now = replace(
        now,
        join_timeout_seconds=wishes.limits.join_timeout_seconds,
        unlisted_since=None if is_listed else min(before.unlisted_since or now_unix, now_unix),
        revision=now.revision or _known_revision(key, seen),
        unproven_files=before.unproven_files if slot.has_content else _unproven(key, seen, wishes),
        sequence=before.sequence,
    )
    return now if now == before else replace(now, sequence=_next_sequence(before, now))


def _settled(slot: SlotFacts) -> SlotStatus:
    if not slot.is_ready or slot.manifest is None:
        return SlotStatus(ModelState.QUARANTINED)
    size_bytes = slot.manifest.size_bytes
    return SlotStatus(
        ModelState.READY,
        bytes_done=size_bytes,
        bytes_total=size_bytes,
        revision=slot.manifest.revision,
    )


def _filling(fill: FillProgress, *, is_measured: bool) -> SlotStatus:
    left = max(0, fill.bytes_total - fill.bytes_done)
    rate = fill.rate_bytes_per_second
    return SlotStatus(
        fill.state,
        bytes_done=fill.bytes_done,
        bytes_total=fill.bytes_total if is_measured else 0,
        rate_bytes_per_second=rate,
        eta_seconds=-(-left // rate) if rate and is_measured else None,
    )


def _is_measured(key: Key, seen: Observation) -> bool:
    """Whether a model's size is known before it is there; its room is the most that it may take."""
    listing = _listing(key, seen)
    return listing is None or listing.unmeasured is None


def _known_revision(key: Key, seen: Observation) -> str | None:
    listing = _listing(key, seen)
    return listing.revision if listing else None


def _unproven(key: Key, seen: Observation, wishes: Wishes) -> int | None:
    """How many files a fill has nothing to compare with: no digest of the source, and no pin."""
    listing, entry = _listing(key, seen), wishes.entries.get(key)
    if listing is None:
        return None
    return 0 if entry and entry.digest else listing.unproven_files


def _listing(key: Key, seen: Observation) -> Listing | None:
    staging = seen.inventory.staging.get(key)
    return staging.listing if staging else None


def _next_sequence(before: SlotStatus, now: SlotStatus) -> int:
    """One more if the fill moved or the state changed; a rate that changes is no progress."""
    moved = (before.state, before.bytes_done) != (now.state, now.bytes_done)
    advanced = now.state is ModelState.QUEUED and before.eta_seconds != now.eta_seconds
    return before.sequence + 1 if moved or advanced or before.restarting else before.sequence
