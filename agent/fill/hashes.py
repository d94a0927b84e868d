"""What a file's bytes come to: every digest that was listed of it, in one pass."""

import hashlib
from typing import Protocol, Self

from agent.planning.values import RemoteFile
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
