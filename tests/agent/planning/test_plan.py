"""The plan keeps its rules whatever was observed."""

from dataclasses import replace

import pytest

from agent.planning.plan import (
    Cancel,
    DeferReason,
    Deferred,
    Evict,
    EvictReason,
    Fill,
    Observation,
    Plan,
    Publish,
    Resolve,
    make_plan,
)
from agent.planning.values import (
    Disk,
    Failure,
    FillProgress,
    InodeUse,
    Inventory,
    Listing,
    RemoteFile,
    SlotFacts,
    StagingFacts,
)
from agent.planning.wishes import Limits, Wanted, Wishes
from larder.contract import FillFailure
from larder.layout import Digest, Key
from larder.manifest import ManifestFile, make_manifest
from larder.status import ModelState, SlotStatus

NOW = 1_000_000.0
OLD = NOW - 100_000
A, B, C = (Key(letter * 16) for letter in "abc")


def digest(number: int) -> Digest:
    return Digest(f"{number:064x}")


def listing(*files: tuple[int, int]) -> Listing:
    """Files given as (content number, size)."""
    remote = tuple(RemoteFile(f"f{i}", size, digest(n)) for i, (n, size) in enumerate(files))
    return Listing("hf://o/m", "0" * 40, remote)


def ready(*files: tuple[int, int], since: float = OLD) -> SlotFacts:
    manifest = make_manifest(
        "hf://o/m",
        "0" * 40,
        [ManifestFile(f"f{i}", s, digest(n)) for i, (n, s) in enumerate(files)],
    )
    return SlotFacts(manifest, has_content=True, agrees=True, ready_since=since)


def inode(number: int, size: int, *owners: str) -> InodeUse:
    return InodeUse(size, frozenset(owners), digest(number))


def wishes(*wanted: Wanted, budget: int = 1000, **limits: float) -> Wishes:
    return Wishes(
        {w.key: w for w in wanted},
        Limits(budget_bytes=budget, free_floor_bytes=0, **limits),  # type: ignore[arg-type]
    )


def observe(
    wanted: Wishes | None, inventory: Inventory | None = None, **more: object
) -> Observation:
    return replace(
        Observation(NOW, wanted, inventory or Inventory(), Disk(10_000, 10_000)),
        **more,  # type: ignore[arg-type]
    )


def staged(**stagings: Listing) -> dict[Key, StagingFacts]:
    return {Key(k * 16): StagingFacts(v) for k, v in stagings.items()}


def unlisted(seconds: float) -> SlotStatus:
    return SlotStatus(ModelState.READY, unlisted_since=int(NOW - seconds))


def test_an_unknown_catalog_plans_nothing() -> None:
    inventory = Inventory({A: ready((1, 10))}, {}, (inode(1, 10, f"slots/{A}"),))
    seen = observe(None, inventory, statuses={A: unlisted(10**6)})
    assert make_plan(seen) == Plan()


def test_a_new_model_is_resolved_first_then_filled_with_its_bytes_reserved() -> None:
    wanted = wishes(Wanted(A, "a"))
    assert make_plan(observe(wanted)).actions == (Resolve(A),)
    seen = observe(wanted, Inventory({}, staged(a=listing((1, 10), (2, 5), (2, 5)))))
    assert make_plan(seen).actions == (Fill(A, 15),)


def test_an_archive_has_room_reserved_for_itself_and_for_what_it_may_hold() -> None:
    archive = RemoteFile("m.tgz", 10, unpacked_bytes=90)
    inventory = Inventory({}, staged(a=Listing("https://h/m.tgz", "sha256:0", (archive,))))
    assert make_plan(observe(wishes(Wanted(A, "a"), budget=100), inventory)).actions == (
        Fill(A, 100),
    )
    plan = make_plan(observe(wishes(Wanted(A, "a"), budget=99), inventory))
    assert plan.deferred == (Deferred(A, DeferReason.BUDGET_EXCEEDED, 100),)


def test_contents_that_another_slot_holds_are_not_reserved_again() -> None:
    inventory = Inventory(
        {B: ready((1, 10))}, staged(a=listing((1, 10), (2, 5))), (inode(1, 10, f"slots/{B}"),)
    )
    seen = observe(wishes(Wanted(A, "a"), Wanted(B, "b"), budget=15), inventory)
    assert make_plan(seen).actions == (Fill(A, 5),)


