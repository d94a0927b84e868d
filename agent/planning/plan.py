"""The plan: from what was observed to what is done next.

Rules it keeps (property tests hold them):

- an unknown catalog plans nothing; unknown pods plan no eviction; nothing in use is evicted (P3);
- content, staging, trash and quarantine, each inode once, plus what fills in flight were promised,
  never exceed the budget, and a fill starts only if the filesystem keeps its free floor (P4);
- fills go by: a pod waits > priority > smallest; a listed model is evicted only for one of
  strictly higher priority, so that two models never evict each other in turn;
- planning again after executing gives nothing: all that matters is in the `Observation`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.planning.ledger import Ledger
from agent.planning.values import Disk, Failure, FillProgress, Inventory
from agent.planning.wishes import Wanted, Wishes
from larder.layout import Key
from larder.status import SlotStatus


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything a plan is made of. `now` is unix seconds.

    `wishes` is None while the catalog is unknown, `in_use` while the node's pods are. `statuses`
    is what the slots' status files say now.
    """

    now: float
    wishes: Wishes | None
    inventory: Inventory
    disk: Disk
    statuses: Mapping[Key, SlotStatus] = field(default_factory=dict)
    in_flight: Mapping[Key, FillProgress] = field(default_factory=dict)
    failures: Mapping[Key, Failure] = field(default_factory=dict)
    in_use: frozenset[Key] | None = frozenset()
    waiting: frozenset[Key] = frozenset()


class EvictReason(StrEnum):
    """Why a model is taken off the disk."""

    UNLISTED = "Unlisted"
    ROOM_NEEDED = "RoomNeeded"
    QUARANTINED = "Quarantined"


