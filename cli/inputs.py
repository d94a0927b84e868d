"""What a command line names: files, catalogs, cache roots, labels. What is unfit ends the command.

Files are read up to a bound, and `-` is standard input. A catalog with mistakes is no wrong use:
its mistakes are values.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from agent.store.root import CacheRoot
from cli.output import refuse
from larder.catalog import Catalog, read_catalog
from larder.errors import CacheRootError, CatalogError
from larder.yaml_tree import MAX_BYTES

STANDARD_INPUT: Final = Path("-")


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A catalog that was read, or None and its mistakes."""

    catalog: Catalog | None
    problems: tuple[str, ...] = ()


def shown(path: Path) -> str:
    """A file as sentences name it."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def read_document(path: Path) -> bytes:
    """The bytes of a file, or of standard input."""
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        refuse(f"{shown(path)} cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(data) > MAX_BYTES:
        refuse(f"{shown(path)} is larger than {MAX_BYTES} bytes; accepted: up to that")
    return data


def read_catalog_file(path: Path, *, standalone: bool = True) -> CatalogFile:
    """Read and check a catalog."""
    return check_catalog(read_document(path), standalone=standalone)


def check_catalog(document: bytes, *, standalone: bool = True) -> CatalogFile:
    """Check the bytes of a catalog."""
    try:
        return CatalogFile(read_catalog(document, standalone=standalone))
    except CatalogError as error:
        return CatalogFile(None, error.problems)


@contextmanager
def looking_at(cache_root: Path) -> Iterator[CacheRoot]:
    """A cache root opened for looking, beside a living agent."""
    try:
        with CacheRoot.open_readonly(cache_root) as root:
            yield root
    except CacheRootError as error:
        refuse(str(error))


def check_cache_root(cache_root: PurePosixPath) -> None:
    """Refuse a cache root that the webhook could not write into pods."""
    if not cache_root.is_absolute() or ".." in cache_root.parts:
        refuse(f"--cache-root {cache_root}; accepted: an absolute path without '..'")


def labels_of(flag: str, pairs: Iterable[str]) -> dict[str, str]:
    """Labels given as `key=value`, by key."""
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            refuse(f"{flag} {pair!r} is not a label; accepted: key=value")
        labels[key] = value
    return labels
