"""What waiting pods are told."""

from dataclasses import replace

from agent.planning.plan import DeferReason, Deferred, Observation, Plan
from agent.planning.statuses import slot_statuses
from agent.planning.values import (
    Disk,
    Failure,
    FillProgress,
    Inventory,
    Listing,
    RemoteFile,
    SlotFacts,
    StagingFacts,
)
from agent.planning.wishes import Limits, Wanted, Wishes
from larder.catalog import ModelEntry
from larder.contract import FillFailure
from larder.layout import Digest, Key
from larder.manifest import ManifestFile, make_manifest
from larder.status import ModelState, SlotStatus, parse_status

A = Key("a" * 16)
NOW = 5000.0
MANIFEST = make_manifest("hf://o/m", "c" * 40, [ManifestFile("f", 7, Digest("1" * 64))])
READY = SlotFacts(MANIFEST, has_content=True, agrees=True)
SEEN = Observation(
    NOW,
    Wishes({A: Wanted(A, "a")}, Limits(1000, 0, join_timeout_seconds=90)),
    Inventory(),
    Disk(1000, 1000),
)


def status_of(seen: Observation, plan: Plan | None = None) -> SlotStatus:
    return slot_statuses(seen, plan or Plan())[A]


def test_nothing_is_said_while_the_catalog_is_unknown() -> None:
    assert slot_statuses(replace(SEEN, wishes=None), Plan()) == {}


def test_a_wanted_model_is_queued() -> None:
    assert status_of(SEEN) == SlotStatus(ModelState.QUEUED, sequence=1, join_timeout_seconds=90)


def test_a_ready_slot_says_what_it_holds() -> None:
    status = status_of(replace(SEEN, inventory=Inventory({A: READY})))
    assert (status.state, status.bytes_done, status.bytes_total) == (ModelState.READY, 7, 7)
    assert status.revision == "c" * 40


def test_files_that_nothing_vouches_for_are_counted_while_the_listing_is_there_and_kept_after() -> (
    None
):
    files = (RemoteFile("f", 7), RemoteFile("g", 7, Digest("1" * 64)))
    staged = {A: StagingFacts(Listing("s3://b/m", "1", files))}
    filling = status_of(replace(SEEN, inventory=Inventory(staging=staged)))
    assert filling.unproven_files == 1
    ready = replace(SEEN, inventory=Inventory({A: READY}), statuses={A: filling})
    assert status_of(ready).unproven_files == 1
    gone = replace(SEEN, statuses={A: status_of(ready)})
    assert status_of(gone).unproven_files is None


def test_a_model_whose_digest_the_catalog_pins_has_no_file_that_nothing_vouches_for() -> None:
    staged = {A: StagingFacts(Listing("s3://b/m", "1", (RemoteFile("f", 7),)))}
    for digest, count in ((f"sha256:{'1' * 64}", 0), (None, 1)):
        entry = ModelEntry(name="a", storage_uri="s3://b/m", namespaces=["chat"], digest=digest)
        wishes = Wishes({A: Wanted(A, "a")}, Limits(1000, 0), {A: entry})
        seen = replace(SEEN, wishes=wishes, inventory=Inventory(staging=staged))
        assert status_of(seen).unproven_files == count


def test_content_that_must_not_be_used_is_quarantined() -> None:
    for slot in (replace(READY, is_quarantined=True), replace(READY, manifest=None, agrees=False)):
        status = status_of(replace(SEEN, inventory=Inventory({A: slot})))
        assert status.state is ModelState.QUARANTINED


def test_a_fill_tells_bytes_rate_and_eta_and_moves_its_sequence_only_with_bytes() -> None:
    def at(done: int, rate: int) -> Observation:
        fill = FillProgress(A, ModelState.DOWNLOADING, 100, done, 100, rate)
        staging = {A: StagingFacts(Listing("hf://o/m", "d" * 40, ()))}
        return replace(SEEN, in_flight={A: fill}, inventory=Inventory({}, staging))

    first = status_of(at(10, 0))
    assert (first.sequence, first.eta_seconds, first.revision) == (1, None, "d" * 40)
    second = status_of(replace(at(40, 7), statuses={A: first}))
    assert (second.sequence, second.eta_seconds) == (2, 9)
    slower = status_of(replace(at(40, 5), statuses={A: second}))
    assert (slower.sequence, slower.eta_seconds) == (2, 12)
    assert status_of(replace(at(40, 5), statuses={A: slower})) == slower


