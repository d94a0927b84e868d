"""The catalog as a file that changes under us: the last good one stays in force.

A ConfigMap mount is a link that is swapped, so what is compared is the resolved file's inode, time
and size. A file that is gone, unreadable or bad is told of and changes nothing else; before the
first good one the catalog is unknown (None), which is not the same as empty.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from larder.catalog import Catalog, read_catalog
from larder.catalog_rules import catalog_notes
from larder.errors import CatalogError
from larder.yaml_tree import MAX_BYTES


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """What the file says now. `catalog` is the last good one, None while there was none.

    `problems` are those of the newest edit, empty when it is good; `notes` are what the admin of
    the catalog in force should know. `changed` is whether this poll found something new: another
    catalog or other problems. `document` is what the catalog in force was read from, empty if it
    was handed in.
    """

    catalog: Catalog | None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    changed: bool = False
    document: bytes = b""


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    inode: int
    mtime_ns: int
    size_bytes: int


class CatalogFile:
    """Reads a catalog again whenever its file changed."""

    def __init__(
        self, path: Path, *, standalone: bool = True, last_good: Catalog | None = None
    ) -> None:
        self._path = path
        self._standalone = standalone
        self._catalog = last_good
        self._problems: tuple[str, ...] = ()
        self._notes = catalog_notes(last_good) if last_good else ()
        self._document = b""
        self._seen: _Fingerprint | None = None

    def poll(self) -> CatalogReading:
        """Look at the file: one stat when nothing changed. Never raises for a bad file."""
        before = (self._catalog, self._problems)
        try:
            self._look()
        except OSError as error:
            self._seen = None
            self._problems = (f"{self._path}: {error.strerror or 'cannot be read'}",)
        except CatalogError as error:
            self._problems = error.problems
        changed = before != (self._catalog, self._problems)
        return CatalogReading(self._catalog, self._problems, self._notes, changed, self._document)

    def _look(self) -> None:
        status = self._path.stat()  # before reading: a write in between is seen by the next poll
        fingerprint = _Fingerprint(status.st_ino, status.st_mtime_ns, status.st_size)
        if fingerprint == self._seen:
            return
        data = self._read(status)
        self._seen = fingerprint  # a bad file, too, is read once only
        self._catalog = read_catalog(data, standalone=self._standalone)
        self._document = data
        self._problems = ()
        self._notes = catalog_notes(self._catalog)

    def _read(self, status: os.stat_result) -> bytes:
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise CatalogError((f"{self._path}: is not a file",))
        if status.st_size > MAX_BYTES:
            raise CatalogError(
                (f"the file has {status.st_size} bytes; accepted: up to {MAX_BYTES}",)
            )
        with self._path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
