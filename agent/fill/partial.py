"""One file of a model as it grows: written by position by several streams, hashed by one cursor.

    staging/<key>/partial/<n>    mode 0600 until it is a blob; blocks for all of it are set aside

Streams take claims and write; the window says how far ahead of the cursor. The cursor follows
behind them (`agent.fill.cursor`); what it needs of a file is here, too, under the same lock.

A partial file that is a blob already (it has a second link) is never written.
"""

import os
from collections.abc import Callable
from threading import Condition
from typing import Final, NamedTuple

from agent.fill.ground import Ground
from agent.planning.values import RemoteFile
from agent.planning.window import Claim, Window
from agent.store import at

_MODE: Final = 0o600
_HASHED_AT_STOP_MAX_BYTES: Final = 1024 * 1024 * 1024


class StoppedError(Exception):
    """The fill ends: whoever waits for bytes or work goes home."""


class Prepared(NamedTuple):
    """So many bytes of a file are there from an earlier run; whether there is room for the rest."""

    kept_bytes: int
    is_set_aside: bool


def prepare(ground: Ground, index: int) -> Prepared:
    """Drop what an earlier run did not record of a file, and set aside what it needs on disk."""
    file, name = ground.listing.files[index], str(index)
    found = at.look(ground.partial_fd, name)
    if found is not None and found.st_nlink > 1:
        at.unlink(ground.partial_fd, name)
        found = None
    elif found is not None and found.st_mode & _MODE != _MODE:
        at.set_mode(ground.partial_fd, name, _MODE)  # it was about to become a blob
    kept_bytes = _recorded_bytes(ground, index, file, found.st_size if found else 0)
    fd = at.open_file(ground.partial_fd, name, os.O_RDWR | os.O_CREAT, _MODE)
    try:
        os.ftruncate(fd, kept_bytes)
        return Prepared(kept_bytes, at.set_aside(fd, file.size_bytes))
    finally:
        os.close(fd)


def _recorded_bytes(ground: Ground, index: int, file: RemoteFile, on_disk_bytes: int) -> int:
    """How far the parts go that are recorded without a gap."""
    position = 0
    while position < file.size_bytes:
        end = min(position + ground.job.pace.part_bytes, file.size_bytes)
        part = position // ground.job.pace.part_bytes
        if ground.parts.digest(index, part) is None or end > on_disk_bytes:
            break
        position = end
    return position


class Readable(NamedTuple):
    """Bytes are there without a gap up to `end`, in the `run`-th attempt at the file."""

    run: int
    end: int


class Partial:
    """A file that was prepared. `moved` is called, without the lock, when more may be claimed."""

    def __init__(
        self, ground: Ground, index: int, kept_bytes: int, moved: Callable[[], None]
    ) -> None:
        pace = ground.job.pace
        self.index = index
        self.file = ground.listing.files[index]
        self.kept_bytes = kept_bytes
        self._part_bytes, self._range_bytes = pace.part_bytes, pace.range_bytes
        self._moved = moved
        self._lock = ground.lock
        self._changed = Condition(self._lock)
        self._window = Window(self.file.size_bytes, pace.range_bytes, kept_bytes)
        self._hashed_bytes = self._run = 0
        self._is_stopped = False
        self.fd = at.open_file(ground.partial_fd, str(index), os.O_RDWR)

    def close(self) -> None:
        """Close the file; nobody uses it any more."""
        os.close(self.fd)

    # --- what streams do; `claim` and the properties under the ground's lock ----------------------

    @property
    def stream_count(self) -> int:
        """How many streams are at work on it."""
        return self._window.stream_count

    @property
    def left_bytes(self) -> int:
        """How many bytes are not there yet."""
        return self._window.left_bytes

    def claim(self, streams: int) -> Claim | None:
        """The range that one of so many streams should fetch, if there is one."""
        return self._window.claim(self._hashed_bytes, (streams + 1) * self._range_bytes)

    def room_bytes(self, claim: Claim, most: int) -> int:
        """How many bytes the next chunk of a claim may have: it ends where a part does."""
        to_part_end = self._part_bytes - claim.position % self._part_bytes
        return min(most, to_part_end, claim.left_bytes)

    def write(self, claim: Claim, chunk: memoryview) -> None:
        """Put a claim's next bytes in their place."""
        position = start = claim.position
        while position < start + len(chunk):
            position += os.pwrite(self.fd, chunk[position - start :], position)
        with self._lock:
            claim.wrote(position)
            self._changed.notify_all()

    def fetch_alone(self, claim: Claim, *, anew: bool) -> bool:
        """Make a claim all that is missing, since ranges cannot be had: `anew` from the first byte.

        Waits until no other stream writes. False if another stream was faster to ask for this.
        """
        with self._lock:
            start = self._window.leave_to(claim)
            if start is None:
                return False
            while self._window.stream_count > 1:
                self._wait()
            if anew:
                start, self._run = 0, self._run + 1
            self._window.begin_alone(claim, start)
            self._changed.notify_all()
        return True

    def release(self, claim: Claim) -> None:
        """Give a claim back that is done, or was taken away."""
        with self._lock:
            self._window.release(claim)
            self._changed.notify_all()
        self._moved()

    def stop(self) -> None:
        """Send whoever waits here home; under the ground's lock."""
        self._is_stopped = True
        self._changed.notify_all()

    # --- what the cursor does ---------------------------------------------------------------------

    def wait_beyond(self, position: int, run: int) -> Readable:
        """Wait until there is more than `position`, or the file is started over.

        Raises `StoppedError`; what is there is hashed before, if that takes but seconds.
        """
        with self._lock:
            while True:
                readable = Readable(self._run, self._window.readable_bytes)
                left_bytes = readable.end - position
                if self._is_stopped and not 0 < left_bytes <= _HASHED_AT_STOP_MAX_BYTES:
                    raise StoppedError
                if readable.end > position or readable.run != run:
                    return readable
                self._changed.wait()

    def hashed(self, position: int) -> None:
        """The cursor is there: streams may go on, as far beyond as they may be ahead."""
        with self._lock:
            before, self._hashed_bytes = self._hashed_bytes, position
        if before // self._range_bytes != position // self._range_bytes:
            self._moved()

    def lose(self, start: int, stop: int) -> None:
        """What an earlier run left there is damaged: have it fetched again."""
        with self._lock:
            self._window.lose(start, stop)
        self._moved()

    def _wait(self) -> None:
        if self._is_stopped:
            raise StoppedError
        self._changed.wait()
