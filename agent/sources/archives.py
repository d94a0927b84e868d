"""Archives as KServe unpacks them (`.tar`, `.tgz`, `.tar.gz`, `.zip`), given member by member.

What an archive says is hostile until it was checked. Members are regular files; directories come
into being with them. What could lead out of the model, or is no plain file (links, devices, holes),
is refused with the whole archive, and so is one that grows beyond what it may: by its members'
bytes, their number, or what a byte of it becomes. Content is given in chunks, and whatever an
archive wants to be read at once is bounded, so that memory is, too.
"""

import gzip
import mimetypes
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, BinaryIO, Final

from agent.planning.values import RemoteFile
from larder.contract import FillFailure
from larder.errors import BudgetExceededError, PermanentError, SourceDriftedError
from larder.manifest import listing_fault, path_fault
from larder.storage_uri import ARCHIVES

CHUNK_BYTES: Final = 256 * 1024
MAX_MEMBERS: Final = 100_000
MAX_RATIO: Final = 200
"""What a byte of an archive may become; weights come to two, text to ten, deflate ends at 1032."""
RATIO_FREE_BYTES: Final = 64 * 1024 * 1024
_DIRECTORY_MAX_BYTES: Final = 8 * 1024 * 1024  # of a zip: 100,000 members
_HEADER_MAX_BYTES: Final = 64 * 1024
_HEADERS_MAX_BYTES: Final = 256 * 1024  # of one member
_HEADERS_MAX: Final = 64  # of a whole tar
_TAIL_MAX_BYTES: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
_ENCRYPTED: Final = 1
_UNIX: Final = 3
_UNPACKED: Final = frozenset({"application/x-tar", "application/zip"})
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_FAULTS: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError),
    *(ValueError, OverflowError, RecursionError, NotImplementedError, struct.error),
    IndexError,  # of a member without a name, in a zip
)
"""What the libraries raise for bytes that are no archive."""


