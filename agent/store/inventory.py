"""One look at everything under the root, as values; what should not be there is a finding.

A corrupt entry never raises, and a name that vanishes while we look (a fill or an eviction at
work) is no fault; a process that runs out of handles or memory raises `OSError`. Each inode is
counted once, with everybody who links it; of a slot only `content` is counted.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from agent.planning.values import (
    Finding,
    InodeUse,
    Inventory,
    Owner,
    SlotFacts,
    StagingFacts,
    parse_listing,
)
from agent.store import at
from agent.store.faults import raise_ours
from agent.store.tree import (
    MANIFEST_MAX_BYTES,
    Tree,
    finding,
    held_bytes,
    kind_of,
    parsed,
    read_file,
    read_manifest,
    read_tree,
)
from larder.layout import (
    ARCHIVE,
    BLOBS,
    CATALOG_FILE,
    CONTENT,
    INITIALIZER,
    LAYOUT_FILE,
    LISTING,
    LOCK_FILE,
    MANIFEST,
    PARTIAL,
    PARTS,
    QUARANTINE,
    QUARANTINED,
    SLOTS,
    STAGING,
    STATUS,
    TOP_DIRECTORIES,
    TRASH,
    TREE,
    XET,
    Digest,
    Key,
    is_digest,
    is_key,
)
from larder.manifest import Manifest
from larder.status import parse_status

FOREIGN_PREFIX: Final = "foreign-"
STATUS_MAX_BYTES: Final = 64 * 1024
STAGING_NAMES: Final = frozenset({LOCK_FILE, LISTING, PARTS, PARTIAL, TREE, ARCHIVE, XET, MANIFEST})
_SLOT_NAMES: Final = frozenset({CONTENT, MANIFEST, STATUS, INITIALIZER, QUARANTINED})
_ROOT_NAMES: Final = frozenset(
    {LAYOUT_FILE, LOCK_FILE, CATALOG_FILE, *TOP_DIRECTORIES, "lost+found"}
)
_SHA256: Final = "sha256"
_XX_DIGITS: Final = 2


@dataclass(slots=True)
class _Inode:
    size_bytes: int
    owners: set[Owner] = field(default_factory=set)
    digest: Digest | None = None


@dataclass(slots=True)
class _Scan:
    slots: dict[Key, SlotFacts] = field(default_factory=dict)
    staging: dict[Key, StagingFacts] = field(default_factory=dict)
    inodes: dict[tuple[int, int], _Inode] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def find(self, path: str, sentence: str) -> None:
        self.findings.append(finding(path, sentence))

    def inode(self, found: os.stat_result) -> _Inode:
        return self.inodes.setdefault((found.st_dev, found.st_ino), _Inode(found.st_size))

    def set_aside(self, tree: Tree) -> None:
        """What a fill that ended holds for its files counts as if it were there."""
        for path, found in tree.files.items():
            if PurePosixPath(path).parent.name == PARTIAL:
                self.inode(found).size_bytes = held_bytes(found)

    def own(self, owner: Owner, tree: Tree) -> None:
        for found in tree.files.values():
            self.inode(found).owners.add(owner)


def scan(root_fd: int) -> Inventory:
    """Everything under the root. Never raises for what it finds there."""
    seen = _Scan()
    with _readable(seen, "."):
        for name in at.names(root_fd):
            if name not in _ROOT_NAMES and not at.is_temporary(name):
                seen.find(name, "is not Larder's")
    for top, read in _READERS.items():
        _read_each(seen, root_fd, PurePosixPath(top), read)
    return Inventory(
        slots=seen.slots,
        staging=seen.staging,
        inodes=tuple(
            InodeUse(i.size_bytes, frozenset(i.owners), i.digest) for i in seen.inodes.values()
        ),
        findings=tuple(seen.findings),
    )


_Reader = Callable[[_Scan, int, str], None]


@contextmanager
def _readable(seen: _Scan, path: str) -> Iterator[None]:
    """An entry that cannot be read is a finding; one that is gone is nothing."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        raise_ours(error)
        seen.find(path, f"cannot be read: {error.strerror}")


def _read_each(seen: _Scan, root_fd: int, directory: PurePosixPath, read: _Reader) -> None:
    """Hand each name in a directory to its reader, as (scan, directory handle, name)."""
    with _readable(seen, str(directory)), at.opened(root_fd, directory) as fd:
        for name in at.names(fd):
            with _readable(seen, f"{directory}/{name}"):
                read(seen, fd, name)


def _is_directory(seen: _Scan, dir_fd: int, name: str, path: str) -> bool:
    found = at.look(dir_fd, name)
    if found is None:
        return False
    if not stat.S_ISDIR(found.st_mode):
        seen.find(path, f"is {kind_of(found)}, not a directory")
        return False
    return True


def _read_slot(seen: _Scan, slots_fd: int, name: str) -> None:
    path = f"{SLOTS}/{name}"
    if not is_key(name):
        seen.find(path, "is not a slot: a slot's name is 16 hex digits")
    elif _is_directory(seen, slots_fd, name, path):
        with at.opened(slots_fd, (name,)) as fd:
            seen.slots[Key(name)] = _slot_facts(seen, fd, path)


