"""Looks at a cache root after a crash and says which promise is broken.

Shares no code with the agent: formats are read here again, from their description, so that a
mistake in the agent's own reader cannot hide one in its writer. Promises: P2 (nothing half-written
is visible, bytes at a path never change), P3 (nothing that is listed is taken away), P4 (budget).
"""

import hashlib
import os
import stat
from pathlib import Path


class BrokenPromiseError(Exception):
    """One sentence: which promise, where."""


class Checker:
    """Remembers what it saw, so that a later look can tell that bytes changed or went away.

    `expected` maps a slot's key to what the source holds: path → SHA-256.
    """

    def __init__(self, root: Path, expected: dict[str, dict[str, str]], budget_bytes: int) -> None:
        self._root = root
        self._expected = expected
        self._budget_bytes = budget_bytes
        self._inodes: dict[tuple[str, str], int] = {}
        self._hashed: dict[tuple[int, int, int], str] = {}
        self.ready: set[str] = set()

    def look(self, listed: set[str]) -> set[str]:
        """Check the whole root while no agent runs; the keys whose content is there."""
        slots = self._root / "slots"
        found = set()
        for slot in sorted(slots.iterdir()) if slots.is_dir() else []:
            if (slot / "content").exists() or (slot / "content").is_symlink():
                self._check_slot(slot)
                found.add(slot.name)
        for key in self.ready & listed:
            if key not in found and not (self._root / "trash" / f"{key}.aside").exists():
                raise BrokenPromiseError(f"P3: {key} was ready and is listed, but it is gone")
        self.ready = found & listed
        self._inodes = {at: ino for at, ino in self._inodes.items() if at[0] in found}
        self._check_budget()
        return found

    def _check_slot(self, slot: Path) -> None:
        content, manifest = slot / "content", slot / "manifest"
        if not stat.S_ISDIR(content.lstat().st_mode):
            raise BrokenPromiseError(f"P2: {content} is not a directory")
        if not manifest.is_file():
            raise BrokenPromiseError(f"P2: {slot} has content and no manifest")
        listed = self._read_manifest(manifest)
        expected = self._expected[slot.name]
        if {path: digest for path, (digest, _) in listed.items()} != expected:
            raise BrokenPromiseError(f"P2: {manifest} is not what the source holds")
        present = set()
        for directory, names, files in os.walk(content):
            for name in [*names, *files]:
                at = Path(directory, name)
                if at.is_symlink():
                    raise BrokenPromiseError(f"P2: {at} is a link")
                if name in files:
                    self._check_file(slot.name, at, str(at.relative_to(content)), listed)
                    present.add(str(at.relative_to(content)))
        if present != set(expected):
            raise BrokenPromiseError(f"P2: {content} has {present ^ set(expected)} too many or few")

    def _check_file(
        self, key: str, at: Path, path: str, listed: dict[str, tuple[str, int]]
    ) -> None:
        status = at.lstat()
        digest, size_bytes = listed.get(path, ("", -1))
        if not stat.S_ISREG(status.st_mode) or status.st_size != size_bytes:
            raise BrokenPromiseError(f"P2: {at} is no file of {size_bytes} bytes")
        if stat.S_IMODE(status.st_mode) != 0o444:
            raise BrokenPromiseError(f"P2: {at} has mode {stat.S_IMODE(status.st_mode):o}")
        if self._inodes.setdefault((key, path), status.st_ino) != status.st_ino:
            raise BrokenPromiseError(f"P2: {at} became another file")
        identity = (status.st_ino, status.st_size, status.st_mtime_ns)
        if identity not in self._hashed:
            with at.open("rb") as file:
                self._hashed[identity] = hashlib.file_digest(file, "sha256").hexdigest()
        if self._hashed[identity] != digest:
            raise BrokenPromiseError(f"P2: {at} holds other bytes than the source")

    @staticmethod
    def _read_manifest(manifest: Path) -> dict[str, tuple[str, int]]:
        lines = manifest.read_text().split("\n")
        if lines[0] != "1" or not lines[1].startswith("source ") or lines[-1]:
            raise BrokenPromiseError(f"P2: {manifest} is torn")
        listed = {}
        for line in lines[2:-1]:
            digest, size, path = line.split(" ", 2)
            listed[path] = (digest, int(size))
        return listed

    def _check_budget(self) -> None:
        inodes = {}
        for directory, _, files in os.walk(self._root):
            for name in files:
                status = Path(directory, name).lstat()
                inodes[status.st_ino] = status.st_size
        total = sum(inodes.values())
        allowed = self._budget_bytes + 1024 * 1024  # statuses, listings, initializers
        if total > allowed:
            raise BrokenPromiseError(f"P4: {total} bytes under the root, budget {allowed}")
