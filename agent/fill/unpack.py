"""An archive that was fetched becomes the files of its model.

    staging/<key>/partial/0      the archive, complete
    staging/<key>/partial/1      a member while it is written, until it is a blob

A member is hashed on its way to the disk and synced before it is a blob. What a killed run left is
made anew: the archive is there.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Final

from agent.fill.meter import Meter
from agent.fill.staging import StagedTree
from agent.planning.values import Listing, RemoteFile
from agent.sources.archives import Archive, Member
from agent.store import at
from agent.store.blobs import add_blob
from larder.contract import FillFailure
from larder.errors import TransientError
from larder.layout import Digest
from larder.manifest import ManifestFile

_MEMBER: Final = "1"
_MODE: Final = 0o600
_LINK_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Unpacking:
    """Where an archive is unpacked. `meter` is told of every byte."""

    root_fd: int
    partial_fd: int
    tree: StagedTree
    meter: Meter

    def run(self, listing: Listing) -> list[ManifestFile]:
        """The files of a listing's archive, each a blob that the tree links.

        Raises `FillError`s, and `OSError` for what the disk refuses.
        """
        archive = listing.archive
        if archive is None:
            raise AssertionError("the listing is of an archive")
        fd = at.open_file(self.partial_fd, "0", os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            limit = archive.unpacked_bytes or 0
            members = Archive(file, archive.path, archive.size_bytes, limit).members()
            return [self._file(member) for member in members]

    def _file(self, member: Member) -> ManifestFile:
        digest = self._written(member)
        file = RemoteFile(member.path, member.size_bytes, digest)
        for _ in range(_LINK_TRIES):
            add_blob(self.root_fd, self.partial_fd, _MEMBER, digest, member.size_bytes)
            if self.tree.link(file, digest):
                at.unlink(self.partial_fd, _MEMBER)
                return ManifestFile(member.path, member.size_bytes, digest)
        raise TransientError(FillFailure.STALLED, f"blob {digest} vanishes before it can be linked")

    def _written(self, member: Member) -> Digest:
        """A member's SHA-256, its bytes on disk and synced."""
        at.unlink(self.partial_fd, _MEMBER)  # a blob by now, if a run was killed: not to be written
        fd = at.open_file(self.partial_fd, _MEMBER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        try:
            sha256 = hashlib.sha256()
            for chunk in member.chunks:
                sha256.update(chunk)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                self.meter.moved(len(chunk))
            os.fdatasync(fd)
        finally:
            os.close(fd)
        return Digest(sha256.hexdigest())
