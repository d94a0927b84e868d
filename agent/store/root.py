"""The cache root: found fit, locked, and opened once; everything else works below its handle.

    <root>/
      layout.json   written when the root is first used; says who may read it
      lock          held by flock for as long as the agent lives
      slots/ blobs/ staging/ trash/ quarantine/ adopt/

A root that is unfit is refused in one sentence and left exactly as it was found: all checks come
before the first write, and again after waiting for the lock.
"""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from agent.planning.values import Disk
from agent.store import at
from larder.errors import CacheRootError
from larder.layout import (
    CURRENT,
    LAYOUT_FILE,
    LOCK_FILE,
    SCHEMA,
    SLOTS,
    TOP_DIRECTORIES,
    parse_layout,
)
from runtime.clock import Clock

LOCK_WAIT_SECONDS: Final = 30.0  # longer than a predecessor takes to end on SIGTERM
_LOCK_POLL_SECONDS: Final = 0.5
_LAYOUT_MAX_BYTES: Final = 4096
_LOST_AND_FOUND: Final = "lost+found"
# In a pod the root filesystem is an overlay of its own; these files are then mounted from the disks
# of the kubelet and of the container runtime.
_ON_SYSTEM_DISK: Final = (Path("/"), Path("/etc/hosts"), Path("/etc/hostname"))
_UMASK: Final = 0o022  # pods of any uid read what we write


class CacheRoot:
    """An open cache root. `fd` is a handle on its directory; `path` is for sentences only."""

    def __init__(self, path: Path, fd: int, lock_fd: int | None = None) -> None:
        self.path = path
        self.fd = fd
        self._lock_fd = lock_fd

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        allow_any_disk: bool,
        clock: Clock,
        stop: threading.Event,
        lock_wait_seconds: float = LOCK_WAIT_SECONDS,
    ) -> Self:
        """Open a root for writing: make it if it is missing, lock it, make its directories.

        Sets the process's umask to 022. Raises `CacheRootError` for a root that is not fit
        (`allow_any_disk` accepts the system's disk) or still held after `lock_wait_seconds`.
        """
        fd = _open_or_make(path, allow_any_disk=allow_any_disk)
        lock_fd: int | None = None
        try:
            _refuse_unfit(path, fd, to_write=True)
            os.umask(_UMASK)
            lock_fd = at.open_file(fd, LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
            _lock(path, lock_fd, clock.monotonic() + lock_wait_seconds, clock, stop)
            _refuse_unfit(path, fd, to_write=True)
            _lay_out(fd)
        except BaseException as error:
            os.close(fd)
            if lock_fd is not None:
                os.close(lock_fd)
            if isinstance(error, OSError):
                raise CacheRootError(_unusable(path, error)) from error
            raise
        return cls(path, fd, lock_fd)

    @classmethod
    def open_readonly(cls, path: Path) -> Self:
        """Open a root for looking, beside a living agent: no lock, nothing is written.

        Raises `CacheRootError`, also for a directory that holds no cache yet.
        """
        fd = _open_existing(path)
        try:
            _refuse_unfit(path, fd, to_write=False)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd)

    def disk(self) -> Disk:
        """The filesystem under the root, now. Raises `CacheRootError`."""
        try:
            found = os.fstatvfs(self.fd)
        except OSError as error:
            raise CacheRootError(_unusable(self.path, error)) from error
        return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self.fd)
        if self._lock_fd is not None:
            os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _unusable(path: Path, error: OSError) -> str:
    return f"cache root {path} cannot be used: {error.strerror}"


