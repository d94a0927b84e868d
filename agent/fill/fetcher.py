"""One stream's way to the bytes of a claim: a connection at a time, broken off if it hardly moves.

A connection that breaks is asked for again where it ended, with patience. Where ranges cannot be
had, the stream takes all of its file alone: from the first gap on or, if the server insists, from
the first byte.
"""

from dataclasses import dataclass
from threading import Event, Lock
from typing import Final

from agent.fill.ground import Ground
from agent.fill.partial import Partial
from agent.fill.patience import PROGRESS_BYTES, Patience
from agent.planning.window import Claim
from agent.sources.interface import Body, RangeRefusedError
from larder.errors import SourceUnavailableError

CHUNK_BYTES: Final = 256 * 1024
_MINUTE_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Minute:
    """What a connection brought in a minute of waiting for it (not of waiting for a limit)."""

    count_bytes: int = 0
    seconds: float = 0.0

    def refuse_drip(self, count_bytes: int, seconds: float) -> None:
        """Take in a chunk. Raises `SourceUnavailableError` for a minute that was no progress."""
        self.count_bytes += count_bytes
        self.seconds += seconds
        if self.seconds < _MINUTE_SECONDS:
            return
        if self.count_bytes < PROGRESS_BYTES:
            raise SourceUnavailableError(
                f"the source sends {self.count_bytes} bytes in {self.seconds:.0f} s"
            )
        self.count_bytes, self.seconds = 0, 0.0


class Fetcher:
    """For one thread; another one may break its connection off. `stopped` ends all that it does.

    While it `is_asking`, there is no connection to break off: the source has not answered yet.
    """

    def __init__(self, ground: Ground, stopped: Event) -> None:
        self._ground = ground
        self._stopped = stopped
        self.is_asking = False
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._lock = Lock()
        self._body: Body | None = None
        self._reading_since: float | None = None
        self._is_slow = False
        self._minute = _Minute()

    def fetch(self, partial: Partial, claim: Claim) -> None:
        """Fetch a claim to its end, however often the source breaks off."""
        place, pace = self._ground.place, self._ground.job.pace
        patience = Patience(pace, self._wait, place.jitter, position=claim.position)
        while claim.left_bytes and not self._stopped.is_set():
            is_to_end = claim.end == partial.file.size_bytes
            length = None if is_to_end else claim.left_bytes
            try:
                self.is_asking = True
                with place.source.fetch(
                    self._ground.listing, partial.file, claim.position, length
                ) as body:
                    self.is_asking = False
                    self._read(body, partial, claim)
            except RangeRefusedError as error:
                if partial.fetch_alone(claim, anew=True):
                    patience.endure(error, claim.position)
            except SourceUnavailableError as error:
                if not self._stopped.is_set():
                    patience.endure(self._told(error, partial), claim.position)
            finally:
                self.is_asking = False

    def abort(self) -> None:
        """Break off whatever is being read."""
        with self._lock:
            if self._body:
                self._body.abort()

    def abort_if_slow(self) -> None:
        """Break off a connection whose next chunk has been on its way for too long."""
        since, now = self._reading_since, self._ground.place.clock.monotonic()
        if since is not None and now - since >= self._ground.job.pace.chunk_seconds:
            self._is_slow = True
            self.abort()

    def _read(self, body: Body, partial: Partial, claim: Claim) -> None:
        """Move a body's bytes to their place; those that are there already are passed over."""
        if body.start < claim.position and not partial.fetch_alone(claim, anew=False):
            return
        self._show(body)
        try:
            surplus_bytes = claim.position - body.start
            while claim.left_bytes and not self._stopped.is_set():
                most = self._ground.throttle.chunk_bytes(CHUNK_BYTES)
                wanted_bytes = min(most, surplus_bytes) or partial.room_bytes(claim, most)
                chunk = self._chunk(body, wanted_bytes)
                if not chunk:
                    raise SourceUnavailableError(
                        f"the source ended {partial.file.path!r} after {claim.position}"
                        f" of {partial.file.size_bytes} bytes"
                    )
                if surplus_bytes:
                    surplus_bytes -= len(chunk)
                else:
                    partial.write(claim, chunk)
        finally:
            self._show(None)

    def _chunk(self, body: Body, wanted_bytes: int) -> memoryview:
        ground, clock = self._ground, self._ground.place.clock
        self._reading_since = since = clock.monotonic()
        try:
            chunk = self._buffer[: body.readinto(self._buffer[:wanted_bytes])]
        finally:
            self._reading_since = None
        ground.meter.fetched(len(chunk))
        self._minute.refuse_drip(len(chunk), clock.monotonic() - since)
        ground.throttle.pause(len(chunk), self._stopped)
        return chunk

    def _show(self, body: Body | None) -> None:
        with self._lock:
            self._body, self._minute = body, _Minute()

    def _told(self, error: SourceUnavailableError, partial: Partial) -> SourceUnavailableError:
        """What really happened, if it was we who broke the connection off."""
        is_slow, self._is_slow = self._is_slow, False
        if not is_slow:
            return error
        seconds = self._ground.job.pace.chunk_seconds
        return SourceUnavailableError(
            f"the source sends less than {CHUNK_BYTES} bytes of {partial.file.path!r}"
            f" in {seconds:g} s"
        )

    def _wait(self, seconds: float) -> None:
        self._ground.place.wait(seconds, self._stopped)