def test_a_verified_staging_is_published() -> None:
    inventory = Inventory({}, {A: StagingFacts(listing((1, 10)), is_complete=True)})
    assert make_plan(observe(wishes(Wanted(A, "a")), inventory)).actions == (Publish(A),)


def test_what_is_published_is_not_evicted_by_the_same_plan() -> None:
    inventory = Inventory(
        {},
        {A: StagingFacts(listing((1, 600)), is_complete=True), B: StagingFacts(listing((2, 600)))},
        (inode(1, 600, f"staging/{A}"),),
    )
    plan = make_plan(observe(wishes(Wanted(A, "a"), Wanted(B, "b", priority=1)), inventory))
    assert plan.actions == (Publish(A),)
    assert plan.deferred == (Deferred(B, DeferReason.BUDGET_EXCEEDED, 600),)


def test_a_fill_that_nobody_wants_any_more_is_cancelled() -> None:
    seen = observe(wishes(), in_flight={A: FillProgress(A, ModelState.DOWNLOADING, 10)})
    assert make_plan(seen).actions == (Cancel(A),)


def test_fills_go_waiting_first_then_priority_then_smallest() -> None:
    stagings = staged(a=listing((1, 30)), b=listing((2, 20)), c=listing((3, 10)))
    wanted = wishes(Wanted(A, "a"), Wanted(B, "b", priority=5), Wanted(C, "c"), max_concurrent=3)
    plan = make_plan(observe(wanted, Inventory({}, stagings)))
    assert [a.key for a in plan.actions] == [B, C, A]
    plan = make_plan(observe(wanted, Inventory({}, stagings), waiting=frozenset({A})))
    assert [a.key for a in plan.actions] == [A, B, C]


def test_more_fills_than_allowed_wait_their_turn() -> None:
    stagings = staged(a=listing((1, 30)), b=listing((2, 20)))
    wanted = wishes(Wanted(A, "a"), Wanted(B, "b"), Wanted(C, "c"), max_concurrent=1)
    plan = make_plan(observe(wanted, Inventory({}, stagings)))
    assert plan.actions == (Resolve(C),)
    assert plan.deferred == (
        Deferred(B, DeferReason.CONCURRENCY_LIMIT, 20),
        Deferred(A, DeferReason.CONCURRENCY_LIMIT, 30),
    )


def test_a_failed_fill_waits_for_its_time() -> None:
    failure = Failure(FillFailure.SOURCE_UNAVAILABLE, "away", NOW + 1)
    seen = observe(wishes(Wanted(A, "a")), failures={A: failure})
    assert make_plan(seen).deferred == (Deferred(A, DeferReason.RETRY_LATER),)
    assert make_plan(replace(seen, now=NOW + 1)).actions == (Resolve(A),)


@pytest.mark.parametrize(
    ("budget", "available", "reason"),
    [
        pytest.param(99, 10_000, DeferReason.BUDGET_EXCEEDED, id="larger than the budget"),
        pytest.param(1000, 99, DeferReason.DISK_FULL, id="larger than what the disk has left"),
    ],
)
def test_what_does_not_fit_is_deferred(budget: int, available: int, reason: DeferReason) -> None:
    seen = observe(
        wishes(Wanted(A, "a"), budget=budget),
        Inventory({}, staged(a=listing((1, 100)))),
        disk=Disk(10_000, available),
    )
    plan = make_plan(seen)
    assert plan.actions == ()
    assert plan.deferred == (Deferred(A, reason, 100),)


def test_what_is_in_flight_counts_with_all_it_was_promised() -> None:
    inventory = Inventory(
        {},
        staged(a=listing((1, 600)), b=listing((2, 500))),
        (InodeUse(300, frozenset({f"staging/{A}"})),),
    )
    wanted = wishes(Wanted(A, "a"), Wanted(B, "b"))
    flying = {A: FillProgress(A, ModelState.DOWNLOADING, 600, 300, 600)}
    plan = make_plan(observe(wanted, inventory, in_flight=flying))
    assert plan == Plan((), (Deferred(B, DeferReason.BUDGET_EXCEEDED, 500),), 400)


