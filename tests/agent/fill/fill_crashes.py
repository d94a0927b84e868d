"""A child that dies before its n-th change of the disk, and a source in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.fill import cursor, partial, parts
from agent.planning.values import Listing, RemoteFile
from agent.sources.interface import SourceRequest
from agent.store import at
from larder.errors import SourceUnavailableError

_CHANGES = frozenset(
    {
        "chmod", "copy_file_range", "fchmod", "fdatasync", "fsync", "ftruncate", "link", "mkdir",
        "open", "pwrite", "rename", "rmdir", "unlink", "write",
    }
)  # fmt: skip


class Crash(BaseException):
    """The end of the process: nothing may catch it and go on."""


class Steps:
    """Stands for `os`; counts changes and refuses them from the n-th on."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in _CHANGES:
            return real

        def change(*args: Any, **kwargs: Any) -> Any:
            if name != "open" or args[1] & os.O_CREAT:
                self.count += 1
                if self.count >= self._last:
                    raise Crash
            if name in {"fsync", "fdatasync"}:  # no power cut here: waiting for the disk is idle
                return None
            return real(*args, **kwargs)

        return change


@contextmanager
def crash_before(step: int) -> Iterator[None]:
    """From the `step`-th change on (counted from 1) every change raises `Crash`."""
    steps = Steps(step)
    with pytest.MonkeyPatch.context() as patch:
        for module in (at, cursor, partial, parts):
            patch.setattr(module, "os", steps)
        yield


class MemorySource:
    """Serves files from memory; `breaks` are bytes after which the connection ends, in turn."""

    def __init__(self, listing: Listing, files: dict[str, bytes], breaks: list[int]) -> None:
        self.listing = listing
        self.files = files
        self.breaks = breaks
        self.served_bytes = 0

    def list(self, request: SourceRequest) -> Listing:
        raise AssertionError(request)

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator["MemoryBody"]:
        assert listing == self.listing
        assert 0 <= offset < file.size_bytes
        assert length is None or 0 < length <= file.size_bytes - offset
        yield MemoryBody(self, self.files[file.path], offset)


class MemoryBody:
    def __init__(self, source: MemorySource, content: bytes, start: int) -> None:
        self.start = self._at = start
        self._source = source
        self._content = content
        self._left = source.breaks.pop(0) if source.breaks else len(content)

    def readinto(self, buffer: memoryview) -> int:
        if self._left == 0:
            raise SourceUnavailableError("the connection broke")
        chunk = self._content[self._at : self._at + min(len(buffer), self._left)]
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        self._left -= len(chunk)
        self._source.served_bytes += len(chunk)
        return len(chunk)

    def abort(self) -> None:
        self._left = 0
