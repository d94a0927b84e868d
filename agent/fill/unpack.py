"""What comes of a file that could not be measured beforehand becomes the files of its model.

    staging/<key>/archive/     an archive, fetched by the engine as if it were a model of one file
    staging/<key>/partial/0    a member while it is written, until it is a blob that the tree links

A member is hashed on its way to the disk and synced before it is a blob. Of a killed run the
archive stays, and its parts; the members are made anew. A file whose size nobody says is its own
only member, and comes from the source at once or not at all.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from threading import Event as Signal
from typing import Final

from agent.fill.engine import fill, refuse_other_digest
from agent.fill.job import Event, Job, Progress
from agent.fill.meter import Meter
from agent.fill.staging import StagedTree, write_listing
from agent.fill.throttle import Throttle
from agent.fill.workplace import Workplace
from agent.planning.values import Listing, RemoteFile
from agent.sources.archives import CHUNK_BYTES, Archive
from agent.store import at
from agent.store.blobs import add_blob, collect
from agent.store.faults import translated
from agent.store.tree import read_manifest
from larder.contract import FillFailure
from larder.errors import BudgetExceededError, TransientError
from larder.layout import ARCHIVE, MANIFEST, PART_BYTES, PARTIAL, TREE, Digest
from larder.manifest import ManifestFile, make_manifest
from larder.status import ModelState
from larder.storage_uri import is_archive

_MEMBER: Final = "0"
_MODE: Final = 0o600
_LINK_TRIES: Final = 3


def fill_unmeasured(job: Job, place: Workplace, listing: Listing, file: RemoteFile) -> None:
    """Fetch and unpack a listing's only file until the staging is complete.

    Raises `FillError`s, and `CacheRootError` for what the disk refuses.
    """
    if file.unpacked_bytes != job.max_size_bytes:  # less or more room is reserved than is wanted
        raise TransientError(
            FillFailure.SOURCE_DRIFTED,
            f"maxSize has changed since {file.path!r} was listed; it is listed anew",
        )
    with (
        translated(f"unpacking {job.key}"),
        at.opened(place.staging_fd, (PARTIAL,), create=True) as partial_fd,
        closing(StagedTree(place.root_fd, place.staging_fd, listing)) as tree,
    ):
        work = _Unpacking(
            place, partial_fd, tree, Meter(listing.size_bytes, place.clock, place.emit)
        )
        if is_archive(file.path):
            digest = work.fetch_archive(job, listing, file)
            files = work.unpack_archive(file)
        else:
            digest = None
            files = [work.keep(file.path, work.streamed(listing, file))]
        work.meter.verifying()
        manifest = make_manifest(listing.storage_uri, listing.revision, files)
        refuse_other_digest(manifest, job.digest)
        tree.complete(manifest)
        at.remove_tree(place.staging_fd, ARCHIVE)
        collect(place.root_fd, [digest] if digest else [])


@dataclass(frozen=True, slots=True)
class _Unpacking:
    """Where something is unpacked. `meter` is told of every byte."""

    place: Workplace
    partial_fd: int
    tree: StagedTree
    meter: Meter

    def fetch_archive(self, job: Job, listing: Listing, file: RemoteFile) -> Digest:
        """Have the engine fetch the archive into a staging of its own; its SHA-256."""
        alone = replace(listing, files=(replace(file, unpacked_bytes=None),))
        with at.opened(self.place.staging_fd, (ARCHIVE,), create=True) as archive_fd:
            write_listing(archive_fd, alone)
            told: list[Event] = []
            place = replace(self.place, staging_fd=archive_fd, emit=self._relay(listing, told))
            fill(replace(job, digest=None, max_size_bytes=None), place)
            manifest = read_manifest(archive_fd, MANIFEST)
        if manifest is None:
            raise TransientError(FillFailure.STALLED, f"archive {file.path!r} vanishes")
        self.meter.moved(file.size_bytes)
        self.meter.fetched(max(e.bytes_fetched for e in told if isinstance(e, Progress)))
        return manifest.files[0].sha256

    def _relay(self, listing: Listing, told: list[Event]) -> Callable[[Event], None]:
        """Tell on what the engine tells of the archive, as a share of the whole."""

        def emit(event: Event) -> None:
            told[:] = [event]
            if isinstance(event, Progress):
                state, total = ModelState.DOWNLOADING, listing.size_bytes
                # Room for the members is not set aside yet.
                self.place.emit(replace(event, state=state, bytes_total=total, is_set_aside=False))

        return emit

    def unpack_archive(self, file: RemoteFile) -> list[ManifestFile]:
        """The members, each a blob that the tree links."""
        path = PurePosixPath(ARCHIVE, TREE, file.path)
        with at.opened(self.place.staging_fd, path.parent) as fd:
            archive_fd = at.open_file(fd, path.name, os.O_RDONLY)
        with os.fdopen(archive_fd, "rb") as archive:
            limit_bytes = file.unpacked_bytes or 0
            members = Archive(archive, file.path, file.size_bytes, limit_bytes).members()
            return [self.keep(member.path, member.chunks) for member in members]

    def streamed(self, listing: Listing, file: RemoteFile) -> Iterator[bytes]:
        """The bytes of a file whose size nobody says, as they come."""
        buffer, limit_bytes = memoryview(bytearray(CHUNK_BYTES)), file.unpacked_bytes or 0
        throttle, never = Throttle(self.place.clock, self.place.wait), Signal()
        with self.place.source.fetch(listing, file) as body:
            while count_bytes := body.readinto(buffer[: throttle.chunk_bytes(CHUNK_BYTES)]):
                throttle.set_rate(self.place.steering().bytes_per_second)
                throttle.pause(count_bytes, never)
                self.meter.fetched(count_bytes)
                limit_bytes -= count_bytes
                if limit_bytes < 0:
                    raise BudgetExceededError(
                        f"{file.path!r} has more than {file.unpacked_bytes} bytes,"
                        " which maxSize accepts"
                    )
                yield bytes(buffer[:count_bytes])

    def keep(self, path: str, chunks: Iterator[bytes]) -> ManifestFile:
        """A member, made a blob that the tree links."""
        digest, size_bytes = self._written(chunks)
        for _ in range(_LINK_TRIES):
            add_blob(self.place.root_fd, self.partial_fd, _MEMBER, digest, size_bytes)
            if self.tree.link(RemoteFile(path, size_bytes), digest):
                at.unlink(self.partial_fd, _MEMBER)
                return ManifestFile(path, size_bytes, digest)
        raise TransientError(FillFailure.STALLED, f"blob {digest} vanishes before it can be linked")

    def _written(self, chunks: Iterator[bytes]) -> tuple[Digest, int]:
        """A member's SHA-256 and size, its bytes on disk and synced."""
        at.unlink(self.partial_fd, _MEMBER)  # a blob by now, if a run was killed: not to be written
        fd = at.open_file(self.partial_fd, _MEMBER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        try:
            sha256, size_bytes = hashlib.sha256(), 0
            for chunk in chunks:
                sha256.update(chunk)
                before, size_bytes = size_bytes, size_bytes + len(chunk)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                self.meter.moved(len(chunk))
                if size_bytes // PART_BYTES > before // PART_BYTES:
                    os.fdatasync(fd)  # one of it all, at the end, could look like a stall
            os.fdatasync(fd)
        finally:
            os.close(fd)
        return Digest(sha256.hexdigest()), size_bytes