def test_the_filesystem_keeps_what_fills_in_flight_still_have_to_write() -> None:
    inventory = Inventory({}, staged(b=listing((2, 500))))
    wanted = wishes(Wanted(A, "a"), Wanted(B, "b"), budget=5000)
    resolving = {A: FillProgress(A, ModelState.DOWNLOADING, 600)}
    seen = observe(wanted, inventory, in_flight=resolving, disk=Disk(10_000, 1099))
    assert make_plan(seen).deferred == (Deferred(B, DeferReason.DISK_FULL, 500),)
    assert make_plan(replace(seen, disk=Disk(10_000, 1100))).actions == (Fill(B, 500),)


def test_what_a_fill_set_aside_is_off_the_filesystem_already_and_counts_once() -> None:
    inventory = Inventory({}, staged(b=listing((2, 500))))
    wanted = wishes(Wanted(A, "a"), Wanted(B, "b"), budget=5000)
    filling = FillProgress(A, ModelState.DOWNLOADING, 600, 100, 600)
    seen = observe(wanted, inventory, in_flight={A: filling}, disk=Disk(10_000, 500))
    assert make_plan(seen).deferred == (Deferred(B, DeferReason.DISK_FULL, 500),)
    aside = replace(seen, in_flight={A: replace(filling, is_set_aside=True)})
    assert make_plan(aside).actions == (Fill(B, 500),)
    tight = replace(aside, disk=Disk(10_000, 499))
    assert make_plan(tight).deferred == (Deferred(B, DeferReason.DISK_FULL, 500),)


def test_bytes_that_are_staged_already_need_no_more_room() -> None:
    inventory = Inventory(
        {}, staged(a=listing((1, 900))), (InodeUse(800, frozenset({f"staging/{A}"})),)
    )
    seen = observe(wishes(Wanted(A, "a"), budget=900), inventory, disk=Disk(10_000, 100))
    assert make_plan(seen).actions == (Fill(A, 900),)


def test_an_unlisted_model_stays_for_its_time_and_then_goes() -> None:
    inventory = Inventory({A: ready((1, 10))}, {}, (inode(1, 10, f"slots/{A}"),))
    seen = observe(wishes(unlisted_ttl_seconds=60), inventory)
    assert make_plan(seen).actions == ()
    assert make_plan(replace(seen, statuses={A: unlisted(59)})).actions == ()
    assert make_plan(replace(seen, statuses={A: unlisted(60)})).actions == (
        Evict(A, EvictReason.UNLISTED, 10),
    )


@pytest.mark.parametrize(
    ("in_use", "reason"),
    [
        pytest.param(frozenset({A}), DeferReason.IN_USE, id="a pod mounts it"),
        pytest.param(None, DeferReason.PODS_UNKNOWN, id="nobody knows the pods"),
    ],
)
def test_nothing_that_may_be_in_use_goes(
    in_use: frozenset[Key] | None, reason: DeferReason
) -> None:
    inventory = Inventory(
        {A: ready((1, 900))}, staged(b=listing((2, 900))), (inode(1, 900, f"slots/{A}"),)
    )
    seen = observe(wishes(Wanted(B, "b")), inventory, statuses={A: unlisted(10**6)}, in_use=in_use)
    plan = make_plan(seen)
    assert plan.actions == ()
    assert Deferred(A, reason, 900) in plan.deferred
    assert Deferred(B, DeferReason.BUDGET_EXCEEDED, 900) in plan.deferred


def test_a_staging_that_no_slot_waits_for_goes() -> None:
    inventory = Inventory({}, staged(a=listing((1, 9))), (inode(1, 9, f"staging/{A}"),))
    assert make_plan(observe(wishes(), inventory)).actions == (Evict(A, EvictReason.UNLISTED, 9),)


def test_a_damaged_model_goes_and_is_fetched_again() -> None:
    damaged = replace(ready((1, 10)), is_quarantined=True)
    inventory = Inventory({A: damaged}, {}, (inode(1, 10, f"slots/{A}"),))
    plan = make_plan(observe(wishes(Wanted(A, "a", is_pinned=True)), inventory))
    assert plan.actions == (Evict(A, EvictReason.QUARANTINED, 10), Resolve(A))


def full_node(**incumbent: object) -> Observation:
    """Budget 1000: A holds 600, B (priority 5) wants 600."""
    inventory = Inventory(
        {A: ready((1, 600))}, staged(b=listing((2, 600))), (inode(1, 600, f"slots/{A}"),)
    )
    wanted = wishes(Wanted(A, "a", **incumbent), Wanted(B, "b", priority=5))  # type: ignore[arg-type]
    return observe(wanted, inventory)


