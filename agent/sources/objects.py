"""Models in object stores: the objects below a prefix, or one object.

A `Store` is one bucket or container of one kind of store; here is what all of them share. The tree
is what KServe's initializer would have made of the same URI (KServe facts 4), except that a prefix
ends at a `/`: `s3://b/m` is not `s3://b/m2`. Folder markers, and in some stores empty objects, are
no files; an archive that is the only file is unpacked. What no slot could hold is refused in one
sentence, and its pods download as before; so is what KServe would make something else of: a prefix
that is an object with others below it.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Final, Protocol

from agent.planning.values import Algorithm, Checksum, Listing, RemoteFile
from agent.sources.archives import as_archive
from agent.sources.interface import Body, SourceRequest
from agent.sources.ranges import (
    changed,
    checked_body,
    is_entity_tag,
    range_headers,
    refuse_range,
)
from agent.sources.revisions import listing_revision
from agent.sources.web import Answer
from larder.errors import FillError, ModelNotFoundError, SourceDriftedError
from larder.manifest import listing_fault
from larder.storage_uri import normalise

MAX_OBJECTS: Final = 100_000
MAX_DESCRIBED: Final = 128  # a request each: seconds, not minutes
PAGE_OBJECTS: Final = 1000
MAX_PAGES: Final = 10_000  # they may be short
_SIZE_MAX_BYTES: Final = (1 << 63) - 1
_SIZE_MAX_DIGITS: Final = 19


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as its store lists it."""

    key: str
    size_bytes: int
    etag: str | None = None
    version: str | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer lists, and the store's word for what follows it, if there is more."""

    objects: Iterable[StoredObject]
    next_page: str | None


