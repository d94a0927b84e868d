"""Executing plans again and again comes to rest, within budget, with nothing in use taken away."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from agent.planning.plan import Cancel, Evict, Fill, Observation, Publish, Resolve, make_plan
from agent.planning.statuses import slot_statuses
from agent.planning.values import (
    Disk,
    FillProgress,
    InodeUse,
    Inventory,
    Listing,
    RemoteFile,
    SlotFacts,
    StagingFacts,
)
from agent.planning.wishes import Limits, Wanted, Wishes
from larder.layout import Digest, Key
from larder.manifest import ManifestFile, make_manifest
from larder.status import ModelState, SlotStatus

KEYS = [Key(f"{n:016x}") for n in range(6)]
SIZES = [0, 1, 10, 35, 60, 90, 120]  # of content number n
NOW = 10_000.0
DISK_BYTES = 200
S = ModelState
LEGAL_MOVES = {  # as a reader sees them, who may miss a short state
    S.ABSENT: {S.QUEUED},
    S.QUEUED: {S.DOWNLOADING, S.VERIFYING, S.FAILED, S.ABSENT},
    S.DOWNLOADING: {S.VERIFYING, S.READY, S.FAILED, S.QUEUED, S.ABSENT},
    S.VERIFYING: {S.READY, S.FAILED, S.QUEUED, S.ABSENT},
    S.READY: {S.EVICTING, S.QUARANTINED},
    S.EVICTING: {S.ABSENT, S.READY, S.QUARANTINED},
    S.FAILED: {S.QUEUED, S.DOWNLOADING, S.VERIFYING, S.ABSENT},
    S.QUARANTINED: {S.READY, S.EVICTING},
}


def digest(number: int) -> Digest:
    return Digest(f"{number:064x}")


def listing(contents: list[int]) -> Listing:
    files = tuple(RemoteFile(f"f{i}", SIZES[n], digest(n)) for i, n in enumerate(contents))
    return Listing("hf://o/m", "0" * 40, files)


@dataclass
class FakeNode:
    """A disk in memory that executes plans exactly as they are written."""

    models: dict[Key, list[int]]
    slots: set[Key]
    staged: dict[Key, bool]  # listed; True: complete
    in_use: frozenset[Key]
    in_flight: dict[Key, FillProgress] = field(default_factory=dict)
    statuses: dict[Key, SlotStatus] = field(default_factory=dict)

    def held(self, key: Key) -> set[int]:
        holds = key in self.slots or self.staged.get(key, False)
        return set(self.models[key]) if holds else set()

    def inventory(self) -> Inventory:
        owners: dict[int, set[str]] = {}
        for key in KEYS:
            place = "slots" if key in self.slots else "staging"
            for number in self.held(key):
                owners.setdefault(number, set()).add(f"{place}/{key}")
        return Inventory(
            {key: self.slot(key) for key in KEYS if key in self.slots},
            {
                key: StagingFacts(listing(self.models[key]), complete)
                for key, complete in self.staged.items()
            },
            tuple(InodeUse(SIZES[n], frozenset(o), digest(n)) for n, o in owners.items()),
        )

    def slot(self, key: Key) -> SlotFacts:
        files = [
            ManifestFile(f.path, f.size_bytes, digest(0)) for f in listing(self.models[key]).files
        ]
        manifest = make_manifest("hf://o/m", "0" * 40, files)
        return SlotFacts(manifest, has_content=True, agrees=True)

    def used_bytes(self) -> int:
        return sum(SIZES[n] for n in set().union(*(self.held(k) for k in KEYS)))

    def observe(self, wishes: Wishes | None) -> Observation:
        promised = sum(fill.reserved_bytes for fill in self.in_flight.values())
        assert self.used_bytes() + promised <= DISK_BYTES
        disk = Disk(DISK_BYTES, DISK_BYTES - self.used_bytes())
        return Observation(
            NOW,
            wishes,
            self.inventory(),
            disk,
            self.statuses,
            dict(self.in_flight),
            {},
            self.in_use,
        )

    def execute(self, seen: Observation) -> bool:
        actions = make_plan(seen).actions
        keys = [a.key for a in actions if not isinstance(a, Resolve | Fill)]
        assert len(keys) == len(set(keys))  # what is carried out relies on one observation
        for action in actions:
            match action:
                case Cancel(key):
                    del self.in_flight[key]
                case Resolve(key):
                    self.in_flight[key] = FillProgress(key, ModelState.QUEUED)
                case Fill(key, size_bytes):
                    self.in_flight[key] = FillProgress(key, ModelState.DOWNLOADING, size_bytes)
                case Publish(key):
                    del self.staged[key]
                    self.slots.add(key)
                case Evict(key):
                    assert key not in self.in_use
                    self.slots.discard(key)
                    self.staged.pop(key, None)
                    self.statuses.pop(key, None)
        return bool(actions)

    def finish_fills(self) -> bool:
        for key, fill in self.in_flight.items():
            self.staged[key] = fill.state is ModelState.DOWNLOADING
        finished = bool(self.in_flight)
        self.in_flight.clear()
        return finished

    def report(self, seen: Observation) -> None:
        for key, now in slot_statuses(seen, make_plan(seen)).items():
            before = self.statuses.get(key, SlotStatus(ModelState.ABSENT))
            assert now.state == before.state or now.state in LEGAL_MOVES[before.state]
            assert now.sequence >= before.sequence
            self.statuses[key] = now


contents = st.lists(st.integers(0, len(SIZES) - 1), min_size=1, max_size=3)


@st.composite
def nodes(draw: st.DrawFn) -> tuple[FakeNode, Wishes]:
    models = {key: draw(contents) for key in KEYS}
    held = draw(st.sets(st.sampled_from(KEYS)))
    while sum(SIZES[n] for n in set().union(*(set(models[k]) for k in held))) > DISK_BYTES:
        held = set(sorted(held)[1:])
    in_use = draw(st.sets(st.sampled_from(KEYS)))
    wanted = {
        key: Wanted(key, key, draw(st.integers(0, 2)), draw(st.booleans()))
        for key in draw(st.sets(st.sampled_from(KEYS)))
    }
    limits = Limits(
        budget_bytes=draw(st.integers(0, DISK_BYTES)),
        free_floor_bytes=draw(st.integers(0, 20)),
        unlisted_ttl_seconds=draw(st.sampled_from([0.0, 1e9])),
        min_age_seconds=draw(st.sampled_from([0.0, 1e9])),
        max_concurrent=draw(st.integers(1, 3)),
    )
    statuses = {key: SlotStatus(ModelState.READY) for key in held}
    return FakeNode(models, held, {}, frozenset(in_use), {}, statuses), Wishes(wanted, limits)


@given(nodes())
def test_plans_come_to_rest_and_keep_every_promise(drawn: tuple[FakeNode, Wishes]) -> None:
    node, wishes = drawn
    before = node.used_bytes()
    for _ in range(60):
        told = dict(node.statuses)
        acted = node.execute(node.observe(wishes))
        node.report(node.observe(wishes))
        promised = sum(fill.reserved_bytes for fill in node.in_flight.values())
        assert node.used_bytes() + promised <= max(before, wishes.limits.budget_bytes)
        moved = node.finish_fills()
        assert node.used_bytes() <= max(before, wishes.limits.budget_bytes)
        if not acted and not moved and told == node.statuses:
            break
    else:
        raise AssertionError("the plans never came to rest")
    assert make_plan(node.observe(wishes)).actions == ()
    for key, wanted in wishes.wanted.items():  # what is missing had a reason
        if key not in node.slots:
            deferred = {d.key for d in make_plan(node.observe(wishes)).deferred}
            assert key in deferred, wanted


@given(nodes())
def test_what_is_in_use_stays_and_unknown_pods_or_catalog_take_nothing(
    drawn: tuple[FakeNode, Wishes],
) -> None:
    node, wishes = drawn
    seen = node.observe(wishes)
    evicted = {a.key for a in make_plan(seen).actions if isinstance(a, Evict)}
    assert not evicted & node.in_use
    unknown_pods = make_plan(replace(seen, in_use=None)).actions
    assert not any(isinstance(a, Evict) for a in unknown_pods)
    assert make_plan(replace(seen, wishes=None)).actions == ()
