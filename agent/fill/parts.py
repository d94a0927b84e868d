"""`staging/<key>/parts`: which parts of partial files are safe on disk.

    <file> <part> <sha256>      the file's index in the listing, the part's in the file

A line is appended only after the part's data is synced. The digest is of the file **from its start
to the part's end**: one running hash serves the record and the whole file, and whoever resumes
must read the parts before it anyway. So the last part's digest is the file's; it is recorded only
after the file was found to be what the source listed.

Append-only; the newest line of a part counts, and a line that a crash tore is dropped. A line for
data that is gone or differs does no harm: data is compared with it before it is believed.
"""

import os
import re
from typing import Final

from agent.store import at
from larder.layout import PARTS, Digest

_LINE = re.compile(rb"(?m)^(\d{1,9}) (\d{1,9}) ([0-9a-f]{64})\n")
_MAX_BYTES: Final = 64 * 1024 * 1024


class Parts:
    """The record of one fill, open for appending."""

    def __init__(self, staging_fd: int) -> None:
        self._fd = at.open_file(staging_fd, PARTS, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        recorded = os.pread(self._fd, _MAX_BYTES, 0)
        whole = recorded[: recorded.rfind(b"\n") + 1]
        os.ftruncate(self._fd, len(whole))
        self._digests = {
            (int(m[1]), int(m[2])): Digest(m[3].decode()) for m in _LINE.finditer(whole)
        }

    def digest(self, file: int, part: int) -> Digest | None:
        """What is recorded of a part, if anything."""
        return self._digests.get((file, part))

    def record(self, file: int, part: int, digest: Digest) -> None:
        """Append a part whose data is synced, and sync the record."""
        os.write(self._fd, f"{file} {part} {digest}\n".encode())
        os.fdatasync(self._fd)
        self._digests[file, part] = digest

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