def test_room_is_made_for_a_higher_priority_only() -> None:
    evicted = Evict(A, EvictReason.ROOM_NEEDED, 600)
    assert make_plan(full_node(priority=4)).actions == (evicted, Fill(B, 600))
    for incumbent in ({"priority": 5}, {"priority": 4, "is_pinned": True}):
        assert make_plan(full_node(**incumbent)).actions == ()


def test_a_young_model_is_not_evicted_for_room() -> None:
    seen = full_node(priority=0)
    slots = {A: ready((1, 600), since=NOW - 599)}
    assert make_plan(replace(seen, inventory=replace(seen.inventory, slots=slots))).actions == ()


def test_an_unlisted_model_goes_before_its_time_when_room_is_needed() -> None:
    seen = full_node()
    assert seen.wishes is not None
    seen = replace(seen, wishes=wishes(Wanted(B, "b")), statuses={A: unlisted(1)})
    assert make_plan(seen).actions == (Evict(A, EvictReason.ROOM_NEEDED, 600), Fill(B, 600))


def test_no_more_goes_than_must() -> None:
    inventory = Inventory(
        {A: ready((1, 100), since=OLD), C: ready((3, 700), since=OLD + 1)},
        staged(b=listing((2, 600))),
        (inode(1, 100, f"slots/{A}"), inode(3, 700, f"slots/{C}")),
    )
    wanted = wishes(Wanted(A, "a"), Wanted(C, "c"), Wanted(B, "b", priority=1))
    assert make_plan(observe(wanted, inventory)).actions == (
        Evict(C, EvictReason.ROOM_NEEDED, 700),
        Fill(B, 600),
    )


def test_nothing_goes_when_even_that_would_not_make_room() -> None:
    seen = full_node(priority=0)
    inventory = replace(seen.inventory, staging=staged(b=listing((2, 1001))))
    plan = make_plan(replace(seen, inventory=inventory))
    assert plan == Plan((), (Deferred(B, DeferReason.BUDGET_EXCEEDED, 1001),), 400)


def test_above_the_high_threshold_unlisted_models_go_until_below_the_low_one() -> None:
    inventory = Inventory(
        {A: ready((1, 300), since=OLD), B: ready((2, 300), since=OLD + 1), C: ready((3, 350))},
        {},
        (
            inode(1, 300, f"slots/{A}"),
            inode(2, 300, f"slots/{B}"),
            inode(3, 350, f"slots/{C}"),
        ),
    )
    plan = make_plan(observe(wishes(Wanted(C, "c")), inventory))
    assert plan.actions == (Evict(A, EvictReason.ROOM_NEEDED, 300),)
    at_the_threshold = replace(
        inventory, inodes=(*inventory.inodes[:2], inode(3, 300, f"slots/{C}"))
    )
    assert make_plan(observe(wishes(Wanted(C, "c")), at_the_threshold)).actions == ()


def test_what_frees_nothing_does_not_go_for_a_threshold() -> None:
    inventory = Inventory(
        {A: ready((1, 950)), C: ready((1, 950))}, {}, (inode(1, 950, f"slots/{A}", f"slots/{C}"),)
    )
    assert make_plan(observe(wishes(Wanted(C, "c")), inventory)).actions == ()


@pytest.mark.parametrize(
    ("owners", "place"),
    [
        pytest.param({f"trash/{A}.aside", f"slots/{B}"}, "slots", id="content is worth most"),
        pytest.param({f"trash/{A}.aside", f"staging/{B}"}, "staging", id="then what becomes it"),
        pytest.param({"quarantine/x"}, "quarantine", id="damage kept for a look"),
        pytest.param(set(), "orphans", id="nobody links the blob"),
    ],
)
def test_an_inode_is_booked_where_it_is_worth_most(owners: set[str], place: str) -> None:
    assert InodeUse(1, frozenset(owners)).place == place


def shared_by_two_revisions(budget: int) -> Observation:
    """B, unlisted, holds 60 bytes that A, 60 + 35 bytes, is to have, too."""
    inventory = Inventory(
        {B: ready((1, 60))}, staged(a=listing((1, 60), (2, 35))), (inode(1, 60, f"slots/{B}"),)
    )
    return observe(wishes(Wanted(A, "a"), budget=budget), inventory)


