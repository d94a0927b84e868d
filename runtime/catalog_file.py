"""The catalog as a file.

What is compared is the resolved file's inode, time and size: a ConfigMap mount is a link that is
swapped.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from larder.catalog import Catalog
from larder.errors import CatalogError
from larder.yaml_tree import MAX_BYTES
from runtime.catalog_source import CatalogSource


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    inode: int
    mtime_ns: int
    size_bytes: int


class CatalogFile(CatalogSource):
    """A catalog in a file: one stat when nothing changed."""

    def __init__(
        self, path: Path, *, standalone: bool = True, last_good: Catalog | None = None
    ) -> None:
        super().__init__(standalone=standalone, last_good=last_good)
        self._path = path
        self._seen: _Fingerprint | None = None

    def _newest(self) -> bytes | None:
        try:
            status = self._path.stat()  # before reading: a later write is seen by the next poll
            fingerprint = _Fingerprint(status.st_ino, status.st_mtime_ns, status.st_size)
            if fingerprint == self._seen:
                return None
            data = self._read(status)
        except OSError as error:
            self._seen = None
            problem = f"{self._path}: {error.strerror or 'cannot be read'}"
            raise CatalogError((problem,)) from error
        self._seen = fingerprint  # a bad file, too, is read once only
        return data

    def _read(self, status: os.stat_result) -> bytes:
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise CatalogError((f"{self._path}: is not a file",))
        if status.st_size > MAX_BYTES:
            raise CatalogError(
                (f"the file has {status.st_size} bytes; accepted: up to {MAX_BYTES}",)
            )
        with self._path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
