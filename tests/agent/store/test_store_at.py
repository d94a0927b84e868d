import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from stocked_root import snapshot

from agent.store import at


@pytest.fixture
def tmp_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


BAD_NAMES = ["", ".", "..", "a/b", "/", "a\0"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_refused_by_every_operation(
    tmp_path: Path, tmp_fd: int, name: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("x")
    before = snapshot(tmp_path)
    for act in (
        lambda: at.open_directory(tmp_fd, (name,), create=True),
        lambda: at.open_file(tmp_fd, name, os.O_RDONLY),
        lambda: at.read_bytes(tmp_fd, name, 1),
        lambda: at.look(tmp_fd, name),
        lambda: at.is_directory(tmp_fd, name),
        lambda: at.make_directory(tmp_fd, name),
        lambda: at.write_atomically(tmp_fd, name, b"x"),
        lambda: at.rename(tmp_fd, "file", tmp_fd, name),
        lambda: at.rename(tmp_fd, name, tmp_fd, "new"),
        lambda: at.rename_noreplace(tmp_fd, "file", tmp_fd, name),
        lambda: at.rename_noreplace(tmp_fd, name, tmp_fd, "new"),
        lambda: at.link(tmp_fd, "file", tmp_fd, name),
        lambda: at.link(tmp_fd, name, tmp_fd, "new"),
        lambda: at.copy_file(tmp_fd, name, tmp_fd, "new"),
        lambda: at.copy_file(tmp_fd, "file", tmp_fd, name),
        lambda: at.set_mode(tmp_fd, name, 0o700),
        lambda: at.sync_file(tmp_fd, name),
        lambda: at.sync_tree(tmp_fd, name),
        lambda: at.unlink(tmp_fd, name),
        lambda: at.remove_tree(tmp_fd, name),
    ):
        with pytest.raises(ValueError, match="is not a file name"):
            act()
    assert snapshot(tmp_path) == before


def test_a_directory_is_opened_component_by_component(tmp_path: Path, tmp_fd: int) -> None:
    with at.opened(tmp_fd, PurePosixPath("a/b/c"), create=True) as fd:
        at.write_atomically(fd, "file", b"deep")
    assert (tmp_path / "a" / "b" / "c" / "file").read_bytes() == b"deep"
    with at.opened(tmp_fd, ("a", "b")) as fd:
        assert at.names(fd) == ["c"]
    with at.opened(tmp_fd, ()) as fd:
        assert at.names(fd) == ["a"]
    assert not os.get_inheritable(at.open_directory(tmp_fd, ("a",)))


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../b"])
def test_a_path_that_leaves_the_handle_is_refused(tmp_fd: int, tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="is not a file name"):
        at.open_directory(tmp_fd, PurePosixPath(path), create=True)
    assert _names(tmp_path) in ([], ["a"])


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("path", ["link", "link/etc", "etc/link"])
def test_a_link_on_the_way_is_never_followed(
    tmp_path: Path, tmp_fd: int, outside: Path, path: str, create: bool
) -> None:
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        at.open_directory(tmp_fd, PurePosixPath(path), create=create)


def test_a_dangling_link_is_not_made_a_directory(tmp_path: Path, tmp_fd: int) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "new")
    for act in (
        lambda: at.open_directory(tmp_fd, ("link",), create=True),
        lambda: at.make_directory(tmp_fd, "link"),
    ):
        with pytest.raises(NotADirectoryError):
            act()
    assert _names(tmp_path) == ["link"]


def test_a_missing_directory_is_said_to_be_missing(tmp_fd: int) -> None:
    with pytest.raises(FileNotFoundError):
        at.open_directory(tmp_fd, ("a", "b"))


def test_reading_refuses_what_is_too_large_a_link_or_no_file(tmp_path: Path, tmp_fd: int) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    assert at.read_bytes(tmp_fd, "file", 5) == b"12345"
    for name, code in (
        ("file", errno.EFBIG),
        ("link", errno.ELOOP),
        ("directory", errno.EINVAL),
        ("fifo", errno.EINVAL),
        ("missing", errno.ENOENT),
    ):
        with pytest.raises(OSError, match=rf"\[Errno {code}\]"):
            at.read_bytes(tmp_fd, name, 4)


@pytest.mark.parametrize("sync", [True, False])
def test_an_atomic_write_replaces_the_name_and_not_the_file(
    tmp_path: Path, tmp_fd: int, sync: bool
) -> None:
    (tmp_path / "old").write_bytes(b"old")
    os.link(tmp_path / "old", tmp_path / "file")
    umask = os.umask(0o077)
    try:
        at.write_atomically(tmp_fd, "file", b"new", 0o644, sync=sync)
    finally:
        os.umask(umask)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "old").read_bytes() == b"old"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert _names(tmp_path) == ["file", "old"]


