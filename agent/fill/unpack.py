"""What comes of a file that could not be measured beforehand becomes the files of its model.

    staging/<key>/partial/0      an archive, complete
    staging/<key>/partial/1      a member while it is written, until it is a blob

A member is hashed on its way to the disk and synced before it is a blob. What a killed run left is
made anew: the archive is there. A file whose size nobody says is its own only member, and comes
from the source at once or not at all.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.fill.meter import Meter
from agent.fill.staging import StagedTree
from agent.planning.values import Listing, RemoteFile
from agent.sources.archives import CHUNK_BYTES, Archive
from agent.sources.interface import Source
from agent.store import at
from agent.store.blobs import add_blob
from larder.contract import FillFailure
from larder.errors import BudgetExceededError, TransientError
from larder.layout import Digest
from larder.manifest import ManifestFile
from larder.storage_uri import is_archive

_ARCHIVE: Final = "0"
_MEMBER: Final = "1"
_MODE: Final = 0o600
_LINK_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Unpacking:
    """Where something is unpacked. `meter` is told of every byte."""

    root_fd: int
    partial_fd: int
    source: Source
    tree: StagedTree
    meter: Meter

    def run(self, listing: Listing, file: RemoteFile) -> list[ManifestFile]:
        """What came of a listing's unmeasured file, each a blob that the tree links.

        Raises `FillError`s, and `OSError` for what the disk refuses.
        """
        limit_bytes = file.unpacked_bytes or 0
        if not is_archive(file.path):
            chunks = self._streamed(listing, file, limit_bytes)
            return [self._file(file.path, chunks)]
        with os.fdopen(at.open_file(self.partial_fd, _ARCHIVE, os.O_RDONLY), "rb") as archive:
            members = Archive(archive, file.path, file.size_bytes, limit_bytes).members()
            return [self._file(member.path, member.chunks) for member in members]

    def _streamed(self, listing: Listing, file: RemoteFile, limit_bytes: int) -> Iterator[bytes]:
        buffer = bytearray(CHUNK_BYTES)
        with self.source.fetch(listing, file) as body:
            while count_bytes := body.readinto(memoryview(buffer)):
                self.meter.fetched(count_bytes)
                limit_bytes -= count_bytes
                if limit_bytes < 0:
                    raise BudgetExceededError(
                        f"{file.path!r} has more than {file.unpacked_bytes} bytes,"
                        " which maxSize accepts"
                    )
                yield bytes(buffer[:count_bytes])

    def _file(self, path: str, chunks: Iterator[bytes]) -> ManifestFile:
        digest, size_bytes = self._written(chunks)
        for _ in range(_LINK_TRIES):
            add_blob(self.root_fd, self.partial_fd, _MEMBER, digest, size_bytes)
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
                size_bytes += len(chunk)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                self.meter.moved(len(chunk))
            os.fdatasync(fd)
        finally:
            os.close(fd)
        return Digest(sha256.hexdigest()), size_bytes
