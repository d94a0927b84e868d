"""What a file's bytes come to: their SHA-256, and the checksum that was listed, in one pass."""

import hashlib
from collections.abc import Callable
from copy import copy
from typing import Protocol, Self

from agent.planning.values import Algorithm, Checksum, RemoteFile
from larder.errors import IntegrityError
from larder.layout import Digest


class Hash(Protocol):
    """What hashlib's objects have in common with others."""

    def update(self, data: memoryview, /) -> None:
        """Take in the next bytes."""

    def hexdigest(self) -> str:
        """What the bytes come to so far."""

    def copy(self) -> Self:
        """The same state, to go back to."""


class Hashes:
    """What a file's bytes come to so far: their SHA-256, and what else is listed of it."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        listed = file.checksum
        self._listed = _started(listed, file.size_bytes) if listed else None

    def copy(self) -> Self:
        """The same state, to go back to."""
        other = type(self)(self._file)
        other._sha256 = self._sha256.copy()  # noqa: SLF001 - its own class
        other._listed = self._listed.copy() if self._listed else None  # noqa: SLF001 - as above
        return other

    def update(self, chunk: memoryview) -> None:
        """Take in the next bytes."""
        self._sha256.update(chunk)
        if self._listed:
            self._listed.update(chunk)

    @property
    def sha256(self) -> Digest:
        """The SHA-256 of the bytes so far."""
        return Digest(self._sha256.hexdigest())

    def refuse_difference(self) -> None:
        """Raise `IntegrityError` if the whole file is not what the source listed."""
        listed = self._file.checksum
        if listed and self._listed and self._listed.hexdigest() != listed.hexdigest:
            raise IntegrityError(self._file.path, listed.hexdigest, self._listed.hexdigest())
        if self._file.sha256 not in {None, self.sha256}:
            raise IntegrityError(self._file.path, str(self._file.sha256), self.sha256)


def _started(listed: Checksum, size_bytes: int) -> Hash:
    """The hash of a file's first byte; the algorithms are the sources' choice."""
    if listed.part_bytes:
        return _OfParts(_of_whole(listed.algorithm, size_bytes), listed.part_bytes)
    return _of_whole(listed.algorithm, size_bytes)


def _of_whole(algorithm: Algorithm, size_bytes: int) -> Hash:
    match algorithm:
        case Algorithm.GIT_BLOB:
            return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
        case Algorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case Algorithm.SHA256:
            return hashlib.sha256()
        case Algorithm.SHA1:
            return hashlib.sha1(usedforsecurity=False)
        case Algorithm.CRC64NVME:
            return _Crc("CRC64-NVME", 16)
        case Algorithm.CRC32C:
            return _Crc("CRC32C", 8)
        case Algorithm.CRC32:
            return _Crc("CRC32", 8)


class _OfParts:
    """A hash over those of parts in a row, each of so many bytes, but the last one of the rest."""

    def __init__(self, first: Hash, part_bytes: int) -> None:
        self._first = first
        self._part_bytes = part_bytes
        self._ended, self._part = first.copy(), first.copy()
        self._left_bytes = part_bytes

    def update(self, data: memoryview, /) -> None:
        """Take in the next bytes."""
        while data:
            if not self._left_bytes:
                self._ended = self._with_part()
                self._part, self._left_bytes = self._first.copy(), self._part_bytes
            chunk, data = data[: self._left_bytes], data[self._left_bytes :]
            self._part.update(chunk)
            self._left_bytes -= len(chunk)

    def hexdigest(self) -> str:
        """What the bytes come to so far."""
        return self._with_part().hexdigest()

    def copy(self) -> Self:
        """The same state, to go back to."""
        other = copy(self)
        other._ended, other._part = self._ended.copy(), self._part.copy()  # noqa: SLF001 - its own
        return other

    def _with_part(self) -> Hash:
        """The hash over the parts so far, with the one that is under way."""
        with_part = self._ended.copy()
        with_part.update(memoryview(bytes.fromhex(self._part.hexdigest())))
        return with_part


class _Crc:
    """A CRC as a hash; the library is imported for files that are listed with one alone."""

    def __init__(self, model: str, digits: int) -> None:
        from anycrc import Model  # type: ignore[import-untyped]  # noqa: PLC0415 - has no types

        self._calculate: Callable[[memoryview, int], int] = Model(model).calc
        self._digits = digits
        self._value = 0

    def update(self, data: memoryview, /) -> None:
        """Take in the next bytes."""
        self._value = self._calculate(data, self._value)

    def hexdigest(self) -> str:
        """What the bytes come to so far."""
        return f"{self._value:0{self._digits}x}"

    def copy(self) -> Self:
        """The same state, to go back to."""
        return copy(self)
