"""What a fill's child does: resolve a listing, or fetch all of it until the staging is complete.

    list ─▶ listing.json                                            (operation resolve)
    blob there? ─▶ link           else set aside all of the partial (operation fill)
    several at once: fetch ranges ─▶ hash in order ─▶ sync, record ─▶ as listed?
    each as it is done: blob ─▶ link into tree ─▶ partial goes
    sync names ─▶ manifest

Nothing here publishes. Killed at any instruction, the next run goes on from the recorded parts.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Final

from agent.fill.download import Download
from agent.fill.ground import Ground
from agent.fill.job import Job, Listed
from agent.fill.meter import Meter
from agent.fill.parts import Parts
from agent.fill.staging import StagedTree, read_listing, write_listing
from agent.fill.throttle import Throttle
from agent.fill.workplace import Workplace
from agent.planning.values import Listing
from agent.sources.interface import SourceRequest
from agent.store import at
from agent.store.blobs import add_blob
from agent.store.faults import translated
from agent.store.tree import held_bytes
from larder.contract import FillFailure
from larder.errors import (
    BudgetExceededError,
    DiskFullError,
    PermanentError,
    TransientError,
)
from larder.layout import PARTIAL, Digest
from larder.manifest import Manifest, ManifestFile, make_manifest

_LINK_TRIES: Final = 3


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
    """One run of the operation fill: all that changes names is done by the thread that calls it."""

    def __init__(self, job: Job, place: Workplace, listing: Listing, tree: StagedTree) -> None:
        self._job = job
        self._place = place
        self._listing = listing
        self._tree = tree
        self._meter = Meter(listing.size_bytes, place.clock, place.emit)

    def run(self) -> None:
        """Do it all."""
        staging_fd = self._place.staging_fd
        with (
            at.opened(staging_fd, (PARTIAL,), create=True) as partial_fd,
            closing(Parts(staging_fd)) as parts,
        ):
            digests = self._link_known(parts, range(len(self._listing.files)))
            missing = self._without_twins(digests)
            self._refuse_full_disk(partial_fd, missing)
            throttle = Throttle(self._place.clock, self._place.wait)
            throttle.set_rate(self._place.steering().bytes_per_second)
            ground = Ground(
                self._job, self._place, self._listing, parts, partial_fd, self._meter, throttle
            )
            with closing(Download(ground, missing)) as download:
                for index, digest in download.completed():
                    self._adopt(partial_fd, index, digest)
                    digests[index] = digest
            digests |= self._link_twins(parts, digests)
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

    def _link_known(self, parts: Parts, indexes: Iterable[int]) -> dict[int, Digest]:
        """Link those files that are blobs already: of any model, or of an earlier run."""
        digests: dict[int, Digest] = {}
        for index in indexes:
            file = self._listing.files[index]
            last_part = max(0, file.size_bytes - 1) // self._job.pace.part_bytes
            digest = file.sha256 or parts.digest(index, last_part)
            if digest and self._tree.link(file, digest):
                digests[index] = digest
                self._meter.moved(file.size_bytes)
        return digests

    def _without_twins(self, digests: Mapping[int, Digest]) -> list[int]:
        """The files that are to be fetched: of those with the same listed SHA-256, the first."""
        first: dict[Digest | int, int] = {}
        for index, file in enumerate(self._listing.files):
            if index not in digests:
                first.setdefault(file.sha256 or index, index)
        return list(first.values())

    def _link_twins(self, parts: Parts, digests: Mapping[int, Digest]) -> dict[int, Digest]:
        """Link the files that were not fetched, since their content was."""
        twins = [n for n in range(len(self._listing.files)) if n not in digests]
        linked = self._link_known(parts, twins)
        if len(linked) < len(twins):
            raise TransientError(FillFailure.STALLED, "a blob vanishes before its twin is linked")
        return linked

    def _refuse_full_disk(self, partial_fd: int, missing: Iterable[int]) -> None:
        """Better to say it now than after hours: a fill needs what is missing."""
        missing_bytes = 0
        for index in missing:
            partial = at.look(partial_fd, str(index))
            held = held_bytes(partial) if partial else 0
            missing_bytes += max(0, self._listing.files[index].size_bytes - held)
        disk = os.fstatvfs(partial_fd)
        available_bytes = disk.f_bavail * disk.f_frsize
        if missing_bytes > available_bytes:
            raise DiskFullError(
                f"{missing_bytes} bytes are to be fetched, the disk has {available_bytes} left"
            )

    def _adopt(self, partial_fd: int, index: int, digest: Digest) -> None:
        """Make a verified file a blob that the tree links."""
        file, name = self._listing.files[index], str(index)
        for _ in range(_LINK_TRIES):
            add_blob(self._place.root_fd, partial_fd, name, digest, file.size_bytes)
            if self._tree.link(file, digest):
                at.unlink(partial_fd, name)
                return
        raise TransientError(FillFailure.STALLED, f"blob {digest} vanishes before it can be linked")


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
