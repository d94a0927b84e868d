"""Where the hash of a growing file is: behind its streams, over every byte once, in order.

It reads back what is there without a gap (it is in the page cache still, so that nobody keeps bytes
in memory). At a part's end the data is synced and the part recorded, in a thread beside the
download, one part at a time; then the page cache lets go of it, unless a pod is waiting to read it.
What an earlier run recorded is hashed just so, and compared: a part that is not as it was recorded
is fetched again, alone.
"""

import errno
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from agent.fill.ground import Ground
from agent.fill.hashes import Hashes
from agent.fill.partial import Partial
from larder.layout import Digest

CHUNK_BYTES: Final = 256 * 1024  # beyond the CPU's cache, hashing slows down (library facts E)


def follow(partial: Partial, ground: Ground) -> Digest:
    """Hash, sync and record a file until all of it is there; its SHA-256.

    Raises `IntegrityError` for a file that is not what was listed, `StoppedError`, `OSError`.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sync") as syncer:
        return _Cursor(partial, ground, syncer).run()


class _Cursor:
    """The state of one `follow`."""

    def __init__(self, partial: Partial, ground: Ground, syncer: ThreadPoolExecutor) -> None:
        self._partial = partial
        self._ground = ground
        self._part_bytes = ground.job.pace.part_bytes
        self._syncer = syncer
        self._syncing: Future[None] | None = None
        self._buffer = memoryview(bytearray(min(CHUNK_BYTES, partial.file.size_bytes)))
        self._position = self._run = 0
        self._begin(kept_bytes=partial.kept_bytes)

    def run(self) -> Digest:
        """Go to the end."""
        size_bytes = self._partial.file.size_bytes
        while self._position < size_bytes:
            readable = self._partial.wait_beyond(self._position, self._run)
            if readable.run != self._run:
                self._ground.meter.moved(-self._position)
                self._position, self._run = 0, readable.run
                self._begin(kept_bytes=0)
                continue
            part_end = min(size_bytes, (self._position // self._part_bytes + 1) * self._part_bytes)
            self._take_in(min(readable.end, part_end) - self._position)
            if self._position == part_end:
                self._end_part()
        return self._finish()

    def _begin(self, *, kept_bytes: int) -> None:
        self._kept_bytes = kept_bytes
        self._lost: set[int] = set()
        self._hashes = Hashes(self._partial.file)
        self._at_part_start = self._hashes.copy()

    def _take_in(self, count_bytes: int) -> None:
        chunk = self._buffer[:count_bytes]
        chunk = chunk[: os.preadv(self._partial.fd, [chunk], self._position)]
        if not chunk:
            raise OSError(errno.EIO, "a partial file has lost its end", str(self._partial.index))
        self._hashes.update(chunk)
        self._position += len(chunk)
        self._ground.meter.moved(len(chunk))
        self._partial.hashed(self._position)

    def _end_part(self) -> None:
        part = (self._position - 1) // self._part_bytes
        digest = self._hashes.sha256
        if self._position <= self._kept_bytes and part not in self._lost:
            if self._ground.parts.digest(self._partial.index, part) != digest:
                self._lose(part)
                return
        elif self._position < self._partial.file.size_bytes:  # the last one waits for its verdict
            self._drain()
            self._syncing = self._syncer.submit(self._record, part, self._position, digest)
        self._at_part_start = self._hashes.copy()

    def _lose(self, part: int) -> None:
        """A part that is not as it was recorded: go back, and have it fetched again."""
        stop, self._position = self._position, part * self._part_bytes
        self._ground.meter.moved(self._position - stop)
        self._hashes = self._at_part_start.copy()
        self._lost.add(part)
        self._partial.lose(self._position, stop)

    def _finish(self) -> Digest:
        """Compare a complete file with what was listed, sync and record it."""
        self._drain()
        self._hashes.refuse_difference()
        digest, size_bytes = self._hashes.sha256, self._partial.file.size_bytes
        last_part = max(0, size_bytes - 1) // self._part_bytes
        if self._ground.parts.digest(self._partial.index, last_part) != digest:
            self._record(last_part, size_bytes, digest)
        return digest

    def _record(self, part: int, end: int, digest: Digest) -> None:
        os.fdatasync(self._partial.fd)
        self._ground.parts.record(self._partial.index, part, digest)
        if not self._ground.place.steering().keeps_cache:
            start = part * self._part_bytes
            os.posix_fadvise(self._partial.fd, start, end - start, os.POSIX_FADV_DONTNEED)

    def _drain(self) -> None:
        """Wait for the part that is being synced; its error is ours."""
        if self._syncing is not None:
            syncing, self._syncing = self._syncing, None
            syncing.result()
