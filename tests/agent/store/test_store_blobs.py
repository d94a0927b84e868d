import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from stocked_root import IRIS, IRIS_FILES, StockedRoot, digest_of

from agent.store import at, blobs
from larder.errors import CacheRootError, DiskFullError

DATA = b"some weights"
DIGEST = digest_of(DATA)


class Fill:
    """Handles that a fill's child has: the root, its partial files, its tree."""

    def __init__(self, stocked: StockedRoot, stack: ExitStack) -> None:
        self.stocked = stocked
        self.root_fd = stocked.root.fd
        self.partial = stocked.staging(IRIS) / "partial"
        self.tree = stocked.staging(IRIS) / "tree"
        self.partial_fd, self.tree_fd = (
            stack.enter_context(at.opened(self.root_fd, ("staging", IRIS, name), create=True))
            for name in ("partial", "tree")
        )

    def add(self, data: bytes = DATA, name: str = "0") -> Path:
        at.write_atomically(self.partial_fd, name, data, sync=False)
        blobs.add_blob(self.root_fd, self.partial_fd, name, digest_of(data), len(data))
        return self.stocked.blob(data)

    def link(self, path: str, data: bytes = DATA) -> bool:
        return blobs.link_blob(self.root_fd, digest_of(data), len(data), self.tree_fd, path)


@pytest.fixture
def fill(stocked: StockedRoot) -> Iterator[Fill]:
    with ExitStack() as stack:
        yield Fill(stocked, stack)


def test_a_verified_file_becomes_a_read_only_blob_and_keeps_its_name(fill: Fill) -> None:
    blob = fill.add()
    assert blob.read_bytes() == DATA
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    assert blob.samefile(fill.partial / "0")
    assert fill.stocked.store.collect_blobs(frozenset()) == 0, "the partial file holds it"


def test_a_blob_is_linked_into_a_tree_with_its_directories(fill: Fill) -> None:
    blob = fill.add()
    assert fill.link("deep/down/weights.bin")
    assert blob.samefile(fill.tree / "deep" / "down" / "weights.bin")
    assert stat.S_IMODE((fill.tree / "deep").stat().st_mode) == 0o755
    at.unlink(fill.partial_fd, "0")
    assert blob.stat().st_nlink == 2


def test_a_content_that_is_there_already_is_used_once_more(fill: Fill) -> None:
    blob = fill.add()
    inode = blob.stat().st_ino
    fill.add(name="1")
    assert blob.stat().st_ino == inode
    assert not blob.samefile(fill.partial / "1")
    fill.add(name="1")
    assert blob.stat().st_ino == inode


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda blob: blob.write_bytes(b"torn"), id="of another size"),
        pytest.param(lambda blob: blob.symlink_to("/etc/hostname"), id="a link"),
        pytest.param(lambda blob: blob.mkdir(), id="an empty directory"),
        pytest.param(lambda blob: (blob / "full").mkdir(parents=True), id="a directory"),
        pytest.param(os.mkfifo, id="a special file"),
    ],
)
def test_what_stands_where_a_blob_should_is_no_blob_and_is_replaced(fill: Fill, plant) -> None:
    blob = fill.stocked.blob(DATA)
    blob.parent.mkdir(parents=True)
    plant(blob)
    assert not fill.link("weights.bin")
    fill.add()
    assert blob.read_bytes() == DATA
    assert not blob.is_symlink()
    assert fill.link("weights.bin")
    assert sorted(entry.name for entry in blob.parent.iterdir()) == [DIGEST]


def test_a_blob_that_is_not_there_is_not_linked(fill: Fill) -> None:
    assert not fill.link("weights.bin")
    assert not (fill.tree / "weights.bin").exists()


def test_a_blob_collected_between_adding_and_linking_is_added_again(fill: Fill) -> None:
    orphan = fill.add()
    at.unlink(fill.partial_fd, "0")
    fill.add(name="1")  # the orphan will do
    assert fill.stocked.store.collect_blobs(frozenset()) == len(DATA)
    assert not orphan.exists()
    assert not fill.link("weights.bin")
    fill.add(name="1")
    assert fill.link("weights.bin")


@pytest.mark.parametrize(
    ("first", "second"),
    [("weights.bin", "weights.bin"), ("a/b", "a"), ("a", "a/b")],
    ids=["two files", "a file that is a directory", "a directory that is a file"],
)
def test_names_that_the_filesystem_folds_into_one_are_refused(
    fill: Fill, first: str, second: str
) -> None:
    fill.add()
    assert fill.link(first)
    with pytest.raises(FileExistsError):
        fill.link(second)


def test_an_inode_with_no_room_for_links_is_copied_once(
    fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = fill.add()
    assert fill.link("first")
    real = os.link
    full = blob.stat().st_ino

    def refuse_full(src: str, *args: object, **kwargs: object) -> None:
        if os.stat(src, dir_fd=kwargs["src_dir_fd"]).st_ino == full:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), src)
        real(src, *args, **kwargs)

    monkeypatch.setattr(os, "link", refuse_full)
    assert fill.link("second")
    assert fill.link("third")
    first, second, third = (fill.tree / name for name in ("first", "second", "third"))
    assert {path.read_bytes() for path in (first, second, third)} == {DATA}
    assert first.stat().st_ino == full
    assert second.samefile(third)
    assert second.samefile(blob)
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    assert [entry.name for entry in blob.parent.iterdir()] == [DIGEST]


def test_a_disk_without_room_is_said_to_be_full(
    fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill.add()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(DiskFullError, match=r"linking weights.bin: the disk is full"):
        fill.link("weights.bin")
    with pytest.raises(DiskFullError, match="adding blob"):
        fill.add(b"other", "1")


def test_a_missing_partial_file_is_refused_in_one_sentence(fill: Fill) -> None:
    with pytest.raises(CacheRootError, match=f"adding blob {DIGEST}: No such file"):
        blobs.add_blob(fill.root_fd, fill.partial_fd, "0", DIGEST, len(DATA))


def test_all_blobs_are_named(stocked: StockedRoot) -> None:
    assert blobs.all_blobs(stocked.root.fd) == set()
    stocked.publish(IRIS, IRIS_FILES)
    (stocked.path / "blobs" / "sha256" / "stray").write_text("x")
    assert blobs.all_blobs(stocked.root.fd) == {digest_of(d) for d in IRIS_FILES.values()}
