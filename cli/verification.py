"""Hashing what was published again, and saying how it differs from its manifest.

Every file is opened through directory handles that follow no link, each inode is hashed once,
however many slots link it, and nothing is changed. An agent may be at work: a slot whose content
goes away meanwhile was evicted, which is no damage.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from agent.store import at
from agent.store.tree import Tree, finding, read_manifest, read_tree
from larder.layout import CONTENT, MANIFEST, QUARANTINED, SLOTS, Key, is_key
from larder.manifest import Manifest, ManifestFile

_CHUNK_BYTES: Final = 1024 * 1024
_Inode = tuple[int, int]


class Fault(StrEnum):
    """How a slot can differ from its manifest."""

    MISSING = "Missing"
    EXTRA = "Extra"
    WRONG_SIZE = "WrongSize"
    WRONG_DIGEST = "WrongDigest"
    UNREADABLE = "Unreadable"
    NOT_A_FILE = "NotAFile"
    NO_MANIFEST = "NoManifest"
    QUARANTINED = "Quarantined"


@dataclass(frozen=True, slots=True)
class Damage:
    """One difference; `path` is relative to the cache root."""

    path: str
    fault: Fault
    sentence: str


class Verdict(StrEnum):
    """What became of a slot's verification."""

    INTACT = "Intact"
    DAMAGED = "Damaged"
    GONE = "Gone"


@dataclass(frozen=True, slots=True)
class SlotReport:
    """One slot, verified."""

    key: str
    verdict: Verdict
    storage_uri: str | None = None
    revision: str | None = None
    files: int = 0
    size_bytes: int = 0
    damages: tuple[Damage, ...] = ()


def published_keys(root_fd: int) -> tuple[Key, ...]:
    """The slots that have content, whatever it is."""
    keys = []
    with at.opened(root_fd, (SLOTS,)) as slots_fd:
        for name in at.names(slots_fd):
            if is_key(name) and at.is_directory(slots_fd, name):
                with at.opened(slots_fd, (name,)) as fd:
                    keys += [Key(name)] if at.look(fd, CONTENT) else []
    return tuple(keys)


def bytes_to_hash(root_fd: int, keys: tuple[Key, ...]) -> int:
    """How many bytes a verification reads at most: those of every inode once."""
    sizes: dict[_Inode, int] = {}
    for key in keys:
        try:
            with at.opened(root_fd, (SLOTS, key)) as fd:
                found = read_tree(fd, CONTENT).files.values()
        except FileNotFoundError:
            continue
        sizes |= {(f.st_dev, f.st_ino): f.st_size for f in found}
    return sum(sizes.values())


