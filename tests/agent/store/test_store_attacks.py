"""P5: whatever is planted under the root, nothing outside it is read, written or removed."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stocked_root import (
    IRIS,
    IRIS_FILES,
    PROGRAM,
    QWEN,
    QWEN_FILES,
    StockedRoot,
    digest_of,
    snapshot,
)

from agent.store import at, blobs
from larder.errors import CacheRootError, LarderError
from larder.layout import Key
from larder.status import ModelState, SlotStatus

SECRET = b"a secret outside the root"

Plant = Callable[[StockedRoot, Path], None]


def _replace(path: Path, target: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def _links_in_trash(trash: Path, target: Path) -> None:
    (trash / "deep").mkdir()
    (trash / "deep" / "link").symlink_to(target)
    (trash / "link").symlink_to(target)


PLANTS: dict[str, Plant] = {
    "the slot is a link": lambda s, out: _replace(s.slot(IRIS), out),
    "content is a link": lambda s, out: _replace(s.slot(IRIS) / "content", out),
    "a file of content is a link": lambda s, out: _replace(
        s.slot(IRIS) / "content" / "model.joblib", out / "secret"
    ),
    "a directory of content is a link": lambda s, out: _replace(
        s.slot(IRIS) / "content" / "deep", out
    ),
    "the manifest is a link": lambda s, out: _replace(s.slot(IRIS) / "manifest", out / "secret"),
    "the status is a link": lambda s, out: _replace(s.slot(IRIS) / "status.json", out / "secret"),
    "the initializer is a link": lambda s, out: _replace(
        s.slot(IRIS) / "initializer", out / "secret"
    ),
    "the marker is a link": lambda s, out: _replace(s.slot(IRIS) / "quarantined", out / "secret"),
    "the staging is a link": lambda s, out: _replace(s.staging(QWEN), out),
    "the staged tree is a link": lambda s, out: _replace(s.staging(QWEN) / "tree", out),
    "a staged file is a link": lambda s, out: _replace(
        s.staging(QWEN) / "tree" / "weights.bin", out / "secret"
    ),
    "the staged manifest is a link": lambda s, out: _replace(
        s.staging(QWEN) / "manifest", out / "secret"
    ),
    "the listing is a link": lambda s, out: _replace(
        s.staging(QWEN) / "listing.json", out / "secret"
    ),
    "the aside is a link": lambda s, out: _replace(s.path / "trash" / f"{IRIS}.aside", out),
    "trash holds links": lambda s, out: _links_in_trash(s.path / "trash", out),
    "a blob is a link": lambda s, out: _replace(s.blob(IRIS_FILES["model.joblib"]), out / "secret"),
    "the directory of a blob is a link": lambda s, out: _replace(
        s.blob(IRIS_FILES["model.joblib"]).parent, out
    ),
    "all slots are a link": lambda s, out: _replace(s.path / "slots", out),
    "all staging is a link": lambda s, out: _replace(s.path / "staging", out),
    "all blobs are a link": lambda s, out: _replace(s.path / "blobs", out),
    "the trash is a link": lambda s, out: _replace(s.path / "trash", out),
    "the quarantine is a link": lambda s, out: _replace(s.path / "quarantine", out),
    "the catalog is a link": lambda s, out: _replace(s.path / "catalog.yaml", out / "secret"),
}


def _everything_the_store_can_do(stocked: StockedRoot) -> Iterator[Callable[[], object]]:
    store = stocked.store
    for key in (IRIS, QWEN):
        yield lambda key=key: store.ensure_slot(key, b"newer program")
        yield lambda key=key: store.write_status(key, SlotStatus(ModelState.QUEUED))
        yield lambda key=key: store.publish(key)
        yield lambda key=key: store.take_aside(key)
        yield lambda key=key: store.put_back(key)
    yield lambda: stocked.stage(IRIS, IRIS_FILES)
    yield lambda: store.save_catalog(b"newer")
    yield stocked.scan
    yield store.recover
    yield stocked.scan
    for key in (IRIS, QWEN):
        yield lambda key=key: store.take_aside(key)
        yield lambda key=key: store.evict_aside(key)
        yield lambda key=key: store.evict_staging(key)
        yield lambda key=key: store.remove_slot(key)
    yield lambda: store.collect_blobs(frozenset())
    yield store.recover


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS.keys())
def test_nothing_outside_the_root_is_touched_when(
    stocked: StockedRoot, outside: Path, plant: Plant
) -> None:
    (outside / "secret").write_bytes(SECRET)
    (outside / "deep").mkdir()
    (outside / "deep" / "file").write_bytes(b"x")
    stocked.publish(IRIS, IRIS_FILES)
    stocked.store.ensure_slot(QWEN, PROGRAM)
    stocked.stage(QWEN, QWEN_FILES)
    plant(stocked, outside)
    before = snapshot(outside)

    for act in _everything_the_store_can_do(stocked):
        try:
            act()
        except (LarderError, OSError, AssertionError):  # refused: fine
            continue
        finally:
            assert snapshot(outside) == before

    for entry in stocked.path.rglob("*"):
        if entry.is_file() and not entry.is_symlink():
            assert SECRET not in entry.read_bytes(), entry


@pytest.mark.parametrize(
    "plant",
    [
        "content is a link",
        "a file of content is a link",
        "a directory of content is a link",
        "the manifest is a link",
    ],
)
def test_a_slot_with_a_link_in_its_content_is_not_ready(
    stocked: StockedRoot, outside: Path, plant: str
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    (outside / "config.json").write_bytes(b"{}")
    PLANTS[plant](stocked, outside)

    facts = stocked.scan()

    assert facts.slots[IRIS].has_content
    assert not facts.slots[IRIS].agrees
    assert any(f.path.startswith(f"slots/{IRIS}/") for f in facts.findings)


@pytest.mark.parametrize("key", ["..", "", ".", "a/b", "../../etc", "x\0"])
def test_a_key_that_is_no_name_is_refused_before_anything(stocked: StockedRoot, key: str) -> None:
    before = snapshot(stocked.path)
    for act in (
        lambda: stocked.store.ensure_slot(Key(key), PROGRAM),
        lambda: stocked.store.publish(Key(key)),
        lambda: stocked.store.evict_staging(Key(key)),
        lambda: stocked.store.remove_slot(Key(key)),
    ):
        with pytest.raises(ValueError, match="is not a file name"):
            act()
    assert snapshot(stocked.path) == before


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//b", "a\nb", "n" * 256, "a\0b", "", "."]
)
def test_a_path_that_no_manifest_can_hold_is_never_linked(stocked: StockedRoot, path: str) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    before = snapshot(stocked.path)
    with (
        at.opened(stocked.root.fd, ("staging",)) as tree_fd,
        pytest.raises(ValueError, match="path"),
    ):
        blobs.link_blob(stocked.root.fd, digest_of(b"iris"), 4, tree_fd, path)
    assert snapshot(stocked.path) == before


def test_linking_below_a_link_in_the_tree_is_refused(stocked: StockedRoot, outside: Path) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    tree = stocked.staging(QWEN) / "tree"
    tree.mkdir(parents=True)
    (tree / "deep").symlink_to(outside)
    before = snapshot(outside)
    with (
        at.opened(stocked.root.fd, ("staging", QWEN, "tree")) as tree_fd,
        pytest.raises(FileExistsError),
    ):
        blobs.link_blob(stocked.root.fd, digest_of(b"iris"), 4, tree_fd, "deep/x")
    assert snapshot(outside) == before


def test_a_fifo_never_hangs_a_reader(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    for name in ("manifest", "status.json", "initializer"):
        (stocked.slot(IRIS) / name).unlink(missing_ok=True)
        os.mkfifo(stocked.slot(IRIS) / name)

    assert stocked.scan().slots[IRIS].manifest is None
    stocked.store.ensure_slot(IRIS, PROGRAM)
    assert (stocked.slot(IRIS) / "initializer").read_bytes() == PROGRAM


def test_a_slot_that_became_a_link_is_refused_in_one_sentence(
    stocked: StockedRoot, outside: Path
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    _replace(stocked.slot(IRIS), outside)
    with pytest.raises(CacheRootError, match=f"making slot {IRIS}: Not a directory"):
        stocked.store.ensure_slot(IRIS, PROGRAM)
