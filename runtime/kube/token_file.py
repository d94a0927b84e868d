"""The service account's token: read again when its file changes, and when it is refused.

The kubelet renews it by swapping a link, so the resolved file's inode, time and size are compared.
A file that cannot be read leaves the last token in force.
"""

import errno
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, repr=False)
class _Read:
    seen: tuple[int, int, int]
    token: str


class TokenFile:
    """A token that others renew. Raises OSError where the first one cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = self._read()

    def token(self) -> str:
        """The newest token: one stat when nothing changed."""
        with suppress(OSError):
            if self._last.seen != _fingerprint(self._path):
                self._last = self._read()
        return self._last.token

    def token_read_anew(self) -> str:
        """The token as the file has it now, however it looks from outside."""
        with suppress(OSError):
            self._last = self._read()
        return self._last.token

    def _read(self) -> _Read:
        seen = _fingerprint(self._path)  # first: a renewal in between is seen by the next look
        token = "".join(self._path.read_text(encoding="ascii", errors="ignore").split())
        if not token:
            raise OSError(errno.ENODATA, "is empty")
        return _Read(seen, token)


def _fingerprint(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
