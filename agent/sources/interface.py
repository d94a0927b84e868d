"""What a source promises: a listing at an immutable revision, and any range of any file of it.

A source raises `TransientError`s and `PermanentError`s of `larder.errors`, nothing else; their
sentences hold no token and no query of a URL. It does not retry: whoever fetches knows how far it
got, and asks again from there. Several threads may fetch at once.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from agent.planning.values import Listing, RemoteFile
from larder.errors import SourceUnavailableError


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What is to be listed. `revision` may be a branch, or None for the source's default.

    `max_size_bytes` is what an archive may hold, where the catalog says it.
    """

    storage_uri: str
    revision: str | None = None
    allow_patterns: tuple[str, ...] = ()
    ignore_patterns: tuple[str, ...] = ()
    max_size_bytes: int | None = None


class RangeRefusedError(SourceUnavailableError):
    """The source will not continue from that byte: the file is to be started over."""


class Body(Protocol):
    """The bytes of one file, from `start` to at least the end of the range that was asked for."""

    @property
    def start(self) -> int:
        """The offset of the first byte: what was asked for, or 0 where ranges are ignored."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as bytes come; 0 means that no more will come.

        Raises `SourceUnavailableError` when the connection breaks or falls silent.
        """

    def abort(self) -> None:
        """From any thread, at any time: whoever reads gets no more bytes, and gets that soon."""


class Source(Protocol):
    """One place that models are fetched from."""

    def list(self, request: SourceRequest) -> Listing:
        """Every file that a fill is to fetch, checked to be a tree that a slot may hold."""

    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[Body]:
        """So many bytes of a file of a listing from an offset below its size on; None: all.

        Raises also `RangeRefusedError`, and `SourceDriftedError` for a file that is not as listed.
        """