def as_archive(file: RemoteFile, max_size_bytes: int | None) -> RemoteFile:
    """A model's only file, as an archive that is to be unpacked if KServe unpacks it.

    Raises `PermanentError` if nobody says how much it may hold, `SourceDriftedError` for packing
    that is not read here.
    """
    if mimetypes.MimeTypes().guess_type(file.path)[0] not in _UNPACKED:
        return file
    if not file.path.endswith(ARCHIVES):
        raise SourceDriftedError(
            f"{file.path!r} is unpacked by KServe in a way that cannot be cached;"
            f" accepted: {', '.join(ARCHIVES)}"
        )
    if max_size_bytes is None:
        raise PermanentError(
            FillFailure.SIZE_UNKNOWN,
            f"{file.path!r} is an archive, and nobody says how much it holds;"
            " accepted: maxSize in its entry",
        )
    return replace(file, unpacked_bytes=max_size_bytes)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive. `chunks` are to be taken before the next member is."""

    path: str
    size_bytes: int
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive on disk. `max_bytes` are what its members may have together."""

    file: BinaryIO
    name: str
    size_bytes: int
    max_bytes: int

    def members(self) -> Iterator[Member]:
        """Every file, checked, in the archive's order.

        Raises `SourceDriftedError` for an archive that cannot be kept, `BudgetExceededError` for
        one that is too large; only after the last member is it known that there is no fault.
        """
        paths: list[str] = []
        total_bytes = 0
        with self._translated():
            is_zip = self.name.endswith(".zip")
            for member in self._of_zip() if is_zip else self._of_tar():
                paths.append(member.path)
                if len(paths) > MAX_MEMBERS:
                    raise self.refusal(f"it has more than {MAX_MEMBERS} members")
                total_bytes += member.size_bytes
                if total_bytes > self.max_bytes:
                    raise BudgetExceededError(
                        f"archive {self.name!r} holds more than {self.max_bytes} bytes,"
                        " which maxSize accepts"
                    )
                yield member
        if fault := listing_fault(paths):
            raise self.refusal(fault)
        if not paths:
            raise self.refusal("it holds no file")

    def refusal(self, fault: str) -> SourceDriftedError:
        """The error for an archive with a fault."""
        return SourceDriftedError(f"archive {self.name!r} is refused: {fault}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _FAULTS as error:
            raise self.refusal("it is damaged, or none") from error

    def _of_tar(self) -> Iterator[Member]:
        is_packed = self.file.read(len(_GZIP)) == _GZIP
        self.file.seek(0)
        limit_bytes = RATIO_FREE_BYTES + self.size_bytes * (MAX_RATIO if is_packed else 1)
        stream = _Forwards(gzip.GzipFile(fileobj=self.file) if is_packed else self.file)
        tar = tarfile.TarFile(fileobj=stream, encoding="utf-8")  # type: ignore[arg-type]  # it needs no more of a file
        while (member := stream.next_of(tar)) is not None:
            tar.members = []  # type: ignore[attr-defined]  # kept for a lookup that nobody makes
            path = self._path_of(member.name)
            if not member.isdir() and (not member.isreg() or member.issparse()):
                raise self.refusal(f"{_cut(path)} is no plain file")
            if stream.tell() + member.size > limit_bytes:
                raise self.refusal(f"it grows to more than {MAX_RATIO} times its size")
            if len(tar.pax_headers) > _HEADERS_MAX:
                raise tarfile.ReadError("too many headers")
            if member.isreg():
                chunks = self._guarded(stream.chunks(member.size))
                yield Member(self._file_path(path), member.size, chunks)
        if len(stream.last) != tarfile.BLOCKSIZE or any(stream.last):  # damage is an end to TarFile
            raise self.refusal("it is damaged, or breaks off")
        stream.drain()

    def _of_zip(self) -> Iterator[Member]:
        left_bytes = RATIO_FREE_BYTES + self.size_bytes * MAX_RATIO
        with zipfile.ZipFile(_Capped(self.file)) as archive:
            for info in archive.infolist():
                path = self._path_of(info.filename)
                kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == _UNIX else 0
                if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                    raise self.refusal(f"{_cut(path)} is no plain file")
                if info.is_dir():
                    continue
                if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
                    raise self.refusal(f"{_cut(path)} is encrypted, or packed as few can unpack it")
                left_bytes -= info.file_size
                if left_bytes < 0:
                    raise self.refusal(f"it grows to more than {MAX_RATIO} times its size")
                with archive.open(info) as content:
                    chunks = self._guarded(_chunks(content, info.file_size))
                    yield Member(self._file_path(path), info.file_size, chunks)

    def _guarded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same chunks, their faults translated: whoever takes them is not among our callers."""
        with self._translated():
            yield from chunks

    def _path_of(self, name: str) -> str:
        """A member's path below the model, as unpacking would make it."""
        parts = [part for part in name.split("/") if part not in {"", "."}]
        if name.startswith("/") or ".." in parts:
            raise self.refusal(f"{_cut(name)} leads out of it")
        return "/".join(parts)

    def _file_path(self, path: str) -> str:
        if fault := path_fault(path):
            raise self.refusal(fault)
        return path


class _Forwards:
    """What TarFile reads: forwards only, nothing large at once. `last` is what it read last.

    It reads headers: one member's may be many, and a map of holes is among them.
    """

    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        self._file = file
        self._position = 0
        self._headers_left_bytes = _HEADERS_MAX_BYTES  # TarFile begins with the first member
        self.last = b""

    def next_of(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """What the tar that reads from here has next."""
        self._headers_left_bytes = _HEADERS_MAX_BYTES
        return tar.next()

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, or those that are left."""
        self._headers_left_bytes -= size
        if size > _HEADER_MAX_BYTES or self._headers_left_bytes < 0:
            raise tarfile.ReadError("a header is too large")
        self.last = self._file.read(size)
        self._position += len(self.last)
        return self.last

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Read on to a position."""
        for _ in self.chunks(position - self._position):
            pass

    def chunks(self, size_bytes: int) -> Iterator[bytes]:
        """The next bytes, so many of them."""
        for chunk in _chunks(self._file, size_bytes):
            self._position += len(chunk)
            yield chunk

    def drain(self) -> None:
        """Read what pads an archive to its end, where gzip has its own digest."""
        for _ in range(_TAIL_MAX_BYTES // tarfile.BLOCKSIZE):
            if not self._file.read(tarfile.BLOCKSIZE):
                return
        raise tarfile.ReadError("it goes on after its end")


@dataclass(frozen=True, slots=True)
class _Capped:
    """What ZipFile reads: nothing large at once."""

    file: BinaryIO

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or those that are left."""
        data = self.file.read(
            min(size, _DIRECTORY_MAX_BYTES) if size >= 0 else _DIRECTORY_MAX_BYTES
        )
        if len(data) == _DIRECTORY_MAX_BYTES:
            raise zipfile.BadZipFile("its directory is too large")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go elsewhere."""
        if whence == 0 and offset < 0:
            raise zipfile.BadZipFile("an offset is none")
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Where we are."""
        return self.file.tell()

    def seekable(self) -> bool:
        """Whether one may go elsewhere."""
        return True


def _chunks(file: IO[bytes] | gzip.GzipFile, size_bytes: int) -> Iterator[bytes]:
    """So many bytes. Raises `EOFError` if there are fewer."""
    left_bytes = size_bytes
    while left_bytes > 0:
        chunk = file.read(min(left_bytes, CHUNK_BYTES))
        if not chunk:
            raise EOFError
        left_bytes -= len(chunk)
        yield chunk


def _cut(text: str) -> str:
    return repr(text[:80])
