"""What a fill's child does: resolve a listing, or fetch all of it until the staging is complete.

    list ─▶ listing.json                                            (operation resolve)
    for each file: blob there? ─▶ link        else resume partial ─▶ fetch ─▶ hash = listed?
                   ─▶ blob ─▶ link into tree ─▶ partial goes         (operation fill)
    sync names ─▶ manifest

Nothing here publishes. Killed at any instruction, the next run goes on from the recorded parts.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from agent.fill.cursor import CHUNK_BYTES, Cursor, Place
from agent.fill.job import Event, Job, Listed
from agent.fill.meter import Meter
from agent.fill.parts import Parts
from agent.fill.patience import Patience
from agent.fill.staging import StagedTree, read_listing, write_listing
from agent.planning.values import Listing, RemoteFile
from agent.sources.interface import Body, RangeRefusedError, Source, SourceRequest
from agent.store import at
from agent.store.blobs import add_blob
from agent.store.faults import translated
from larder.contract import FillFailure
from larder.errors import (
    BudgetExceededError,
    DiskFullError,
    IntegrityError,
    PermanentError,
    SourceUnavailableError,
    TransientError,
)
from larder.layout import PARTIAL, Digest
from larder.manifest import Manifest, ManifestFile, make_manifest
from runtime.clock import Clock

_LINK_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a child works with. `wait` takes seconds; `jitter` draws from [0, 1)."""

    root_fd: int
    staging_fd: int
    source: Source
    clock: Clock
    emit: Callable[[Event], None]
    wait: Callable[[float], None]
    jitter: Callable[[], float]


def resolve(job: Job, place: Workplace) -> None:
    """Ask the source what is to be fetched, and keep that as the staging's listing.

    Raises `FillError`s, and `CacheRootError` for what the disk refuses.
    """
    request = SourceRequest(
        job.storage_uri,
        job.revision or None,
        job.allow_patterns,
        job.ignore_patterns,
        job.max_size_bytes,
    )
    listing = place.source.list(request)
    _refuse_too_large(listing, job.max_size_bytes)
    with translated(f"writing the listing of {job.key}"):
        write_listing(place.staging_fd, listing)
    place.emit(Listed(listing.revision, len(listing.files), listing.size_bytes))


def fill(job: Job, place: Workplace) -> None:
    """Fetch and verify what the staging's listing names, until the staging is complete.

    Raises `FillError`s, and `CacheRootError` for what the disk refuses.
    """
    with translated(f"filling {job.key}"):
        listing = read_listing(place.staging_fd)
        if listing is None:
            raise TransientError(
                FillFailure.SIZE_UNKNOWN, f"staging {job.key} has no listing; it is to be resolved"
            )
        _refuse_too_large(listing, job.max_size_bytes)
        with closing(StagedTree(place.root_fd, place.staging_fd, listing)) as tree:
            _Fill(job, place, listing, tree).run()


def _refuse_too_large(listing: Listing, max_size_bytes: int | None) -> None:
    size_bytes = sum(file.size_bytes for file in listing.files)
    if max_size_bytes is not None and size_bytes > max_size_bytes:
        raise BudgetExceededError(
            f"the model has {size_bytes} bytes; maxSize accepts {max_size_bytes}"
        )


