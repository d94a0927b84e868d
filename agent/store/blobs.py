"""One inode a content, hard-linked into every tree that has it; what a fill's child process uses.

    blobs/sha256/<xx>/<digest>   mode 0444; its link count says how many trees hold it, plus one

A blob with one link is an orphan and may be collected at any moment, also beside a running fill.
So a fill links a verified file in this order: `add_blob` (the partial file keeps its own link),
`link_blob` into the tree, then it removes the partial file. If `link_blob` says False in between
(an older orphan was used and has just been collected), `add_blob` is called again.
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum, auto
from pathlib import PurePosixPath

from agent.store import at
from agent.store.faults import translated
from larder.layout import BLOBS, Digest, is_digest
from larder.manifest import path_fault

_BLOB_MODE = 0o444
_SHA256 = (BLOBS, "sha256")


def _fan(digest: Digest) -> tuple[str, ...]:
    """The directory of a blob, in parts that are each checked as names."""
    return (*_SHA256, digest[:2])


def add_blob(
    root_fd: int, partial_dir_fd: int, partial_name: str, digest: Digest, size_bytes: int
) -> None:
    """Make a verified and synced file a blob too, unless there is one of its size already.

    Idempotent. Raises `DiskFullError` or `CacheRootError`.
    """
    with (
        translated(f"adding blob {digest}"),
        at.opened(root_fd, _fan(digest), create=True) as fd,
    ):
        at.set_mode(partial_dir_fd, partial_name, _BLOB_MODE)
        # In one step: a partial file with a second link that is no blob would be fetched again.
        with suppress(FileExistsError):
            at.link(partial_dir_fd, partial_name, fd, digest)
        if not _is_blob(fd, digest, size_bytes):
            at.remove_tree(fd, digest)
            at.link(partial_dir_fd, partial_name, fd, digest)


def link_blob(root_fd: int, digest: Digest, size_bytes: int, tree_fd: int, path: str) -> bool:
    """Link a blob to `path` below a tree; False if there is no such blob of that size.

    Directories on the way are made. Raises `FileExistsError` when the name is taken, which after
    `listing_fault` means that this filesystem folds two names into one; `ValueError` for a path
    that no manifest can hold; `DiskFullError` or `CacheRootError`.
    """
    if fault := path_fault(path):
        raise ValueError(fault)
    with translated(f"linking {path}"):
        outcome = _link(root_fd, digest, size_bytes, tree_fd, PurePosixPath(path))
    if outcome is _Outcome.NAME_TAKEN:
        raise FileExistsError(errno.EEXIST, "this filesystem has such a name already", path)
    return outcome is _Outcome.LINKED


class _Outcome(Enum):
    LINKED = auto()
    NO_BLOB = auto()
    NAME_TAKEN = auto()


def _link(
    root_fd: int, digest: Digest, size_bytes: int, tree_fd: int, target: PurePosixPath
) -> _Outcome:
    try:
        parent_fd = at.open_directory(tree_fd, target.parent, create=True)
    except NotADirectoryError:
        return _Outcome.NAME_TAKEN
    try:
        with at.opened(root_fd, _fan(digest)) as fd:
            if not _is_blob(fd, digest, size_bytes):
                return _Outcome.NO_BLOB
            _link_or_split(fd, digest, parent_fd, target.name)
    except FileExistsError:
        return _Outcome.NAME_TAKEN
    except FileNotFoundError:  # no such blob, or it was collected just now
        return _Outcome.NO_BLOB
    finally:
        os.close(parent_fd)
    return _Outcome.LINKED


def _link_or_split(fd: int, digest: Digest, parent_fd: int, name: str) -> None:
    """Link a blob; one whose inode takes no more links is replaced by a fresh copy first."""
    try:
        at.link(fd, digest, parent_fd, name)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        temporary = at.temporary_name()
        at.copy_file(fd, digest, fd, temporary)
        at.rename(fd, temporary, fd, digest)
        at.link(fd, digest, parent_fd, name)


def _is_blob(fd: int, digest: Digest, size_bytes: int) -> bool:
    found = at.look(fd, digest)
    return found is not None and stat.S_ISREG(found.st_mode) and found.st_size == size_bytes


def collect(root_fd: int, digests: Iterable[Digest]) -> int:
    """Remove those blobs that no tree links; returns the bytes that frees."""
    freed_bytes = 0
    for digest in sorted(set(digests)):
        try:
            with at.opened(root_fd, _fan(digest)) as fd:
                found = at.look(fd, digest)
                if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                    at.unlink(fd, digest)
                    freed_bytes += found.st_size
        except FileNotFoundError:
            continue
    return freed_bytes


def fans(root_fd: int) -> list[tuple[str, ...]]:
    """The directories that hold blobs, relative to the root."""
    try:
        with at.opened(root_fd, _SHA256) as fd:
            return [(*_SHA256, name) for name in at.names(fd) if at.is_directory(fd, name)]
    except FileNotFoundError:  # no fill yet
        return []


def all_blobs(root_fd: int) -> set[Digest]:
    """The name of every blob there is."""
    found: set[Digest] = set()
    for fan in fans(root_fd):
        with at.opened(root_fd, fan) as fd:
            found |= {Digest(name) for name in at.names(fd) if is_digest(name)}
    return found