def _open_or_make(path: Path, *, allow_any_disk: bool) -> int:
    if not os.path.lexists(path):
        if not path.parent.is_dir():
            raise CacheRootError(
                f"cache root {path} cannot be made: {path.parent} is not a directory"
            )
        _refuse_system_disk(path, path.parent, allow_any_disk=allow_any_disk)
        try:
            path.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise CacheRootError(f"cache root {path} cannot be made: {error.strerror}") from error
    fd = _open_existing(path)
    try:
        _refuse_system_disk(path, path, allow_any_disk=allow_any_disk)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_existing(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError as error:
        raise CacheRootError(_unusable(path, error)) from error
    if stat.S_ISLNK(found.st_mode):
        raise CacheRootError(
            f"cache root {path} is a symbolic link; give the directory that it points to"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise CacheRootError(f"cache root {path} is a file; give a directory")
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise CacheRootError(_unusable(path, error)) from error


def _refuse_system_disk(path: Path, on: Path, *, allow_any_disk: bool) -> None:
    # A bind mount of a directory has its filesystem's st_dev: it is still the system's own disk.
    if not allow_any_disk and on.stat().st_dev in set(_system_disks()):
        raise CacheRootError(
            f"cache root {path} is on the system's own disk, which a cache could fill up;"
            " mount a disk there, or pass --allow-any-disk (in a cluster, give the DaemonSet the"
            " variable LARDER_AGENT_ALLOW_ANY_DISK=true)"
        )


def _system_disks() -> Iterator[int]:
    for place in _ON_SYSTEM_DISK:
        with suppress(OSError):
            yield place.stat().st_dev


def _refuse_unfit(path: Path, fd: int, *, to_write: bool) -> None:
    """Raise `CacheRootError` for what may not be used, without a write."""
    try:
        found = at.names(fd)
        if LAYOUT_FILE in found:
            _refuse_layout(path, at.read_bytes(fd, LAYOUT_FILE, _LAYOUT_MAX_BYTES))
        elif not to_write:
            raise CacheRootError(f"cache root {path} holds no cache: it has no {LAYOUT_FILE}")
        else:
            _refuse_foreign(path, found)
        for name in TOP_DIRECTORIES:
            entry = at.look(fd, name)
            if entry is not None and not stat.S_ISDIR(entry.st_mode):
                raise CacheRootError(
                    f"cache root {path} cannot be used: {name} in it is not a directory"
                )
        if to_write:
            _refuse_unwritable(path, fd)
    except OSError as error:
        raise CacheRootError(_unusable(path, error)) from error


def _refuse_layout(path: Path, data: bytes) -> None:
    layout = parse_layout(data.decode(errors="replace"))
    if layout is None:
        raise CacheRootError(
            f"cache root {path} cannot be used: its {LAYOUT_FILE} is not readable as one"
        )
    if not layout.is_usable:
        raise CacheRootError(
            f"cache root {path} was written by a newer Larder (schema {layout.schema}, for readers"
            f" of {layout.oldest_reader} and up); this one reads up to {SCHEMA}"
        )


def _refuse_foreign(path: Path, found: Collection[str]) -> None:
    # A first start that was killed leaves the lock, and perhaps half a layout. A pod that came to
    # this node before any agent made its slot's directory (DirectoryOrCreate).
    ours = {LOCK_FILE, _LOST_AND_FOUND, SLOTS}
    foreign = [name for name in found if name not in ours and not at.is_temporary(name)]
    if foreign:
        raise CacheRootError(
            f"cache root {path} is neither empty nor a cache: it holds {foreign[0]!r}"
            f" and no {LAYOUT_FILE}"
        )


def _refuse_unwritable(path: Path, fd: int) -> None:
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        raise CacheRootError(f"cache root {path} is on a filesystem that is mounted read-only")
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=fd):
        raise CacheRootError(f"cache root {path} is read-only for uid {os.getuid()}")


def _lock(path: Path, lock_fd: int, deadline: float, clock: Clock, stop: threading.Event) -> None:
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
        else:
            return
        left_seconds = deadline - clock.monotonic()
        if left_seconds <= 0 or stop.wait(min(_LOCK_POLL_SECONDS, left_seconds)):
            raise CacheRootError(f"cache root {path} is held by another agent; one agent a root")


def _lay_out(fd: int) -> None:
    if at.look(fd, LAYOUT_FILE) is None:  # first: directories without it would look foreign
        at.write_atomically(fd, LAYOUT_FILE, CURRENT.text().encode())
    for name in TOP_DIRECTORIES:
        at.make_directory(fd, name)
    at.sync_directory(fd)
