import json
import os
import stat

import pytest
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
    digest_of,
    manifest_of,
    snapshot,
)

from larder.errors import CacheRootError, IntegrityError
from larder.status import ModelState, SlotStatus


def test_a_published_model_is_ready_with_its_manifest_and_read_only_files(
    stocked: StockedRoot,
) -> None:
    manifest = stocked.publish(IRIS, IRIS_FILES)

    facts = stocked.scan().slots[IRIS]
    assert manifest == manifest_of(IRIS, IRIS_FILES)
    assert facts.is_ready
    assert facts.manifest == manifest
    assert facts.ready_since == (stocked.slot(IRIS) / "manifest").stat().st_mtime
    assert not stocked.staging(IRIS).exists()
    assert stocked.trash() == []
    assert_nothing_half_visible(stocked.path)
    modes = {
        stat.S_IMODE(entry.stat().st_mode)
        for entry in (stocked.slot(IRIS) / "content").rglob("*")
        if entry.is_file()
    }
    assert modes == {0o444}
    assert stat.S_IMODE((stocked.slot(IRIS) / "content").stat().st_mode) == 0o755
    assert stat.S_IMODE((stocked.slot(IRIS) / "content" / "deep").stat().st_mode) == 0o755


def test_publishing_twice_is_the_same_as_once(stocked: StockedRoot) -> None:
    manifest = stocked.publish(IRIS, IRIS_FILES)
    before = snapshot(stocked.slot(IRIS))
    stocked.stage(IRIS, IRIS_FILES)  # what a crash just before the last step leaves

    assert stocked.store.publish(IRIS) == manifest

    assert not stocked.staging(IRIS).exists()
    assert {n: e[:3] for n, e in snapshot(stocked.slot(IRIS)).items()} == {
        n: e[:3] for n, e in before.items()
    }


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda s: (s / "tree" / "model.joblib").unlink(), id="a file is missing"),
        pytest.param(lambda s: (s / "tree" / "more").write_text("x"), id="a file too many"),
        pytest.param(lambda s: (s / "tree" / "void").mkdir(), id="a directory too many"),
        pytest.param(lambda s: (s / "manifest").write_text("1\n"), id="a torn manifest"),
        pytest.param(lambda s: (s / "manifest").unlink(), id="no manifest"),
        pytest.param(
            lambda s: (
                (s / "tree" / "model.joblib").unlink(),
                (s / "tree" / "model.joblib").write_text("irises"),
            ),
            id="another size",
        ),
        pytest.param(
            lambda s: (
                (s / "tree" / "model.joblib").unlink(),
                (s / "tree" / "model.joblib").symlink_to("/etc/hostname"),
            ),
            id="a link instead of a file",
        ),
        pytest.param(lambda s: os.mkfifo(s / "tree" / "fifo"), id="a special file"),
    ],
)
def test_a_staging_that_is_not_what_its_manifest_says_is_refused_and_changes_nothing(
    stocked: StockedRoot, damage
) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    stocked.stage(IRIS, IRIS_FILES)
    damage(stocked.staging(IRIS))
    before = snapshot(stocked.slot(IRIS)), sorted(stocked.staging(IRIS).rglob("*"))

    assert not stocked.scan().staging[IRIS].is_complete
    with pytest.raises(IntegrityError):
        stocked.store.publish(IRIS)

    assert (snapshot(stocked.slot(IRIS)), sorted(stocked.staging(IRIS).rglob("*"))) == before


def test_an_empty_content_planted_in_a_slot_is_never_taken_for_a_model(
    stocked: StockedRoot,
) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    (stocked.slot(IRIS) / "content").mkdir()
    stocked.stage(IRIS, IRIS_FILES)
    before = snapshot(stocked.path)

    with pytest.raises(CacheRootError, match="is in the way: it is not the model"):
        stocked.store.publish(IRIS)

    assert snapshot(stocked.path) == before
    assert not stocked.scan().slots[IRIS].is_ready
    stocked.store.recover()
    stocked.store.publish(IRIS)
    assert stocked.scan().slots[IRIS].is_ready