def test_an_agent_that_came_back_moves_the_sequence() -> None:
    before = SlotStatus(ModelState.QUEUED, sequence=4, join_timeout_seconds=90, restarting=True)
    status = status_of(replace(SEEN, statuses={A: before}))
    assert (status.sequence, status.restarting) == (5, False)


def test_failures_are_told_with_their_reason_until_the_retry() -> None:
    failure = Failure(FillFailure.ACCESS_DENIED, "no", NOW + 1)
    seen = replace(SEEN, failures={A: failure})
    assert status_of(seen).reason == "AccessDenied"
    assert status_of(replace(seen, now=NOW + 1)).state is ModelState.QUEUED


def test_what_does_not_fit_has_failed_so_that_pods_do_not_wait() -> None:
    for defer, reason in (
        (DeferReason.BUDGET_EXCEEDED, "BudgetExceeded"),
        (DeferReason.DISK_FULL, "DiskFull"),
    ):
        status = status_of(SEEN, Plan((), (Deferred(A, defer),)))
        assert (status.state, status.reason) == (ModelState.FAILED, reason)
    status = status_of(SEEN, Plan((), (Deferred(A, DeferReason.CONCURRENCY_LIMIT),)))
    assert status.state is ModelState.QUEUED


def test_an_unlisted_model_remembers_since_when_and_forgets_when_listed_again() -> None:
    unlisted = replace(SEEN, wishes=Wishes({}, Limits(1000, 0)), inventory=Inventory({A: READY}))
    first = status_of(unlisted)
    assert first.unlisted_since == int(NOW)
    later = replace(unlisted, now=NOW + 50, statuses={A: first})
    assert status_of(later) == first
    listed = replace(later, wishes=SEEN.wishes)
    assert status_of(listed).unlisted_since is None
    set_back = replace(unlisted, now=NOW - 1000, statuses={A: first})
    assert status_of(set_back).unlisted_since == int(NOW - 1000)
    empty = replace(unlisted, inventory=Inventory({A: SlotFacts()}))
    assert status_of(empty).state is ModelState.ABSENT


def test_a_queued_model_tells_when_its_turn_will_be_over_and_moves_with_the_queue() -> None:
    def at(done: int, rate: int = 10) -> Observation:
        flying = Key("b" * 16)
        fill = FillProgress(flying, ModelState.DOWNLOADING, 100, done, 100, rate)
        return replace(SEEN, in_flight={flying: fill})

    plan = Plan((), (Deferred(A, DeferReason.CONCURRENCY_LIMIT, 55),))
    first = status_of(at(0), plan)
    assert (first.state, first.eta_seconds, first.bytes_total) == (ModelState.QUEUED, 16, 55)
    assert first.reason == "ConcurrencyLimit"
    assert parse_status(first.text()) == first
    second = status_of(replace(at(50), statuses={A: first}), plan)
    assert (second.eta_seconds, second.sequence) == (11, first.sequence + 1)
    assert status_of(replace(at(50), statuses={A: second}), plan) == second
    assert status_of(at(0, rate=0), plan).eta_seconds is None
    unlisted = Plan((), (Deferred(A, DeferReason.CONCURRENCY_LIMIT, 0),))
    assert status_of(at(0), unlisted).eta_seconds is None  # nobody knows its size yet


def test_nobody_says_when_a_model_is_there_whose_size_is_not_known_beforehand() -> None:
    archive = RemoteFile("m.tar", 40, unpacked_bytes=60)
    staging = {A: StagingFacts(Listing("https://h/m.tar", "sha256:c", (archive,)))}
    seen = replace(SEEN, inventory=Inventory(staging=staging))
    fill = FillProgress(A, ModelState.DOWNLOADING, 100, 30, 100, rate_bytes_per_second=10)
    filling = status_of(replace(seen, in_flight={A: fill}))
    assert (filling.bytes_done, filling.rate_bytes_per_second) == (30, 10)
    assert (filling.bytes_total, filling.eta_seconds) == (0, None)
    plan = Plan((), (Deferred(A, DeferReason.CONCURRENCY_LIMIT, 100),))
    before = {Key("b" * 16): replace(fill, key=Key("b" * 16))}
    queued = status_of(replace(seen, in_flight=before), plan)
    assert (queued.bytes_total, queued.eta_seconds) == (0, 17)  # at most: it is all that it may be
