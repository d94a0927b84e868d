from pathlib import Path

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
    snapshot,
)


def test_a_root_in_order_is_left_as_it_is(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.stage(QWEN, QWEN_FILES)
    before = snapshot(stocked.path)

    assert stocked.store.recover() == ()

    assert snapshot(stocked.path) == before


def test_what_an_eviction_left_aside_goes_back(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.store.take_aside(IRIS)

    assert stocked.store.recover() == ()

    assert stocked.scan().slots[IRIS].is_ready
    assert stocked.trash() == []


@pytest.mark.parametrize("lost", ["manifest", ""], ids=["no manifest", "no slot"])
def test_what_lies_aside_for_nobody_goes(stocked: StockedRoot, lost: str) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.store.take_aside(IRIS)
    if lost:
        (stocked.slot(IRIS) / lost).unlink()
    else:
        stocked.slot(IRIS).rename(stocked.path / "slots" / LLAMA)

    stocked.store.recover()

    assert stocked.trash() == []
    assert not stocked.slot(IRIS).joinpath("content").exists()
    assert not stocked.blob(b"iris").exists()


def test_content_aside_does_not_replace_content_that_is_there(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    (stocked.path / "trash" / f"{IRIS}.aside").mkdir()

    assert stocked.store.recover() == ()

    assert stocked.scan().slots[IRIS].is_ready
    assert stocked.trash() == []


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty", "with files"])
def test_content_without_a_manifest_is_set_aside_until_the_next_start(
    stocked: StockedRoot, is_empty: bool
) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    planted = stocked.slot(IRIS) / "content"
    planted.mkdir()
    if not is_empty:
        (planted / "payload.py").write_text("evil")

    findings = stocked.store.recover()

    assert [(f.path, f.sentence) for f in findings] == [
        (
            f"slots/{IRIS}/content",
            f"had no manifest: it is not Larder's and is in trash/foreign-{IRIS}-0 now",
        )
    ]
    assert not planted.exists()
    assert stocked.trash() == [f"foreign-{IRIS}-0"]
    assert [f.path for f in stocked.scan().findings] == [f"trash/foreign-{IRIS}-0"]
    stocked.reopen()
    assert stocked.store.recover() == ()
    assert stocked.trash() == []


def test_a_manifest_or_marker_without_content_goes(stocked: StockedRoot) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    (stocked.slot(IRIS) / "manifest").write_text("1\n")
    stocked.quarantine(IRIS)

    assert stocked.store.recover() == ()

    assert [entry.name for entry in stocked.slot(IRIS).iterdir()] == ["initializer"]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(
            lambda slot: (slot / "content" / "model.joblib").unlink(),
            "is quarantined: model.joblib is missing",
            id="a file is missing",
        ),
        pytest.param(
            lambda slot: (slot / "content" / "extra").write_text("x"),
            "is quarantined: extra is not in the manifest",
            id="a file too many",
        ),
        pytest.param(
            lambda slot: (
                (slot / "content" / "model.joblib").unlink(),
                (slot / "content" / "model.joblib").write_text("iri"),
            ),
            "is quarantined: model.joblib has 3 bytes instead of 4",
            id="a truncated file",
        ),
        pytest.param(
            lambda slot: (slot / "manifest").write_text("2\n"),
            "is quarantined: its manifest cannot be read",
            id="an unreadable manifest",
        ),
    ],
)
def test_a_slot_whose_content_is_not_its_manifest_is_quarantined_where_it_is(
    stocked: StockedRoot, damage, sentence: str
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    damage(stocked.slot(IRIS))
    inode = (stocked.slot(IRIS) / "content").stat().st_ino

    findings = stocked.store.recover()

    assert [(f.path, f.sentence) for f in findings] == [(f"slots/{IRIS}/content", sentence)]
    assert stocked.scan().slots[IRIS].is_quarantined
    assert (stocked.slot(IRIS) / "content").stat().st_ino == inode, "it may be in use"
    assert stocked.store.recover() == (), "it is said once"


def test_a_blob_that_a_damaged_slot_could_be_repaired_with_is_kept(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    (stocked.slot(IRIS) / "content" / "model.joblib").unlink()
    stocked.store.recover()
    assert stocked.blob(b"iris").exists()


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        pytest.param(
            lambda staging: (staging / "odd").mkdir(),
            "is not a staging: its name is not 16 hex digits: it was removed",
            id="a foreign name",
        ),
        pytest.param(
            lambda staging: (staging / LLAMA).write_text("x"),
            "is not a directory: it was removed",
            id="a file",
        ),
        pytest.param(
            lambda staging: (staging / LLAMA / "payload").mkdir(parents=True),
            "holds 'payload', which no fill makes: it was removed",
            id="a foreign entry",
        ),
    ],
)
def test_staging_of_unknown_shape_goes(stocked: StockedRoot, plant, sentence: str) -> None:
    stocked.stage(QWEN, QWEN_FILES)
    plant(stocked.path / "staging")

    findings = stocked.store.recover()

    assert [f.sentence for f in findings] == [sentence]
    assert [entry.name for entry in (stocked.path / "staging").iterdir()] == [QWEN]
    assert stocked.trash() == []


def test_a_fill_half_done_is_kept_with_everything_it_has(stocked: StockedRoot) -> None:
    stocked.stage(IRIS, IRIS_FILES)
    staging = stocked.staging(IRIS)
    (staging / "manifest").unlink()
    (staging / "partial" / "3").write_bytes(b"x" * 1000)
    (staging / "parts").write_text("digests")
    (staging / "lock").touch()
    before = snapshot(stocked.path)

    assert stocked.store.recover() == ()

    assert snapshot(stocked.path) == before


def test_blobs_without_a_tree_go_unless_a_listing_wants_them(stocked: StockedRoot) -> None:
    stocked.stage(IRIS, IRIS_FILES)
    stocked.store.evict_staging(IRIS)
    stocked.stage(QWEN, QWEN_FILES)
    (stocked.staging(QWEN) / "tree" / "tokenizer").unlink()

    stocked.store.recover()

    assert stocked.blob(SHARED).exists()
    assert not stocked.blob(b"iris").exists()


def test_temporary_files_go_wherever_they_were_written(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.stage(QWEN, QWEN_FILES)
    places = [
        stocked.path,
        stocked.slot(IRIS),
        stocked.staging(QWEN),
        stocked.blob(SHARED).parent,
        stocked.path / "trash",
    ]
    for place in places:
        (place / ".larder-0123").write_text("half")

    assert stocked.store.recover() == ()

    assert not any(list(place.glob(".larder-*")) for place in places)


def test_trash_of_directories_that_deny_everything_is_emptied(stocked: StockedRoot) -> None:
    denied = stocked.path / "trash" / "left" / "a" / "b"
    denied.mkdir(parents=True)
    (denied / "file").write_text("x")
    for directory in (denied, denied.parent, denied.parent.parent):
        directory.chmod(0)

    assert stocked.store.recover() == ()

    assert stocked.trash() == []


def test_foreign_content_that_denies_writing_is_set_aside_and_removed(
    stocked: StockedRoot,
) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    planted = stocked.slot(IRIS) / "content"
    (planted / "deep").mkdir(parents=True)
    (planted / "deep").chmod(0o555)
    planted.chmod(0o555)

    assert len(stocked.store.recover()) == 1
    assert stocked.store.recover() == ()

    assert stocked.trash() == []


def test_a_foreign_name_among_the_slots_is_left_alone(stocked: StockedRoot, tmp_path: Path) -> None:
    (stocked.path / "slots" / "README").write_text("mine")
    (stocked.path / "slots" / LLAMA).symlink_to(tmp_path)
    before = snapshot(stocked.path)

    assert stocked.store.recover() == ()

    assert snapshot(stocked.path) == before
    assert {f.path for f in stocked.scan().findings} == {"slots/README", f"slots/{LLAMA}"}