@dataclass(slots=True)
class Verifier:
    """Verifies slots one after the other; `advance` is told of every chunk that was hashed."""

    root_fd: int
    advance: Callable[[int], object] = lambda _: None
    hashed_bytes: int = 0
    _digests: dict[_Inode, str] = field(default_factory=dict)

    def verify(self, key: Key) -> SlotReport:
        """Compare one slot with its manifest, every byte of it."""
        try:
            with at.opened(self.root_fd, (SLOTS, key)) as slot_fd:
                before = at.look(slot_fd, CONTENT)
                report = self._report(key, slot_fd)
                if before is None or (report.damages and _moved(before, slot_fd)):
                    return SlotReport(key, Verdict.GONE)
                return report
        except FileNotFoundError:
            return SlotReport(key, Verdict.GONE)

    def _report(self, key: Key, slot_fd: int) -> SlotReport:
        manifest = read_manifest(slot_fd, MANIFEST)
        damages = tuple(self._damages(key, slot_fd, manifest))
        return SlotReport(
            key=key,
            verdict=Verdict.DAMAGED if damages else Verdict.INTACT,
            storage_uri=manifest.storage_uri if manifest else None,
            revision=manifest.revision if manifest else None,
            files=len(manifest.files) if manifest else 0,
            size_bytes=manifest.size_bytes if manifest else 0,
            damages=damages,
        )

    def _damages(self, key: Key, slot_fd: int, manifest: Manifest | None) -> Iterator[Damage]:
        slot = f"{SLOTS}/{key}"
        if at.look(slot_fd, QUARANTINED) is not None:
            sentence = "says that pods must not use this slot"
            yield Damage(f"{slot}/{QUARANTINED}", Fault.QUARANTINED, sentence)
        if manifest is None:
            is_there = at.look(slot_fd, MANIFEST) is not None
            sentence = "cannot be read as a manifest" if is_there else "is missing"
            yield Damage(f"{slot}/{MANIFEST}", Fault.NO_MANIFEST, sentence)
            return
        if not at.is_directory(slot_fd, CONTENT):
            yield Damage(f"{slot}/{CONTENT}", Fault.NOT_A_FILE, "is not a directory")
            return
        tree = read_tree(slot_fd, CONTENT)
        with at.opened(slot_fd, (CONTENT,)) as content_fd:
            for path, fault, sentence in self._differences(content_fd, tree, manifest):
                shown = finding(f"{slot}/{CONTENT}/{path}", sentence)
                yield Damage(shown.path, fault, shown.sentence)

    def _differences(
        self, content_fd: int, tree: Tree, manifest: Manifest
    ) -> Iterator[tuple[str, Fault, str]]:
        for odd in tree.faults:
            yield odd.path, Fault.NOT_A_FILE, odd.sentence
        hidden = {odd.path for odd in tree.faults}
        for file in manifest.files:
            if file.path in tree.files:
                yield from self._file_differences(content_fd, file)
            elif not hidden & _with_parents(file.path):
                yield file.path, Fault.MISSING, "is missing"
        listed = {file.path for file in manifest.files}
        for path in sorted(tree.files.keys() - listed):
            yield path, Fault.EXTRA, "is not in the manifest"
        needed = set[str]().union(*map(_with_parents, listed))
        for path in sorted(tree.directories - needed):
            yield path, Fault.EXTRA, "is a directory that no file of the manifest needs"

    def _file_differences(
        self, content_fd: int, file: ManifestFile
    ) -> Iterator[tuple[str, Fault, str]]:
        try:
            size_bytes, digest = self._measure(content_fd, file)
        except OSError as error:
            yield file.path, Fault.UNREADABLE, f"cannot be read: {error.strerror}"
            return
        if size_bytes != file.size_bytes:
            sentence = f"has {size_bytes} bytes instead of {file.size_bytes}"
            yield file.path, Fault.WRONG_SIZE, sentence
        elif digest != file.sha256:
            sentence = f"has SHA-256 {digest} instead of {file.sha256}"
            yield file.path, Fault.WRONG_DIGEST, sentence

    def _measure(self, content_fd: int, file: ManifestFile) -> tuple[int, str | None]:
        """The size of a file and, if the size is right, its digest."""
        path = PurePosixPath(file.path)
        with at.opened(content_fd, path.parent) as fd:
            handle = at.open_file(fd, path.name, os.O_RDONLY)
        with os.fdopen(handle, "rb", buffering=0) as opened:
            found = os.fstat(handle)
            if found.st_size != file.size_bytes:
                return found.st_size, None
            inode = (found.st_dev, found.st_ino)
            if inode not in self._digests:
                self._digests[inode] = self._hash(opened.fileno())
            return found.st_size, self._digests[inode]

    def _hash(self, handle: int) -> str:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while count := os.readv(handle, [buffer]):
            digest.update(buffer[:count])
            self.hashed_bytes += count
            self.advance(count)
        return digest.hexdigest()


def _moved(before: os.stat_result, slot_fd: int) -> bool:
    """Whether the content that was looked at is no longer the slot's."""
    now = at.look(slot_fd, CONTENT)
    return now is None or (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino)


def _with_parents(path: str) -> set[str]:
    return {path, *map(str, PurePosixPath(path).parents)} - {"."}
