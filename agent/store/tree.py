"""Reading what is below a directory of the root, and whether it is what a manifest says.

Nothing here raises for what it finds: an entry that no tree of ours has (a link, a special file, a
directory that cannot be read) is a fault of the tree, with its path.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, TypeVar

from agent.planning.values import Finding
from agent.store import at
from agent.store.faults import raise_ours
from larder.manifest import Manifest, parse_manifest

MANIFEST_MAX_BYTES: Final = 64 * 1024 * 1024
_MAX_DEPTH: Final = 512  # a manifest's longest path has no more parts
_BLOCK_BYTES: Final = 512  # of `st_blocks`, whatever the filesystem's own are
_TELLING_BYTES: Final = 64 * 1024  # less is rounding, which counts for no file

T = TypeVar("T")


@dataclass(slots=True)
class Tree:
    """Regular files by path with their `stat`, directories, and everything that is neither."""

    files: dict[str, os.stat_result] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    faults: list[Finding] = field(default_factory=list)

    def difference(self, manifest: Manifest) -> str | None:
        """The first way in which the tree is not exactly what a manifest lists, or None."""
        if self.faults:
            return f"{self.faults[0].path} {self.faults[0].sentence}"
        for file in manifest.files:
            found = self.files.get(file.path)
            if found is None:
                return f"{file.path} is missing"
            if found.st_size != file.size_bytes:
                return f"{file.path} has {found.st_size} bytes instead of {file.size_bytes}"
        surplus = self.files.keys() - {f.path for f in manifest.files}
        surplus |= self.directories ^ _parents(manifest)
        return f"{min(surplus)} is not in the manifest" if surplus else None


def _parents(manifest: Manifest) -> set[str]:
    """Every directory that a manifest's files need."""
    needed = {parent for f in manifest.files for parent in PurePosixPath(f.path).parents}
    return {str(parent) for parent in needed} - {"."}


def finding(path: str, sentence: str) -> Finding:
    """A finding whose path can be printed, whatever bytes the name is made of."""
    return Finding(path.encode(errors="backslashreplace").decode(), sentence)


def read_tree(dir_fd: int, name: str) -> Tree:
    """What is below a directory; paths are relative to it. A name of something else is a fault."""
    tree = Tree()
    pending: list[tuple[str, ...]] = [()]
    with _faults(tree, name):
        found = at.look(dir_fd, name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            tree.faults.append(finding(name, f"is {kind_of(found)}"))
            return tree
    while pending:
        parts = pending.pop()
        with _faults(tree, "/".join(parts) or name), at.opened(dir_fd, (name, *parts)) as fd:
            below = [(*parts, child) for child in at.names(fd)]
            pending += [path for path in below if _is_deeper(tree, fd, path)]
    return tree


@contextmanager
def _faults(tree: Tree, path: str) -> Iterator[None]:
    """What cannot be read is a fault; what is gone since it was listed is nothing."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        raise_ours(error)
        tree.faults.append(finding(path, f"cannot be read: {error.strerror}"))


def _is_deeper(tree: Tree, fd: int, parts: tuple[str, ...]) -> bool:
    """Note what is under the last part; whether it is a directory to go into."""
    path = "/".join(parts)
    found = at.look(fd, parts[-1])
    if found is None:
        return False
    if stat.S_ISREG(found.st_mode):
        tree.files[path] = found
    elif not stat.S_ISDIR(found.st_mode):
        tree.faults.append(finding(path, f"is {kind_of(found)}"))
    elif len(parts) > _MAX_DEPTH:
        tree.faults.append(finding(path[:80], "is nested too deep"))
    else:
        tree.directories.add(path)
        return True
    return False


_KINDS: Final[Mapping[Callable[[int], bool], str]] = {
    stat.S_ISLNK: "a symbolic link",
    stat.S_ISDIR: "a directory",
    stat.S_ISREG: "a file",
}


def kind_of(found: os.stat_result) -> str:
    """What an entry is, in words."""
    return next((k for is_kind, k in _KINDS.items() if is_kind(found.st_mode)), "a special file")


def parsed(parse: Callable[[str], T | None], data: bytes | None) -> T | None:
    """What a reader makes of a file's bytes; None for what it refuses, however it says so."""
    if data is None:
        return None
    try:
        return parse(data.decode())
    except (ValueError, RecursionError):  # deeply nested JSON is the latter
        return None


def held_bytes(found: os.stat_result) -> int:
    """What a growing file holds of the disk: its size, or more if room is set aside for it."""
    set_aside_bytes = found.st_blocks * _BLOCK_BYTES - found.st_size
    return found.st_size + (set_aside_bytes if set_aside_bytes >= _TELLING_BYTES else 0)


def read_file(dir_fd: int, name: str, limit: int) -> bytes | None:
    """The bytes of a small file; None if it is not there, not a file, too large or unreadable."""
    try:
        return at.read_bytes(dir_fd, name, limit)
    except OSError as error:
        raise_ours(error)
        return None


def read_manifest(dir_fd: int, name: str) -> Manifest | None:
    """A manifest, or None if there is none that can be read."""
    return parsed(parse_manifest, read_file(dir_fd, name, MANIFEST_MAX_BYTES))
