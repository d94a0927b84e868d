"""One file of a model as it grows: written, hashed once, and recorded part by part.

    staging/<key>/partial/<n>    mode 0600 until it is a blob

Every byte goes through the hash once on its way to the disk, and once more if a later run resumes.
At a part's end its data is synced and the part recorded, in a thread beside the download, one part
at a time. A partial file that is a blob already (it has a second link) is never written.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from agent.fill.parts import Parts
from agent.planning.values import RemoteFile
from agent.store import at
from larder.errors import IntegrityError
from larder.layout import Digest

CHUNK_BYTES: Final = 256 * 1024  # beyond the CPU's cache, hashing slows down (library facts E)
_MODE: Final = 0o600


class Hash(Protocol):
    """What hashlib's objects have in common with others."""

    def update(self, data: memoryview, /) -> None:
        """Take in the next bytes."""

    def hexdigest(self) -> str:
        """What the bytes come to so far."""

    def copy(self) -> Self:
        """The same state, to go back to."""


class Hashes:
    """What a file's bytes come to so far: its SHA-256, and whatever else is listed of it."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._listed: dict[
            str, Hash
        ] = {}  # by what they are to come to; the algorithms are the sources' choice
        if file.git_sha1 is not None:
            start = b"blob %d\0" % file.size_bytes
            self._listed[file.git_sha1] = hashlib.sha1(start, usedforsecurity=False)
        if file.md5 is not None:
            self._listed[file.md5] = hashlib.md5(usedforsecurity=False)
        if file.crc32c is not None:
            self._listed[file.crc32c] = _Crc32c()

    def copy(self) -> Self:
        """The same state, to go back to."""
        other = type(self)(self._file)
        other._sha256 = self._sha256.copy()  # noqa: SLF001 - its own class
        other._listed = {e: h.copy() for e, h in self._listed.items()}  # noqa: SLF001 - as above
        return other

    def update(self, chunk: memoryview) -> None:
        """Take in the next bytes."""
        self._sha256.update(chunk)
        for listed in self._listed.values():
            listed.update(chunk)

    @property
    def sha256(self) -> Digest:
        """The SHA-256 of the bytes so far."""
        return Digest(self._sha256.hexdigest())

    def refuse_difference(self) -> None:
        """Raise `IntegrityError` if the whole file is not what the source listed."""
        pairs = [(expected, listed.hexdigest()) for expected, listed in self._listed.items()]
        pairs.append((self._file.sha256 or self.sha256, self.sha256))
        for expected, observed in pairs:
            if observed != expected:
                raise IntegrityError(self._file.path, expected, observed)


class _Crc32c:
    """CRC-32C as a hash; the library is imported for files that are listed with one alone."""

    def __init__(self) -> None:
        from google_crc32c import Checksum  # noqa: PLC0415 - as above

        self._checksum = Checksum()

    def update(self, data: memoryview, /) -> None:
        """Take in the next bytes."""
        self._checksum.update(bytes(data))

    def hexdigest(self) -> str:
        """What the bytes come to so far."""
        return bytes(self._checksum.digest()).hex()

    def copy(self) -> Self:
        """The same state, to go back to."""
        other = type(self)()
        other._checksum = self._checksum.copy()  # noqa: SLF001 - its own class
        return other


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file grows: the directory of partial files, and its index in the listing."""

    partial_fd: int
    index: int
    part_bytes: int

    @property
    def name(self) -> str:
        """The partial file's name."""
        return str(self.index)


class Cursor:
    """A file of a listing, open at the byte that is to come next. A context manager."""

    def __init__(self, place: Place, file: RemoteFile, parts: Parts) -> None:
        self._place = place
        self._file = file
        self._parts = parts
        self._hashes = Hashes(file)
        self._fd = _open(place)
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._syncing: Future[None] | None = None
        self.position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._syncer.shutdown()
        os.close(self._fd)

    @property
    def is_at_end(self) -> bool:
        """Whether every byte is there."""
        return self.position == self._file.size_bytes

    @property
    def room_bytes(self) -> int:
        """How many bytes the next chunk may have."""
        to_part_end = self._place.part_bytes - self.position % self._place.part_bytes
        return min(CHUNK_BYTES, to_part_end, self._file.size_bytes - self.position)

    def resume(self, buffer: memoryview, moved: Callable[[int], None]) -> None:
        """Keep the recorded parts that are still as they were recorded; cut off what follows.

        `moved` is told by how many bytes the position changes, chunk by chunk.
        """
        on_disk_bytes = os.fstat(self._fd).st_size
        while not self.is_at_end:
            part = self.position // self._place.part_bytes
            end = min((part + 1) * self._place.part_bytes, self._file.size_bytes)
            recorded = self._parts.digest(self._place.index, part)
            if recorded is None or end > on_disk_bytes:
                break
            start, before = self.position, self._hashes.copy()
            while self.position < end:
                chunk = buffer[: os.preadv(self._fd, [buffer[: self.room_bytes]], self.position)]
                self._take_in(chunk, moved)
                if not chunk:
                    break
            if self._hashes.sha256 != recorded:
                moved(start - self.position)
                self.position, self._hashes = start, before
                break
        os.ftruncate(self._fd, self.position)
        os.lseek(self._fd, self.position, os.SEEK_SET)

    def write(self, chunk: memoryview, moved: Callable[[int], None]) -> None:
        """Append at most `room_bytes` bytes; a part that they complete is synced and recorded."""
        written = 0
        while written < len(chunk):
            written += os.write(self._fd, chunk[written:])
        self._take_in(chunk, moved)
        if self.position % self._place.part_bytes == 0 and not self.is_at_end:
            self._drain()
            part = self.position // self._place.part_bytes - 1
            self._syncing = self._syncer.submit(self._record, part, self._hashes.sha256)

    def start_over(self, moved: Callable[[int], None]) -> None:
        """Throw away every byte."""
        self._drain()
        moved(-self.position)
        self.position, self._hashes = 0, Hashes(self._file)
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def finish(self) -> Digest:
        """Compare a complete file with what was listed, sync and record it; its SHA-256.

        Raises `IntegrityError`.
        """
        self._drain()
        self._hashes.refuse_difference()
        digest = self._hashes.sha256
        last_part = max(0, self._file.size_bytes - 1) // self._place.part_bytes
        if self._parts.digest(self._place.index, last_part) != digest:
            self._record(last_part, digest)
        return digest

    def _take_in(self, chunk: memoryview, moved: Callable[[int], None]) -> None:
        self._hashes.update(chunk)
        self.position += len(chunk)
        moved(len(chunk))

    def _record(self, part: int, digest: Digest) -> None:
        os.fdatasync(self._fd)
        self._parts.record(self._place.index, part, digest)

    def _drain(self) -> None:
        """Wait for the part that is being synced; its error is ours."""
        if self._syncing is not None:
            syncing, self._syncing = self._syncing, None
            syncing.result()


def _open(place: Place) -> int:
    """Open a partial file for writing, a fresh one if need be."""
    found = at.look(place.partial_fd, place.name)
    if found is not None and found.st_nlink > 1:
        at.unlink(place.partial_fd, place.name)
    elif found is not None and found.st_mode & _MODE != _MODE:
        at.set_mode(place.partial_fd, place.name, _MODE)  # it was about to become a blob
    return at.open_file(place.partial_fd, place.name, os.O_RDWR | os.O_CREAT, _MODE)