class Store(Protocol):
    """One bucket. Raises `FillError`s only."""

    @property
    def name(self) -> str:
        """The bucket's name, for sentences."""

    @property
    def prefix(self) -> str:
        """The key, or what keys below begin with before a `/`; empty for a whole bucket."""

    @property
    def keeps_empty(self) -> bool:
        """Whether KServe keeps objects without a byte."""

    def page(self, prefix: str, page_objects: int, page: str | None) -> Page:
        """The objects whose keys begin so, in the order of their keys: one page, or the first."""

    def described(self, file: RemoteFile, key: str) -> RemoteFile:
        """A file with the digests that the store tells of single objects alone."""

    def get(
        self, file: RemoteFile, key: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Answer]:
        """The answer to a GET of an object in the version that was listed."""

    def refusal(self, answer: Answer, what: str) -> FillError:
        """The error that an answer without the bytes means."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class ObjectSource:
    """Lists and fetches what is below a prefix of a store."""

    store: Store

    def list(self, request: SourceRequest) -> Listing:
        """The objects below the prefix that the patterns choose, or the one object."""
        files = self._single() or tuple(self._tree(request))
        if not files:
            raise ModelNotFoundError(f"{self.store.name} has no object to keep below {self._what}")
        if fault := listing_fault([file.path for file in files]):
            raise SourceDriftedError(f"{self.store.name}: {fault}")
        files = tuple(sorted(self._described(files), key=lambda file: file.path.encode()))
        if len(files) == 1:
            files = (as_archive(files[0], request.max_size_bytes),)
        return Listing(normalise(request.storage_uri), listing_revision(files), files)

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator[Body]:
        """A range of the object."""
        del listing  # the store is already that of its URI
        headers = range_headers(file, offset, length)
        with self.store.get(file, self._key(file), headers) as answer:
            refuse_range(answer, file)
            if not answer.is_success:
                error = self.store.refusal(answer, repr(file.path))
                raise changed(answer, file) if isinstance(error, ModelNotFoundError) else error
            yield checked_body(answer, file, offset, length)

    def close(self) -> None:
        """Close the connections."""
        self.store.close()

    @property
    def _what(self) -> str:
        return repr(self.store.prefix) if self.store.prefix else "its root"

    def _key(self, file: RemoteFile) -> str:
        below = f"{self.store.prefix}/" if self.store.prefix else ""
        return file.key or below + file.path

    def _described(self, files: Iterable[RemoteFile]) -> Iterator[RemoteFile]:
        """The files, the largest ones with what the store tells of single objects alone."""
        by_size = sorted(files, key=lambda file: -file.size_bytes)
        for count, file in enumerate(by_size):
            is_asked = count < MAX_DESCRIBED
            yield self.store.described(file, self._key(file)) if is_asked else file

    def _single(self) -> tuple[RemoteFile, ...]:
        """The object that the URI names, if there is one with a byte and none below it."""
        prefix = self.store.prefix
        first = next(objects_below(self.store, prefix, 1), None) if prefix else None
        if first is None or first.key != prefix or not first.size_bytes:
            return ()
        if next(objects_below(self.store, prefix + "/", 1), None):
            raise SourceDriftedError(
                f"{self.store.name}: {prefix!r} is an object, and there are others below it;"
                " pods get one or the others, as they write the URI"
            )
        return (_file(first, prefix.rpartition("/")[2], key=prefix),)

    def _tree(self, request: SourceRequest) -> Iterator[RemoteFile]:
        below = f"{self.store.prefix}/" if self.store.prefix else ""
        for count, found in enumerate(objects_below(self.store, below)):
            if count >= MAX_OBJECTS:
                raise SourceDriftedError(
                    f"{self.store.name} has more than {MAX_OBJECTS} objects below {self._what}"
                )
            if not found.key.startswith(below):
                raise SourceDriftedError(f"{self.store.name} lists a key outside of {self._what}")
            path = found.key.removeprefix(below)
            is_marker = not path or path.endswith("/")
            is_kept = found.size_bytes or self.store.keeps_empty
            if not is_marker and is_kept and _is_chosen(path, request):
                yield _file(found, path)


def objects_below(
    store: Store, prefix: str, page_objects: int = PAGE_OBJECTS
) -> Iterator[StoredObject]:
    """All objects whose keys begin so, in the order of their keys. Raises `FillError`s."""
    page = None
    for _ in range(MAX_PAGES):
        listed = store.page(prefix, page_objects, page)
        yield from listed.objects
        page = listed.next_page
        if not page:
            return
    raise SourceDriftedError(f"{store.name} lists more than {MAX_PAGES} pages")


def _file(found: StoredObject, path: str, key: str | None = None) -> RemoteFile:
    return RemoteFile(
        path,
        found.size_bytes,
        checksum=found.checksum,
        etag=found.etag,
        version=found.version,
        key=key,
    )


def listed_size(text: str | None) -> int | None:
    """A size as a listing writes it, or None for what no file can have."""
    is_number = text is not None and text.isascii() and text.isdecimal()
    is_number = is_number and len(text or "") <= _SIZE_MAX_DIGITS
    return int(text) if text and is_number and int(text) <= _SIZE_MAX_BYTES else None


_SIZES: Final = {
    Algorithm.MD5: 16,
    Algorithm.SHA256: 32,
    Algorithm.SHA1: 20,
    Algorithm.CRC64NVME: 8,
    Algorithm.CRC32C: 4,
    Algorithm.CRC32: 4,
}


def base64_checksum(algorithm: Algorithm, text: object) -> Checksum | None:
    """A checksum that is written in base64; None for anything else."""
    hexdigest = hex_of(text, _SIZES[algorithm])
    return Checksum(algorithm, hexdigest) if hexdigest else None


def hex_of(text: object, count_bytes: int) -> str | None:
    """A digest of so many bytes that is written in base64, in hex; None for anything else."""
    try:
        digest = base64.b64decode(str(text or ""), validate=True)
    except ValueError:  # binascii.Error is one
        return None
    return digest.hex() if len(digest) == count_bytes else None


def quoted(etag: str | None) -> str | None:
    """An ETag of a listing as answers say it: some stores list it without its quotes."""
    text = (etag or "").strip()
    text = text if not text or text.endswith('"') else f'"{text}"'
    return text if is_entity_tag(text) else None


def _is_chosen(path: str, request: SourceRequest) -> bool:
    """Whether the patterns choose a path, as KServe's initializer reads them."""
    if request.allow_patterns and not any(fnmatch(path, p) for p in request.allow_patterns):
        return False
    return not any(fnmatch(path, p) for p in request.ignore_patterns)