def test_an_atomic_write_over_a_link_replaces_the_link(
    tmp_path: Path, tmp_fd: int, outside: Path
) -> None:
    (tmp_path / "link").symlink_to(outside / "etc" / "passwd")
    at.write_atomically(tmp_fd, "link", b"new")
    assert (tmp_path / "link").read_bytes() == b"new"
    assert (outside / "etc" / "passwd").read_text() == "root"


def test_an_atomic_write_that_fails_leaves_nothing(tmp_path: Path, tmp_fd: int) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        at.write_atomically(tmp_fd, "directory", b"new")
    assert _names(tmp_path) == ["directory"]


def test_a_synced_write_syncs_the_file_then_its_directory(
    tmp_path: Path, tmp_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def record(fd: int) -> None:
        name = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        size = "" if name == "directory" else f" of {os.fstat(fd).st_size}"
        order.append(f"{name}{size}, {'after' if (tmp_path / 'x').exists() else 'before'}")

    monkeypatch.setattr(os, "fsync", record)
    at.write_atomically(tmp_fd, "x", b"12345")
    assert order == ["file of 5, before", "directory, after"]
    at.write_atomically(tmp_fd, "x", b"12345", sync=False)
    assert len(order) == 2


@pytest.mark.parametrize("target", ["file", "empty", "full", "link"])
def test_a_rename_that_must_not_replace_does_not(tmp_path: Path, tmp_fd: int, target: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    before = snapshot(tmp_path)
    with pytest.raises(FileExistsError):
        at.rename_noreplace(tmp_fd, "source", tmp_fd, target)
    assert snapshot(tmp_path) == before
    at.rename_noreplace(tmp_fd, "source", tmp_fd, "new")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(FileNotFoundError):
        at.rename_noreplace(tmp_fd, "source", tmp_fd, "newer")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_filesystem_that_cannot_rename_without_replacing_says_so(
    tmp_path: Path, tmp_fd: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(at, "_renameat2", lambda *_: code)
    with pytest.raises(OSError, match="this filesystem cannot rename without replacing") as refusal:
        at.rename_noreplace(tmp_fd, "a", tmp_fd, "b")
    assert refusal.value.errno == errno.EOPNOTSUPP
    assert _names(tmp_path) == []


def test_a_hard_link_is_made_to_a_link_itself_and_never_through_it(
    tmp_path: Path, tmp_fd: int, outside: Path
) -> None:
    (tmp_path / "link").symlink_to(outside / "etc" / "passwd")
    at.link(tmp_fd, "link", tmp_fd, "other")
    assert (tmp_path / "other").is_symlink()
    assert (outside / "etc" / "passwd").stat().st_nlink == 1
    with pytest.raises(FileExistsError):
        at.link(tmp_fd, "link", tmp_fd, "other")


def test_a_copy_is_a_fresh_inode_of_the_same_mode(tmp_path: Path, tmp_fd: int) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "file").chmod(0o444)
    at.copy_file(tmp_fd, "file", tmp_fd, "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert (tmp_path / "copy").stat().st_ino != (tmp_path / "file").stat().st_ino
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o444
    with pytest.raises(FileExistsError):
        at.copy_file(tmp_fd, "file", tmp_fd, "copy")
    assert _names(tmp_path) == ["copy", "file"]


def test_the_mode_behind_a_link_is_never_changed(
    tmp_path: Path, tmp_fd: int, outside: Path
) -> None:
    (tmp_path / "link").symlink_to(outside / "etc" / "passwd")
    before = snapshot(outside)
    with pytest.raises(OSError, match="symbolic links"):
        at.set_mode(tmp_fd, "link", 0o777)
    assert snapshot(outside) == before


def test_a_tree_is_synced_from_the_deepest_directory_up(
    tmp_path: Path, tmp_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "file").write_text("x")
    (tmp_path / "tree" / "link").symlink_to("/etc")
    synced: list[str] = []
    real = os.readlink

    def record(fd: int) -> None:
        synced.append(str(Path(real(f"/proc/self/fd/{fd}")).relative_to(tmp_path)))

    monkeypatch.setattr(os, "fsync", record)
    at.sync_tree(tmp_fd, "tree")
    assert synced == ["tree/a/b", "tree/a", "tree"]
    synced.clear()
    at.sync_tree(tmp_fd, "tree", files=True)
    assert synced == ["tree/a/file", "tree/a/b", "tree/a", "tree"]


def test_a_tree_is_removed_with_its_links_and_without_their_targets(
    tmp_path: Path, tmp_fd: int, outside: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(outside)
    (tree / "a" / "file").write_text("12345")
    os.link(tree / "a" / "file", tree / "twice")
    os.link(outside / "etc" / "passwd", tree / "kept")
    os.mkfifo(tree / "fifo")
    before = snapshot(outside / "empty")

    freed_bytes = at.remove_tree(tmp_fd, "tree")

    assert freed_bytes == 5, "an inode linked twice counts once, one linked elsewhere not at all"
    assert not tree.exists()
    assert snapshot(outside / "empty") == before
    assert (outside / "etc" / "passwd").read_text() == "root"
    assert at.remove_tree(tmp_fd, "tree") == 0


def test_a_link_is_removed_and_not_what_it_points_to(
    tmp_path: Path, tmp_fd: int, outside: Path
) -> None:
    (tmp_path / "link").symlink_to(outside)
    before = snapshot(outside)
    assert at.remove_tree(tmp_fd, "link") == 0
    assert snapshot(outside) == before
    assert "link" not in _names(tmp_path)


def test_directories_that_deny_everything_are_removed(tmp_path: Path, tmp_fd: int) -> None:
    deep = tmp_path / "tree" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    for directory in (deep, deep.parent, deep.parent.parent):
        directory.chmod(0)
    assert at.remove_tree(tmp_fd, "tree") == 1
    assert _names(tmp_path) == []


def test_a_deep_tree_is_removed(tmp_path: Path, tmp_fd: int) -> None:
    with at.opened(tmp_fd, ("d",) * 1500, create=True) as fd:
        at.write_atomically(fd, "file", b"deep", sync=False)
    assert at.remove_tree(tmp_fd, "d") == 4
    assert _names(tmp_path) == []


def test_temporary_names_are_fresh_and_known(tmp_fd: int) -> None:
    made = {at.temporary_name() for _ in range(100)}
    assert len(made) == 100
    assert all(
        at.is_temporary(name) and re.fullmatch(r"\.larder-[0-9a-f]{16}", name) for name in made
    )
    assert not any(at.is_temporary(n) for n in ("manifest", "status.json", ".gitattributes"))
    assert at.look(tmp_fd, made.pop()) is None


# --- room on the disk -----------------------------------------------------------------------------


def test_room_is_set_aside_and_the_size_stays(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        assert at.set_aside(file.fileno(), 3_000_000)
        found = os.fstat(file.fileno())
        assert (found.st_size, found.st_blocks * 512 >= 3_000_000) == (0, True)
        assert at.set_aside(file.fileno(), 0)


def test_room_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with (
        (tmp_path / "file").open("w+b") as file,
        pytest.raises(OSError, match=r"\[Errno \d+\]") as full,
    ):
        at.set_aside(file.fileno(), 1 << 60)
    assert full.value.errno in {errno.ENOSPC, errno.EFBIG}


def test_a_filesystem_that_sets_nothing_aside_is_told() -> None:
    with Path("/proc/self/comm").open("r+b") as file:
        assert at.set_aside(file.fileno(), 1) is False