def _slot_facts(seen: _Scan, fd: int, path: str) -> SlotFacts:
    there = {name: at.look(fd, name) for name in at.names(fd) if not at.is_temporary(name)}
    for name in there.keys() - _SLOT_NAMES:
        seen.find(f"{path}/{name}", "is not Larder's")
    manifest, written = read_manifest(fd, MANIFEST), there.get(MANIFEST)
    has_content = there.get(CONTENT) is not None
    if written is not None and manifest is None:
        seen.find(f"{path}/{MANIFEST}", "cannot be read as a manifest")
    if has_content:
        tree = read_tree(fd, CONTENT)
        seen.own(path, tree)
        difference = _difference(tree, manifest, is_foreign=written is None)
        if difference:
            seen.find(f"{path}/{CONTENT}", difference)
    else:
        difference = "there is none"
    return SlotFacts(
        manifest=manifest,
        has_content=has_content,
        agrees=difference is None,
        is_quarantined=there.get(QUARANTINED) is not None,
        ready_since=written.st_mtime if written else 0.0,
        status=parsed(parse_status, read_file(fd, STATUS, STATUS_MAX_BYTES)),
    )


def _difference(tree: Tree, manifest: Manifest | None, *, is_foreign: bool) -> str | None:
    if is_foreign:
        return "has no manifest: it is not Larder's"
    if manifest is None:
        return "has no manifest that can be read"
    fault = tree.difference(manifest)
    return f"is not what the manifest says: {fault}" if fault else None


def _read_blobs(seen: _Scan, blobs_fd: int, name: str) -> None:
    if name != _SHA256:
        seen.find(f"{BLOBS}/{name}", "is not Larder's")
        return
    _read_each(seen, blobs_fd, PurePosixPath(_SHA256), _read_fan)


def _read_fan(seen: _Scan, sha256_fd: int, name: str) -> None:
    path = f"{BLOBS}/{_SHA256}/{name}"
    if not _is_directory(seen, sha256_fd, name, path):
        return
    with at.opened(sha256_fd, (name,)) as fd:
        for digest in at.names(fd):
            if not at.is_temporary(digest):
                _read_blob(seen, fd, digest, path)


def _read_blob(seen: _Scan, fd: int, name: str, path: str) -> None:
    found = at.look(fd, name)
    if found is None:
        return
    if not is_digest(name) or not path.endswith(f"/{name[:_XX_DIGITS]}"):
        seen.find(f"{path}/{name}", "is not a blob: its name is no digest, or in the wrong place")
    elif not stat.S_ISREG(found.st_mode):
        seen.find(f"{path}/{name}", f"is {kind_of(found)}, not a blob")
    else:
        seen.inode(found).digest = Digest(name)


def _read_staging(seen: _Scan, staging_fd: int, name: str) -> None:
    path = f"{STAGING}/{name}"
    _read_owned(seen, staging_fd, name, path)
    if not is_key(name):
        seen.find(path, "is not a staging: its name is not 16 hex digits")
    elif _is_directory(seen, staging_fd, name, path):
        with at.opened(staging_fd, (name,)) as fd:
            for entry in at.names(fd):
                if entry not in STAGING_NAMES and not at.is_temporary(entry):
                    seen.find(f"{path}/{entry}", "is not Larder's")
            listing = parsed(parse_listing, read_file(fd, LISTING, MANIFEST_MAX_BYTES))
            seen.staging[Key(name)] = StagingFacts(listing, is_complete=is_complete(fd))


def is_complete(staging_fd: int) -> bool:
    """Whether a staging's tree is there and exactly what its manifest says."""
    manifest = read_manifest(staging_fd, MANIFEST)
    if manifest is None or at.look(staging_fd, TREE) is None:
        return False
    return read_tree(staging_fd, TREE).difference(manifest) is None


def _read_trash(seen: _Scan, trash_fd: int, name: str) -> None:
    path = f"{TRASH}/{name}"
    _read_owned(seen, trash_fd, name, path)
    if name.startswith(FOREIGN_PREFIX):
        seen.find(path, "was in a slot without a manifest; it goes at the next start")


def _read_quarantine(seen: _Scan, quarantine_fd: int, name: str) -> None:
    _read_owned(seen, quarantine_fd, name, f"{QUARANTINE}/{name}")


def _read_owned(seen: _Scan, dir_fd: int, name: str, owner: Owner) -> None:
    """Count whatever is under a name: a file by itself, or all files of a tree."""
    found = at.look(dir_fd, name)
    if found is not None and stat.S_ISREG(found.st_mode):
        seen.inode(found).owners.add(owner)
    elif found is not None and stat.S_ISDIR(found.st_mode):
        tree = read_tree(dir_fd, name)
        seen.own(owner, tree)
        if owner.startswith(f"{STAGING}/"):
            seen.set_aside(tree)
        for fault in tree.faults:
            seen.find(f"{owner}/{fault.path}", fault.sentence)


_READERS: Final[dict[str, _Reader]] = {
    SLOTS: _read_slot,
    BLOBS: _read_blobs,
    STAGING: _read_staging,
    TRASH: _read_trash,
    QUARANTINE: _read_quarantine,
}