def test_room_is_not_made_by_evicting_contents_that_the_fill_itself_needs() -> None:
    plan = make_plan(shared_by_two_revisions(budget=90))
    assert plan.deferred == (Deferred(A, DeferReason.BUDGET_EXCEEDED, 35),)
    assert plan.actions == ()


def test_contents_that_a_fill_counts_on_are_no_room_for_another() -> None:
    inventory = Inventory(
        {B: ready((1, 60))},
        staged(a=listing((1, 60), (2, 35)), c=listing((3, 50))),
        (inode(1, 60, f"slots/{B}"),),
    )
    wanted = wishes(Wanted(A, "a", priority=1), Wanted(C, "c"), budget=100)
    plan = make_plan(observe(wanted, inventory))
    assert [a for a in plan.actions if isinstance(a, Fill)] == [Fill(A, 35)]
    assert plan.deferred == (Deferred(C, DeferReason.BUDGET_EXCEEDED, 50),)


def test_contents_that_a_fill_in_flight_took_over_from_an_evicted_model_are_charged_to_it() -> None:
    stagings = staged(a=listing((1, 60), (2, 35)), c=listing((3, 50)))
    filling = {A: FillProgress(A, ModelState.DOWNLOADING, 35, bytes_done=60, bytes_total=95)}
    seen = observe(
        wishes(Wanted(A, "a"), Wanted(C, "c"), budget=100),
        Inventory({}, stagings, (inode(1, 60, f"staging/{A}"),)),
        in_flight=filling,
    )
    assert make_plan(seen).deferred == (Deferred(C, DeferReason.BUDGET_EXCEEDED, 50),)


def test_a_clock_that_was_set_back_delays_no_retry() -> None:
    failure = Failure(FillFailure.STALLED, "", NOW + 10**8, failed_at=NOW + 10**8 - 5)
    plan = make_plan(observe(wishes(Wanted(A, "a")), failures={A: failure}))
    assert plan.actions == (Resolve(A),)


def test_a_clock_that_was_set_back_keeps_no_model_young() -> None:
    inventory = Inventory(
        {B: ready((1, 900), since=NOW + 10**8)},
        staged(a=listing((2, 500))),
        (inode(1, 900, f"slots/{B}"),),
    )
    wanted = wishes(Wanted(A, "a", priority=1), Wanted(B, "b"))
    evict = Evict(B, EvictReason.ROOM_NEEDED, 900)
    assert make_plan(observe(wanted, inventory)).actions[0] == evict


def test_a_publish_that_failed_waits_for_its_time() -> None:
    inventory = Inventory({}, {A: StagingFacts(listing((1, 10)), is_complete=True)})
    failure = Failure(FillFailure.DISK_FULL, "", NOW + 5)
    plan = make_plan(observe(wishes(Wanted(A, "a")), inventory, failures={A: failure}))
    assert plan.actions == ()
    assert [d.reason for d in plan.deferred] == [DeferReason.RETRY_LATER]


def test_a_model_that_could_not_be_evicted_is_left_alone_for_a_while() -> None:
    inventory = Inventory(
        {B: ready((1, 600))}, staged(a=listing((2, 600))), (inode(1, 600, f"slots/{B}"),)
    )
    stuck = Failure(FillFailure.STALLED, "", NOW + 5, is_of_eviction=True)
    seen = observe(wishes(Wanted(A, "a")), inventory, statuses={B: unlisted(10**6)})
    assert Evict(B, EvictReason.UNLISTED, 600) in make_plan(seen).actions
    plan = make_plan(replace(seen, failures={B: stuck}))
    assert plan.actions == ()
    assert {(d.key, d.reason) for d in plan.deferred} == {
        (A, DeferReason.BUDGET_EXCEEDED),
        (B, DeferReason.RETRY_LATER),
    }


def test_a_listing_in_doubt_is_asked_for_again() -> None:
    inventory = Inventory({}, staged(a=listing((1, 10))))
    failure = Failure(FillFailure.INTEGRITY_MISMATCH, "", NOW - 5, doubts_listing=True)
    plan = make_plan(observe(wishes(Wanted(A, "a")), inventory, failures={A: failure}))
    assert plan.actions == (Resolve(A),)