class DeferReason(StrEnum):
    """Why something that should happen does not happen now."""

    CONCURRENCY_LIMIT = "ConcurrencyLimit"
    BUDGET_EXCEEDED = "BudgetExceeded"
    DISK_FULL = "DiskFull"
    RETRY_LATER = "RetryLater"
    IN_USE = "InUse"
    PODS_UNKNOWN = "PodsUnknown"


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask the source what a model is made of, at an immutable revision."""

    key: Key


@dataclass(frozen=True, slots=True)
class Fill:
    """Fetch what is missing. `size_bytes` is reserved until the fill ends."""

    key: Key
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Make a verified staging visible, by one rename."""

    key: Key


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a fill that nobody wants any more."""

    key: Key


@dataclass(frozen=True, slots=True)
class Evict:
    """Take a model off the disk. `size_bytes` is what that frees (shared inodes stay)."""

    key: Key
    reason: EvictReason
    size_bytes: int


Action = Resolve | Fill | Publish | Cancel | Evict


@dataclass(frozen=True, slots=True)
class Deferred:
    """What does not happen now: which model, why, and how many bytes it is about."""

    key: Key
    reason: DeferReason
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in the order to execute them, what is deferred, and the budget left afterwards."""

    actions: tuple[Action, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    expected_free_bytes: int = 0


def make_plan(observation: Observation) -> Plan:
    """Decide what is next. Pure; same observation, same plan."""
    if observation.wishes is None:
        return Plan()
    return _Planner(observation, observation.wishes).plan()


@dataclass(slots=True)
class _Planner:
    seen: Observation
    wishes: Wishes
    ledger: Ledger = field(init=False)
    actions: list[Action] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    published: set[Key] = field(default_factory=set)
    running: int = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(
            self.seen.inventory, self.seen.disk, self.seen.in_flight, self.wishes.limits
        )
        self.running = len(self.seen.in_flight)

    def plan(self) -> Plan:
        self._cancel_unwanted()
        self._evict_unconditionally()
        self._publish_complete()
        for wanted in self._in_order_of_fills():
            self._fill(wanted)
        self._evict_down_to_threshold()
        return Plan(tuple(self.actions), tuple(self.deferred), self.ledger.budget_left_bytes)

    def _cancel_unwanted(self) -> None:
        for key in self.seen.in_flight:
            if key not in self.wishes.wanted:
                self.actions.append(Cancel(key))

    def _evict_unconditionally(self) -> None:
        """Evict what may not stay whatever room there is: damaged, or unlisted for too long."""
        for key in self._on_disk():
            slot = self.seen.inventory.slots.get(key)
            if slot is not None and slot.has_content and not slot.is_ready:
                self._evict(key, EvictReason.QUARANTINED)
            elif key not in self.wishes.wanted and self._is_expired(key):
                self._evict(key, EvictReason.UNLISTED)

    def _is_expired(self, key: Key) -> bool:
        if key not in self.seen.inventory.slots:  # a staging that no slot waits for
            return True
        status = self.seen.statuses.get(key)
        since = status.unlisted_since if status else None
        if since is None:  # noticed just now: the report writes it down
            return False
        return self.seen.now - since >= self.wishes.limits.unlisted_ttl_seconds

    def _publish_complete(self) -> None:
        for key, staging in self.seen.inventory.staging.items():
            if not staging.is_complete or key not in self.wishes.wanted or self._is_settled(key):
                continue
            if self._is_too_early(key):
                self._defer(key, DeferReason.RETRY_LATER)
            else:
                self.actions.append(Publish(key))
                self.published.add(key)

    def _in_order_of_fills(self) -> list[Wanted]:
        open_wishes = [
            w
            for w in self.wishes.wanted.values()
            if not self._is_settled(w.key) and not self._is_complete(w.key)
        ]
        return sorted(
            open_wishes,
            key=lambda w: (
                w.key not in self.seen.waiting,
                -w.priority,
                self.ledger.reservation_bytes(w.key),
                w.key,
            ),
        )

    def _is_settled(self, key: Key) -> bool:
        slot = self.seen.inventory.slots.get(key)
        has_content = slot is not None and slot.has_content
        return key in self.seen.in_flight or (has_content and not self.ledger.is_evicted(key))

    def _is_complete(self, key: Key) -> bool:
        staging = self.seen.inventory.staging.get(key)
        return staging is not None and staging.is_complete

    def _fill(self, wanted: Wanted) -> None:
        key = wanted.key
        staging = self.seen.inventory.staging.get(key)
        listing = staging.listing if staging and not self.ledger.is_evicted(key) else None
        if self._is_too_early(key):
            self._defer(key, DeferReason.RETRY_LATER)
        elif listing is None or self._is_doubted(key):
            self._start(key, Resolve(key))
        elif self._make_room(wanted):
            self._start(key, Fill(key, self.ledger.reservation_bytes(key)))

    def _is_too_early(self, key: Key) -> bool:
        """Whether a failure is to be waited out before the next try."""
        failure = self.seen.failures.get(key)
        return failure is not None and failure.holds_back(self.seen.now)

    def _is_doubted(self, key: Key) -> bool:
        """Whether the listing is to be asked for again, since the source did not keep to it."""
        failure = self.seen.failures.get(key)
        return failure is not None and failure.doubts_listing

    def _is_stuck(self, key: Key) -> bool:
        """Whether the disk refused to let a model go, just now."""
        failure = self.seen.failures.get(key)
        return failure is not None and failure.is_of_eviction and self._is_too_early(key)

    def _start(self, key: Key, action: Resolve | Fill) -> None:
        if self.running >= self.wishes.limits.max_concurrent:
            self._defer(key, DeferReason.CONCURRENCY_LIMIT)
            return
        self.running += 1
        self.actions.append(action)
        if isinstance(action, Fill):
            self.ledger.reserve(key)

    def _make_room(self, wanted: Wanted) -> bool:
        """Whether the fill fits, after evictions that are planned here if they suffice."""
        if self.running >= self.wishes.limits.max_concurrent:
            self._defer(wanted.key, DeferReason.CONCURRENCY_LIMIT)
            return False
        victims: list[Key] = []
        candidates = iter(self._victims_for(wanted))
        while not self.ledger.fits(wanted.key, victims):
            victim = next(candidates, None)
            if victim is None:
                reason = (
                    DeferReason.DISK_FULL
                    if self.ledger.fits_budget(wanted.key, victims)
                    else DeferReason.BUDGET_EXCEEDED
                )
                self._defer(wanted.key, reason)
                return False
            victims.append(victim)
        for victim in self.ledger.needed_of(wanted.key, victims):
            self._evict(victim, EvictReason.ROOM_NEEDED, filling=wanted.key)
        return True

    def _victims_for(self, wanted: Wanted) -> list[Key]:
        """Who may go for a model, first to go first."""
        return sorted(
            (k for k in self._evictable() if self._yields_to(k, wanted) and k != wanted.key),
            key=self._order_of_eviction,
        )

    def _evictable(self) -> Iterator[Key]:
        if self.seen.in_use is None:
            return
        for key in self._on_disk():
            slot = self.seen.inventory.slots.get(key)
            age = self.seen.now - (slot.ready_since if slot else 0.0)
            is_young = slot is not None and slot.has_content
            is_young = is_young and 0 <= age < self.wishes.limits.min_age_seconds
            if key not in self.seen.in_use and not is_young and not self._is_stuck(key):
                yield key

    def _yields_to(self, key: Key, wanted: Wanted) -> bool:
        incumbent = self.wishes.wanted.get(key)
        if incumbent is None:
            return True
        return not incumbent.is_pinned and incumbent.priority < wanted.priority

    def _order_of_eviction(self, key: Key) -> tuple[int, int, float, Key]:
        incumbent = self.wishes.wanted.get(key)
        slot = self.seen.inventory.slots.get(key)
        used = slot.ready_since if slot else 0.0
        if incumbent is None:
            return (0, 0, used, key)
        return (1, incumbent.priority, used, key)

    def _evict_down_to_threshold(self) -> None:
        """Above the high threshold, unlisted models go, oldest first, until below the low one."""
        limits = self.wishes.limits
        if self.ledger.committed_bytes * 100 <= limits.budget_bytes * limits.high_threshold_percent:
            return
        unlisted = [k for k in self._evictable() if k not in self.wishes.wanted]
        for key in sorted(unlisted, key=self._order_of_eviction):
            low = limits.budget_bytes * limits.low_threshold_percent
            if self.ledger.committed_bytes * 100 <= low:
                return
            if self.ledger.freed_bytes([key]):
                self._evict(key, EvictReason.ROOM_NEEDED)

    def _on_disk(self) -> list[Key]:
        """Every key with a slot or a staging that no other action of this plan is about."""
        busy = self.published | set(self.seen.in_flight)
        keys = {*self.seen.inventory.slots, *self.seen.inventory.staging} - busy
        return sorted(k for k in keys if not self.ledger.is_evicted(k))

    def _evict(self, key: Key, reason: EvictReason, filling: Key | None = None) -> None:
        size_bytes = self.ledger.freed_bytes([key], filling)
        if self.seen.in_use is None:
            self._defer(key, DeferReason.PODS_UNKNOWN, size_bytes)
        elif key in self.seen.in_use:
            self._defer(key, DeferReason.IN_USE, size_bytes)
        elif self._is_stuck(key):
            self._defer(key, DeferReason.RETRY_LATER, size_bytes)
        else:
            self.actions.append(Evict(key, reason, size_bytes))
            self.ledger.evict(key, filling)

    def _defer(self, key: Key, reason: DeferReason, size_bytes: int | None = None) -> None:
        if size_bytes is None:
            size_bytes = self.ledger.reservation_bytes(key)
        self.deferred.append(Deferred(key, reason, size_bytes))