def test_content_that_is_not_the_model_is_not_replaced(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    (stocked.slot(IRIS) / "content" / "model.joblib").unlink()
    stocked.stage(IRIS, IRIS_FILES)

    with pytest.raises(CacheRootError, match="in the way"):
        stocked.store.publish(IRIS)

    assert stocked.scan().staging[IRIS].is_complete


def test_a_model_without_files_can_be_published(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, {})
    assert stocked.scan().slots[IRIS].is_ready


def test_a_refill_after_an_eviction_in_quarantine_starts_unmarked(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.quarantine(IRIS)
    assert not stocked.scan().slots[IRIS].is_ready
    stocked.evict(IRIS)
    assert not stocked.scan().slots[IRIS].is_quarantined
    stocked.quarantine(IRIS)

    stocked.publish(IRIS, IRIS_FILES)

    assert stocked.scan().slots[IRIS].is_ready


def test_what_is_put_back_is_what_was_taken_aside(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    inode = (stocked.slot(IRIS) / "content").stat().st_ino

    assert stocked.store.take_aside(IRIS)
    assert not stocked.scan().slots[IRIS].has_content
    assert stocked.trash() == [f"{IRIS}.aside"]
    assert stocked.store.put_back(IRIS)

    assert stocked.scan().slots[IRIS].is_ready
    assert (stocked.slot(IRIS) / "content").stat().st_ino == inode
    assert stocked.trash() == []


def test_aside_moves_without_anything_to_move_say_so(stocked: StockedRoot) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    assert not stocked.store.take_aside(IRIS)
    assert not stocked.store.put_back(IRIS)
    assert stocked.store.evict_aside(IRIS) == 0
    assert stocked.store.evict_staging(IRIS) == 0


def test_content_never_goes_back_over_other_content(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.store.take_aside(IRIS)
    (stocked.slot(IRIS) / "content").mkdir()  # a plain rename would replace it silently

    with pytest.raises(CacheRootError, match=f"putting {IRIS} back: File exists"):
        stocked.store.put_back(IRIS)

    assert stocked.trash() == [f"{IRIS}.aside"]


def test_an_eviction_frees_what_nobody_else_links_and_keeps_the_rest(
    stocked: StockedRoot,
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.publish(QWEN, QWEN_FILES)

    freed_bytes = stocked.evict(QWEN)

    assert freed_bytes == 5000
    assert stocked.blob(SHARED).exists()
    assert not stocked.blob(b"w" * 5000).exists()
    assert stocked.scan().slots[IRIS].is_ready
    assert stocked.scan().slots[QWEN].manifest is None
    assert sorted(entry.name for entry in stocked.slot(QWEN).iterdir()) == ["initializer"]
    assert stocked.trash() == []
    assert_nothing_half_visible(stocked.path)
    assert stocked.evict(IRIS) == len(SHARED) + len(b"iris") + len(b"{}")
    assert stocked.scan().inodes == ()


def test_evicting_bytes_that_are_no_blobs_counts_them(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.blob(b"iris").unlink()
    assert stocked.evict(IRIS) == sum(map(len, IRIS_FILES.values()))


def test_evicting_a_staging_leaves_its_blobs_for_whoever_wants_them(stocked: StockedRoot) -> None:
    stocked.stage(IRIS, IRIS_FILES)
    (stocked.staging(IRIS) / "partial" / "7").write_bytes(b"half a file")

    freed_bytes = stocked.store.evict_staging(IRIS)

    listing_and_manifest = 2
    assert freed_bytes >= len(b"half a file") + listing_and_manifest
    assert not stocked.staging(IRIS).exists()
    assert stocked.store.collect_blobs(frozenset({digest_of(SHARED)})) == len(b"iris") + 2
    assert stocked.blob(SHARED).exists()
    assert stocked.store.collect_blobs(frozenset()) == len(SHARED)
    assert stocked.scan().inodes == ()


def test_blobs_that_a_tree_links_are_never_collected(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.stage(QWEN, QWEN_FILES)
    assert stocked.store.collect_blobs(frozenset()) == 0
    assert all(stocked.blob(data).exists() for data in [*IRIS_FILES.values(), b"w" * 5000])


def test_a_slot_with_content_or_with_content_aside_is_not_removed(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    for _ in range(2):
        with pytest.raises(CacheRootError, match="has content; it is evicted before the slot"):
            stocked.store.remove_slot(IRIS)
        stocked.store.take_aside(IRIS)
    stocked.store.put_back(IRIS)
    assert stocked.scan().slots[IRIS].is_ready


def test_a_slot_without_content_is_removed_with_all_it_has(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.store.write_status(IRIS, SlotStatus(ModelState.READY))
    stocked.evict(IRIS)

    stocked.store.remove_slot(IRIS)
    stocked.store.remove_slot(IRIS)

    assert not stocked.slot(IRIS).exists()
    assert stocked.trash() == []


def test_a_slot_gets_the_program_once_and_again_only_when_it_differs(
    stocked: StockedRoot,
) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    program = stocked.slot(IRIS) / "initializer"
    assert program.read_bytes() == PROGRAM
    assert stat.S_IMODE(program.stat().st_mode) == 0o555
    assert stat.S_IMODE(stocked.slot(IRIS).stat().st_mode) == 0o755
    before = snapshot(stocked.slot(IRIS))

    stocked.store.ensure_slot(IRIS, PROGRAM)
    assert snapshot(stocked.slot(IRIS)) == before
    stocked.store.ensure_slot(IRIS, b"print('newer')\n")
    assert program.read_bytes() == b"print('newer')\n"


def test_a_slot_that_pods_could_not_read_is_opened_again(stocked: StockedRoot) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    (stocked.slot(IRIS) / "initializer").chmod(0o600)
    stocked.slot(IRIS).chmod(0o700)

    stocked.store.ensure_slot(IRIS, PROGRAM)

    assert stat.S_IMODE((stocked.slot(IRIS) / "initializer").stat().st_mode) == 0o555
    assert stat.S_IMODE(stocked.slot(IRIS).stat().st_mode) == 0o755


def test_a_status_is_read_back_as_written_and_by_everybody(stocked: StockedRoot) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    status = SlotStatus(ModelState.DOWNLOADING, sequence=17, bytes_done=1, unlisted_since=5)

    stocked.store.write_status(IRIS, SlotStatus(ModelState.QUEUED))
    stocked.store.write_status(IRIS, status)

    path = stocked.slot(IRIS) / "status.json"
    assert stocked.scan().slots[IRIS].status == status
    assert json.loads(path.read_text())["sequence"] == 17
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_status_for_a_slot_that_is_not_there_is_refused(stocked: StockedRoot) -> None:
    with pytest.raises(CacheRootError, match=f"writing the status of {LLAMA}: No such file"):
        stocked.store.write_status(LLAMA, SlotStatus(ModelState.QUEUED))


def test_the_last_good_catalog_is_kept(stocked: StockedRoot) -> None:
    stocked.store.save_catalog(b"kind: Catalog\n")
    stocked.store.save_catalog(b"kind: Catalog\nmodels: []\n")
    assert (stocked.path / "catalog.yaml").read_bytes() == b"kind: Catalog\nmodels: []\n"
