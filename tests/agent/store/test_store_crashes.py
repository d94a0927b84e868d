"""Every transition, killed before each of its changes of the disk, then restarted."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from crashes import Crash, crash_before, died, full_from
from stocked_root import (
    IRIS,
    IRIS_FILES,
    LLAMA,
    PROGRAM,
    QWEN,
    QWEN_FILES,
    SHARED,
    StockedRoot,
    assert_nothing_half_visible,
    snapshot,
)

from agent.store import at, blobs
from larder.errors import DiskFullError
from larder.status import ModelState, SlotStatus

Prepare = Callable[[StockedRoot], object]


def _staged(stocked: StockedRoot) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    stocked.stage(IRIS, IRIS_FILES)


def _ready(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)


def _aside(stocked: StockedRoot) -> None:
    _ready(stocked)
    stocked.store.take_aside(IRIS)


def _everything_wrong(stocked: StockedRoot) -> None:
    """Whatever `recover` puts right, at once."""
    _aside(stocked)
    stocked.publish(LLAMA, {"only": b"llama"})
    (stocked.slot(LLAMA) / "manifest").unlink()
    (stocked.path / "trash" / "foreign-old-0").mkdir()
    (stocked.path / "trash" / "foreign-old-0" / "bytes").write_text("old")
    (stocked.path / "trash" / f"{QWEN}.aside").mkdir()
    damaged = stocked.slot(_DAMAGED)
    stocked.publish(_DAMAGED, {"bytes": b"damaged"})
    (damaged / "content" / "bytes").unlink()
    half = stocked.slot(_HALF)
    stocked.store.ensure_slot(_HALF, PROGRAM)
    (half / "manifest").write_text("1\nsource a b\n")
    (half / "quarantined").write_text("")
    (half / ".larder-0").write_text("half")
    (stocked.path / ".larder-0").write_text("half")
    (stocked.path / "staging" / "odd").write_text("odd")
    stocked.stage(QWEN, QWEN_FILES)
    stocked.stage(_FILLING, {"a": b"being filled"})
    (stocked.path / "staging" / _FILLING / ".larder-1").write_text("half")


_DAMAGED, _HALF, _FILLING = (f"{n:016x}" for n in range(3))


def _crash_at_every_step(tmp_path: Path, prepare: Prepare, work: Prepare) -> list[StockedRoot]:
    """One root a step: prepared, killed there while at work, restarted and recovered."""
    survivors = []
    for step in itertools.count(1):
        stocked = StockedRoot(tmp_path / str(step))
        stocked.publish(QWEN, QWEN_FILES)
        prepare(stocked)
        killed = died(step, lambda s=stocked: work(s))
        assert_nothing_half_visible(stocked.path)
        stocked.reopen()
        assert stocked.store.recover() == ()
        assert_nothing_half_visible(stocked.path)
        assert stocked.scan().slots[QWEN].is_ready, f"step {step} lost a model beside it"
        assert stocked.scan().findings == ()
        assert stocked.trash() == []
        survivors.append(stocked)
        if not killed:
            return survivors
    raise AssertionError


def _assert_ready(stocked: StockedRoot) -> None:
    assert stocked.scan().slots[IRIS].is_ready
    for data in IRIS_FILES.values():
        assert stocked.blob(data).stat().st_nlink == (3 if data == SHARED else 2)
    assert not stocked.staging(IRIS).exists()


def _assert_evicted(stocked: StockedRoot) -> None:
    facts = stocked.scan().slots[IRIS]
    assert not facts.has_content
    assert facts.manifest is None
    assert not stocked.blob(b"iris").exists()
    assert stocked.blob(SHARED).stat().st_nlink == 2


def _close(survivors: list[StockedRoot]) -> None:
    for stocked in survivors:
        stocked.close()


def test_publishing_killed_anywhere_loses_nothing_and_completes(tmp_path: Path) -> None:
    survivors = _crash_at_every_step(tmp_path, _staged, lambda s: s.store.publish(IRIS))

    assert len(survivors) > 12
    for stocked in survivors:
        facts = stocked.scan()
        is_complete = IRIS in facts.staging and facts.staging[IRIS].is_complete
        assert facts.slots[IRIS].is_ready != is_complete
        if is_complete:
            assert facts.slots[IRIS].manifest is None
        stocked.store.publish(IRIS)
        _assert_ready(stocked)
        assert_nothing_half_visible(stocked.path)
    _close(survivors)


def test_publishing_killed_anywhere_completes_without_a_recovery_too(tmp_path: Path) -> None:
    for step in itertools.count(1):
        stocked = StockedRoot(tmp_path / str(step))
        stocked.publish(QWEN, QWEN_FILES)
        _staged(stocked)
        killed = died(step, lambda s=stocked: s.store.publish(IRIS))
        stocked.reopen()
        stocked.store.publish(IRIS)
        _assert_ready(stocked)
        stocked.close()
        if not killed:
            return


def test_an_eviction_killed_anywhere_is_either_undone_or_finished(tmp_path: Path) -> None:
    survivors = _crash_at_every_step(tmp_path, _ready, lambda s: s.evict(IRIS))

    outcomes = [s.scan().slots[IRIS].is_ready for s in survivors]
    assert outcomes == sorted(outcomes, reverse=True), "undone before the decision, finished after"
    assert {True, False} == set(outcomes)
    for stocked, is_ready in zip(survivors, outcomes, strict=True):
        if is_ready:
            _assert_ready(stocked)
            stocked.evict(IRIS)
        _assert_evicted(stocked)
        stocked.publish(IRIS, IRIS_FILES)
        _assert_ready(stocked)
    _close(survivors)


def test_putting_back_killed_anywhere_ends_with_the_model_in_its_slot(tmp_path: Path) -> None:
    survivors = _crash_at_every_step(tmp_path, _aside, lambda s: s.store.put_back(IRIS))
    for stocked in survivors:
        _assert_ready(stocked)
    _close(survivors)


def test_small_changes_of_a_slot_killed_anywhere_can_be_made_again(tmp_path: Path) -> None:
    def work(stocked: StockedRoot) -> None:
        stocked.store.ensure_slot(IRIS, b"newer program")
        stocked.store.write_status(IRIS, SlotStatus(ModelState.READY))
        stocked.store.save_catalog(b"catalog")

    survivors = _crash_at_every_step(tmp_path, _ready, work)

    for stocked in survivors:
        work(stocked)
        _assert_ready(stocked)
        assert (stocked.slot(IRIS) / "initializer").read_bytes() == b"newer program"
    _close(survivors)


def test_removing_a_slot_or_a_staging_killed_anywhere_can_be_done_again(tmp_path: Path) -> None:
    def work(stocked: StockedRoot) -> None:
        stocked.store.evict_staging(IRIS)
        stocked.store.remove_slot(IRIS)
        stocked.store.collect_blobs(frozenset())

    survivors = _crash_at_every_step(tmp_path, _staged, work)

    for stocked in survivors:
        work(stocked)
        assert not stocked.slot(IRIS).exists()
        assert set(stocked.scan().slots) == {QWEN}
        assert all(inode.owners for inode in stocked.scan().inodes)
    _close(survivors)


def test_a_fill_killed_while_linking_can_go_on(tmp_path: Path) -> None:
    survivors = _crash_at_every_step(
        tmp_path,
        lambda s: s.store.ensure_slot(IRIS, PROGRAM),
        lambda s: s.stage(IRIS, IRIS_FILES),
    )
    for stocked in survivors:
        stocked.store.evict_staging(IRIS)
        stocked.store.collect_blobs(frozenset())
        stocked.publish(IRIS, IRIS_FILES)
        _assert_ready(stocked)
    _close(survivors)


def test_a_recovery_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    for step in itertools.count(1):
        stocked = StockedRoot(tmp_path / str(step))
        _everything_wrong(stocked)
        killed = died(step, stocked.store.recover)
        stocked.reopen()
        stocked.store.recover()

        facts = stocked.scan()
        _assert_recovered(stocked)
        assert stocked.store.recover() == (), "a second recovery has nothing left to say"
        again = stocked.scan()
        assert (again.slots, again.staging, again.inodes) == (
            facts.slots,
            facts.staging,
            tuple(i for i in facts.inodes if not any("foreign" in o for o in i.owners)),
        )
        stocked.close()
        if not killed:
            assert step > 20
            return


def _assert_recovered(stocked: StockedRoot) -> None:
    facts = stocked.scan()
    assert facts.slots[IRIS].is_ready
    assert not facts.slots[LLAMA].has_content
    assert facts.slots[_DAMAGED].is_quarantined
    assert facts.slots[_HALF].manifest is None
    assert not facts.slots[_HALF].is_quarantined
    assert facts.staging[QWEN].is_complete
    assert facts.staging[_FILLING].is_complete
    assert set(facts.staging) == {QWEN, _FILLING}
    assert all(name.startswith(f"foreign-{LLAMA}") for name in stocked.trash())
    assert not [p for p in stocked.path.rglob(".larder-*") if "trash" not in p.parts]


@pytest.mark.parametrize(
    ("prepare", "work"),
    [
        pytest.param(_staged, lambda s: s.store.publish(IRIS), id="publish"),
        pytest.param(_ready, lambda s: s.evict(IRIS), id="evict"),
        pytest.param(_ready, lambda s: s.store.ensure_slot(LLAMA, PROGRAM), id="ensure a slot"),
        pytest.param(
            _ready, lambda s: s.store.write_status(IRIS, SlotStatus(ModelState.READY)), id="status"
        ),
        pytest.param(_staged, lambda s: s.store.evict_staging(IRIS), id="evict a staging"),
        pytest.param(
            _ready, lambda s: (s.evict(IRIS), s.store.remove_slot(IRIS)), id="remove a slot"
        ),
        pytest.param(
            lambda s: s.store.ensure_slot(IRIS, PROGRAM),
            lambda s: s.store.save_catalog(b"catalog"),
            id="keep a catalog",
        ),
    ],
)
def test_a_full_disk_is_said_to_be_full_and_nothing_half_visible(
    tmp_path: Path, prepare: Prepare, work: Prepare
) -> None:
    for step in itertools.count(1):
        stocked = StockedRoot(tmp_path / str(step))
        prepare(stocked)
        try:
            with full_from(step):
                work(stocked)
        except DiskFullError as error:
            assert "the disk is full" in str(error)
            assert_nothing_half_visible(stocked.path)
            stocked.reopen()
            assert stocked.store.recover() == ()
            assert stocked.scan().findings == ()
            stocked.close()
        else:
            stocked.close()
            assert step > 1
            return


def test_a_recovery_on_a_full_disk_says_what_it_could_not_do(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    (stocked.slot(IRIS) / "content" / "model.joblib").unlink()
    with full_from(1):
        findings = stocked.store.recover()
    assert [f.path for f in findings] == [f"slots/{IRIS}"]
    assert findings[0].sentence == "cannot be put right: No space left on device"
    assert not stocked.scan().slots[IRIS].is_ready


def test_an_atomic_write_killed_anywhere_leaves_the_old_bytes_or_the_new(tmp_path: Path) -> None:
    tmp_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with at.opened(tmp_fd, ()) as fd:
        for step in itertools.count(1):
            at.write_atomically(fd, "file", b"old")
            killed = died(step, lambda: at.write_atomically(fd, "file", b"new"))
            assert at.read_bytes(fd, "file", 10) in {b"old", b"new"}
            assert all(name == "file" or at.is_temporary(name) for name in at.names(fd))
            if not killed:
                assert at.read_bytes(fd, "file", 10) == b"new"
                break
    os.close(tmp_fd)


def test_a_crash_is_never_caught(stocked: StockedRoot) -> None:
    before = snapshot(stocked.path)
    with pytest.raises(Crash), crash_before(1):
        stocked.store.ensure_slot(IRIS, PROGRAM)
    assert snapshot(stocked.path) == before
    assert blobs.all_blobs(stocked.root.fd) == set()