class _Fill:
    """One run of the operation fill."""

    def __init__(self, job: Job, place: Workplace, listing: Listing, tree: StagedTree) -> None:
        self._job = job
        self._place = place
        self._listing = listing
        self._tree = tree
        self._meter = Meter(listing.size_bytes, place.clock, place.emit)
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    def run(self) -> None:
        """Do it all."""
        staging_fd = self._place.staging_fd
        with (
            at.opened(staging_fd, (PARTIAL,), create=True) as partial_fd,
            closing(Parts(staging_fd)) as parts,
        ):
            digests = self._link_known(parts)
            self._refuse_full_disk(partial_fd, digests)
            for index, file in enumerate(self._listing.files):
                if index not in digests:
                    place = Place(partial_fd, index, self._job.pace.part_bytes)
                    digests[index] = self._fetch(place, file, parts)
        self._meter.verifying()
        manifest = make_manifest(
            self._listing.storage_uri,
            self._listing.revision,
            (
                ManifestFile(file.path, file.size_bytes, digests[index])
                for index, file in enumerate(self._listing.files)
            ),
        )
        refuse_other_digest(manifest, self._job.digest)
        self._tree.complete(manifest)

    def _link_known(self, parts: Parts) -> dict[int, Digest]:
        """Link the files that are blobs already: of another model, or of an earlier run."""
        digests: dict[int, Digest] = {}
        for index, file in enumerate(self._listing.files):
            last_part = max(0, file.size_bytes - 1) // self._job.pace.part_bytes
            digest = file.sha256 or parts.digest(index, last_part)
            if digest and self._tree.link(file, digest):
                digests[index] = digest
                self._meter.moved(file.size_bytes)
        return digests

    def _refuse_full_disk(self, partial_fd: int, digests: dict[int, Digest]) -> None:
        """Better to say it now than after hours: a fill needs what is missing."""
        missing_bytes = 0
        for index, file in enumerate(self._listing.files):
            if index not in digests:
                partial = at.look(partial_fd, str(index))
                missing_bytes += max(0, file.size_bytes - (partial.st_size if partial else 0))
        disk = os.fstatvfs(partial_fd)
        available_bytes = disk.f_bavail * disk.f_frsize
        if missing_bytes > available_bytes:
            raise DiskFullError(
                f"{missing_bytes} bytes are to be fetched, the disk has {available_bytes} left"
            )

    def _fetch(self, place: Place, file: RemoteFile, parts: Parts) -> Digest:
        """Complete one file, verify it, and make it a blob that the tree links."""
        with Cursor(place, file, parts) as cursor:
            cursor.resume(self._buffer, self._meter.moved)
            self._stream(cursor, file)
            try:
                digest = cursor.finish()
            except IntegrityError:
                self._meter.moved(-file.size_bytes)
                at.unlink(place.partial_fd, place.name)
                raise
        for _ in range(_LINK_TRIES):
            add_blob(self._place.root_fd, place.partial_fd, place.name, digest, file.size_bytes)
            if self._tree.link(file, digest):
                at.unlink(place.partial_fd, place.name)
                return digest
        raise TransientError(FillFailure.STALLED, f"blob {digest} vanishes before it can be linked")

    def _stream(self, cursor: Cursor, file: RemoteFile) -> None:
        """Fetch from the cursor to the file's end, however often the source breaks off."""
        pace = self._job.pace
        patience = Patience(pace, self._place.wait, self._place.jitter, position=cursor.position)
        while not cursor.is_at_end:
            try:
                with self._place.source.fetch(self._listing, file, cursor.position) as body:
                    self._copy(body, cursor, file)
            except SourceUnavailableError as error:
                if isinstance(error, RangeRefusedError):
                    cursor.start_over(self._meter.moved)
                patience.endure(error, cursor.position)

    def _copy(self, body: Body, cursor: Cursor, file: RemoteFile) -> None:
        """Move a body's bytes to the cursor; those that it has already are passed over."""
        surplus_bytes = cursor.position - body.start
        while not cursor.is_at_end:
            wanted_bytes = min(CHUNK_BYTES, surplus_bytes) or cursor.room_bytes
            count_bytes = body.readinto(self._buffer[:wanted_bytes])
            if count_bytes == 0:
                raise SourceUnavailableError(
                    f"the source ended {file.path!r} after {cursor.position}"
                    f" of {file.size_bytes} bytes"
                )
            self._meter.fetched(count_bytes)
            if surplus_bytes:
                surplus_bytes -= count_bytes
            else:
                cursor.write(self._buffer[:count_bytes], self._meter.moved)


def refuse_other_digest(manifest: Manifest, pinned: str | None) -> None:
    """Compare with the catalog's pin: of the manifest, or of the only file."""
    if pinned is None:
        return
    of_manifest = hashlib.sha256(manifest.text().encode()).hexdigest()
    accepted = {f"sha256:{of_manifest}"}
    if len(manifest.files) == 1:
        accepted.add(f"sha256:{manifest.files[0].sha256}")
    if pinned not in accepted:
        raise PermanentError(
            FillFailure.INTEGRITY_MISMATCH,
            f"the catalog pins {pinned}, the model is {' or '.join(sorted(accepted))}",
        )
