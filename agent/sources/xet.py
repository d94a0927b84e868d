"""hf-xet as a way to a hub's files: in a child that goes when it stalls or outgrows its memory.

    fill ── range, pipe ──▶ agent.sources.xet_child ──▶ the store of the hub's chunks
         ◀── the bytes ────

The child is started for the first range and serves all of them. The engine reads, writes, hashes
and compares what comes down a pipe as it does with any connection. A range that does not come
whole and in time, from a child within its memory, is the last that hf-xet was asked for: the fill
goes on over HTTPS. The child is given the store's token, which is good for an hour or so, never
the hub's.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from agent.planning.values import Listing, RemoteFile
from agent.sources.hf import HubSource
from agent.sources.interface import Body, SourceRequest
from agent.sources.web import Network, Origin, origin_of
from agent.sources.xet_process import XetBody, XetProcess
from larder.errors import FillError, SourceUnavailableError
from runtime.clock import Clock

STREAM_BYTES: Final = 128 * 1024 * 1024
"""What a range of 64 MiB takes of hf-xet's memory at most: packed, unpacked, on its way to us."""
RENEWAL_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class XetAccess:
    """What opens the store of a model's chunks, until a time in Unix seconds."""

    endpoint: str
    token: str = field(repr=False)
    expires: int


def read_access(said: str, hub: Origin) -> XetAccess:
    """What a hub says of its store. Raises `SourceUnavailableError` for what is no answer."""
    try:
        raw = json.loads(said)
        access = XetAccess(raw["casUrl"].rstrip("/"), str(raw["accessToken"]), int(raw["exp"]))
        scheme = origin_of(access.endpoint).scheme
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise SourceUnavailableError(f"{hub.host} names no store of chunks") from None
    if hub.scheme == "https" != scheme:
        raise SourceUnavailableError(f"{hub.host} names a store of chunks without https")
    return access


@dataclass(frozen=True, slots=True)
class XetTerms:
    """On what terms hf-xet may be used.

    `home_fd` is a directory for its empty folders. It `may_start` a range while nothing limits
    bandwidth, since it fetches ahead of whoever reads. `tell` is called once, with the reason,
    when the fill goes on without it.
    """

    memory_limit_bytes: int
    home_fd: int
    network: Network
    clock: Clock
    may_start: Callable[[], bool]
    tell: Callable[[str], None]


class Xet:
    """hf-xet for one fill. Several threads may fetch at once."""

    def __init__(self, terms: XetTerms) -> None:
        self._terms = terms
        self._most_ranges = max(1, terms.memory_limit_bytes // STREAM_BYTES)
        self._lock = threading.Lock()
        self._ranges = 0
        self._delivered: set[str] = set()
        self._access: XetAccess | None = None
        self._process: XetProcess | None = None
        self._fault = ""
        self._is_told = False

    @contextmanager
    def fetch(
        self, file: RemoteFile, span: range, access: Callable[[], XetAccess]
    ) -> Iterator[Body | None]:
        """A range of a file; None if it is to be fetched another way. `access` asks for a token."""
        body = self._begin(file, span, access)
        if body is None:
            yield None
            return
        try:
            yield body
        except BaseException as error:
            self._give_up(self._why(error))
            raise
        finally:
            body.close()
            with self._lock:
                self._ranges -= 1

    def blame(self) -> bool:
        """A file is not what was listed: whether hf-xet may be why, so that another try is due.

        At most once for each file that hf-xet had a part in.
        """
        with self._lock:
            if not self._delivered:
                return False
            self._delivered.pop()
        self._give_up("a file that it had a part in is not what was listed")
        return True

    def close(self) -> None:
        """End the child."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()

    def _begin(
        self, file: RemoteFile, span: range, access: Callable[[], XetAccess]
    ) -> XetBody | None:
        with self._lock:
            if not self._fault:
                if not self._takes(file):
                    return None
                try:
                    return self._asked(file, span, access)
                except (FillError, OSError) as error:
                    self._fault = self._why(error)
            is_news, self._is_told = not self._is_told, True
        if is_news:
            self._terms.tell(self._fault)
        return None

    def _takes(self, file: RemoteFile) -> bool:
        is_free = self._ranges < self._most_ranges
        return file.xet_hash is not None and is_free and self._terms.may_start()

    def _asked(self, file: RemoteFile, span: range, access: Callable[[], XetAccess]) -> XetBody:
        """A range, asked for. The lock is held."""
        terms = self._terms
        if not self._access or self._access.expires <= terms.clock.now() + RENEWAL_SECONDS:
            self._access = access()
        if self._process is None:
            self._process = XetProcess(terms.home_fd, terms.network, terms.memory_limit_bytes)
        asked = {
            "endpoint": self._access.endpoint,
            "token": self._access.token,
            "expires": self._access.expires,
            "hash": file.xet_hash,
            "size": file.size_bytes,
            "start": span.start,
            "stop": span.stop,
        }
        body = XetBody(self._process, self._process.ask(asked), span.start)
        self._ranges += 1
        self._delivered.add(file.path)
        return body

    def _why(self, error: BaseException) -> str:
        """An error's sentence; the process that ended first knows better."""
        said = self._process.fault() if self._process is not None else ""
        return said or str(error) or type(error).__name__

    def _give_up(self, fault: str) -> None:
        """Ask nothing more of it; the first reason is the one that counts."""
        with self._lock:
            self._fault = self._fault or fault
            if self._process is not None:
                self._process.kill(fault)


class XetSource:
    """A hub whose files come by hf-xet, as far as that can be had."""

    def __init__(self, hub: HubSource, xet: Xet) -> None:
        self._hub = hub
        self._xet = xet

    def list(self, request: SourceRequest) -> Listing:
        """What the hub lists."""
        return self._hub.list(request)

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator[Body]:
        """A range of a file."""
        span = range(offset, file.size_bytes if length is None else offset + length)

        def access() -> XetAccess:
            return read_access(self._hub.ask(listing, "xet-read-token"), self._hub.origin)

        with self._xet.fetch(file, span, access) as body:
            if body is not None:
                yield body
                return
        with self._hub.fetch(listing, file, offset, length) as by_https:
            yield by_https
