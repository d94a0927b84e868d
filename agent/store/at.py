"""Every system call that changes the disk: relative to a directory handle, following no link.

Rules: a name is one component and checked (`ValueError` for `..`, `/`, NUL or nothing); a link on
the way is never followed (`NotADirectoryError`, or `OSError` with ELOOP); nothing relies on a
capability of uid 0. Callers get plain `OSError`s; who they are reported to decides the sentence.

What others may see half-done is written under a name that `is_temporary` knows, then renamed:
what a crash leaves behind is recognisable. Linux only.
"""

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final

Parts = PurePosixPath | tuple[str, ...]
"""A path below a handle. Every part is checked as a name."""

_TEMPORARY_PREFIX: Final = ".larder-"
_NEVER_FOLLOW: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | _NEVER_FOLLOW
_RENAME_NOREPLACE: Final = 1
_FALLOC_FL_KEEP_SIZE: Final = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})


def checked_name(name: str) -> str:
    """The name itself, if it is one component of a path. Raises `ValueError`."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not a file name")
    return name


def is_temporary(name: str) -> bool:
    """Whether a name is one that `write_atomically` or `copy_file` left behind in a crash."""
    return name.startswith(_TEMPORARY_PREFIX)


def temporary_name() -> str:
    """A fresh name that `is_temporary` knows."""
    return f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}"


# --- looking --------------------------------------------------------------------------------------


def open_directory(dir_fd: int, path: Parts, *, create: bool = False) -> int:
    """Open a directory below a handle, component by component; no parts means the handle's own.

    `create` makes what is missing, with mode 0755 less the umask; nothing is synced.
    """
    parts = path.parts if isinstance(path, PurePosixPath) else path
    current = os.open(".", _OPEN_DIRECTORY, dir_fd=dir_fd)
    for part in parts:
        try:
            deeper = _open_child(current, checked_name(part), create=create)
        finally:
            os.close(current)
        current = deeper
    return current


def _open_child(dir_fd: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=dir_fd)
    except FileNotFoundError:
        if not create:
            raise
    make_directory(dir_fd, name)
    return os.open(name, _OPEN_DIRECTORY, dir_fd=dir_fd)


@contextmanager
def opened(dir_fd: int, path: Parts, *, create: bool = False) -> Iterator[int]:
    """`open_directory` for a `with` statement."""
    fd = open_directory(dir_fd, path, create=create)
    try:
        yield fd
    finally:
        os.close(fd)


def open_file(dir_fd: int, name: str, flags: int, mode: int = 0o644) -> int:
    """Open a regular file; anything else there is refused. `flags` as for `os.open`.

    O_NONBLOCK is set, so that a planted FIFO does not hang the caller; files do not heed it.
    """
    flags |= _NEVER_FOLLOW | os.O_NONBLOCK
    fd = os.open(checked_name(name), flags, mode, dir_fd=dir_fd)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file", name)


def read_bytes(dir_fd: int, name: str, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes (`OSError` with EFBIG beyond)."""
    with os.fdopen(open_file(dir_fd, name, os.O_RDONLY), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", name)
    return data


def look(dir_fd: int, name: str) -> os.stat_result | None:
    """What is under a name, links not followed; None if nothing is."""
    try:
        return os.stat(checked_name(name), dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_directory(dir_fd: int, name: str) -> bool:
    """Whether a real directory is under a name."""
    found = look(dir_fd, name)
    return found is not None and stat.S_ISDIR(found.st_mode)


def names(dir_fd: int) -> list[str]:
    """The names in a directory, sorted."""
    return sorted(os.listdir(dir_fd))


# --- making and moving ----------------------------------------------------------------------------


def make_directory(dir_fd: int, name: str) -> None:
    """Make a directory of mode 0755 less the umask; one that is there already will do."""
    try:
        os.mkdir(checked_name(name), 0o755, dir_fd=dir_fd)
    except FileExistsError:
        found = look(dir_fd, name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name) from None


def write_atomically(
    dir_fd: int, name: str, data: bytes, mode: int = 0o644, *, sync: bool = True
) -> None:
    """Put a file under a name at once: a reader sees the old content or the new, never a part.

    `sync` makes it survive a power cut before returning; without it the file may be lost then.
    """
    checked_name(name)
    temporary = temporary_name()
    fd = open_file(dir_fd, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)  # exact, whatever the umask
            if sync:
                os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        unlink(dir_fd, temporary)
        raise
    if sync:
        sync_directory(dir_fd)


def rename(src_fd: int, src: str, dst_fd: int, dst: str) -> None:
    """Rename over whatever file is there. For directories use `rename_noreplace`."""
    os.rename(checked_name(src), checked_name(dst), src_dir_fd=src_fd, dst_dir_fd=dst_fd)


def rename_noreplace(src_fd: int, src: str, dst_fd: int, dst: str) -> None:
    """Rename only if nothing is there (`FileExistsError`); plain rename replaces empty directories.

    Raises `OSError` with EOPNOTSUPP where the filesystem cannot do it.
    """
    result = _renameat2(
        src_fd, os.fsencode(checked_name(src)), dst_fd, os.fsencode(checked_name(dst))
    )
    if result in {errno.EINVAL, errno.ENOSYS}:
        message = "this filesystem cannot rename without replacing (RENAME_NOREPLACE)"
        raise OSError(errno.EOPNOTSUPP, message, src)
    if result:
        raise OSError(result, os.strerror(result), src, None, dst)


def _renameat2(src_fd: int, src: bytes, dst_fd: int, dst: bytes) -> int:
    """The system call: 0, or the errno."""
    if _LIBC.renameat2(src_fd, src, dst_fd, dst, _RENAME_NOREPLACE) == 0:
        return 0
    return ctypes.get_errno()


def link(src_fd: int, src: str, dst_fd: int, dst: str) -> None:
    """Hard-link a file, never through a symlink. Raises `FileExistsError`; EMLINK as `OSError`."""
    os.link(
        checked_name(src),
        checked_name(dst),
        src_dir_fd=src_fd,
        dst_dir_fd=dst_fd,
        follow_symlinks=False,
    )


def copy_file(src_fd: int, src: str, dst_fd: int, dst: str) -> None:
    """Copy a file to a fresh inode with the same mode, synced; appears at once.

    Raises `FileExistsError` like `link`.
    """
    checked_name(dst)
    temporary = temporary_name()
    source = open_file(src_fd, src, os.O_RDONLY)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        target = open_file(dst_fd, temporary, flags, 0o600)
        try:
            _copy(source, target)
        finally:
            os.close(target)
        rename_noreplace(dst_fd, temporary, dst_fd, dst)
    except BaseException:
        unlink(dst_fd, temporary)
        raise
    finally:
        os.close(source)


def _copy(source: int, target: int) -> None:
    found = os.fstat(source)
    remaining = found.st_size
    while remaining and (copied := os.copy_file_range(source, target, remaining)):
        remaining -= copied
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.fsync(target)


def set_aside(fd: int, size_bytes: int) -> bool:
    """Have the disk keep room for a file of that size, whose size does not change by that.

    Not `os.posix_fallocate`, which makes the file as large at once (and writes zeros where the
    filesystem cannot do better): what is not there yet would look as if it were. False where the
    filesystem cannot; no room is an `OSError`.
    """
    if size_bytes == 0 or _LIBC.fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, size_bytes) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number))


def set_mode(dir_fd: int, name: str, mode: int) -> None:
    """Change the mode of a file or directory of ours; a link is refused."""
    # O_PATH needs no permission on the file itself; chmod of a name would follow a link.
    fd = os.open(checked_name(name), os.O_PATH | _NEVER_FOLLOW, dir_fd=dir_fd)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        os.chmod(f"/proc/self/fd/{fd}", mode)  # noqa: PTH101 - a handle, not a path
    finally:
        os.close(fd)


# --- syncing --------------------------------------------------------------------------------------


def sync_directory(dir_fd: int) -> None:
    """Make the names in a directory survive a power cut."""
    os.fsync(dir_fd)


def sync_file(dir_fd: int, name: str) -> None:
    """Make a file's bytes survive a power cut."""
    fd = open_file(dir_fd, name, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(dir_fd: int, name: str, *, files: bool = False) -> None:
    """Sync every directory of a tree, the deepest first; `files` syncs all files before them."""
    directories: list[tuple[str, ...]] = [(name,)]
    for parts in directories:  # grows while it is walked; a tree may be deeper than the stack
        with opened(dir_fd, parts) as fd:
            for child in names(fd):
                found = look(fd, child)
                if found is not None and stat.S_ISDIR(found.st_mode):
                    directories.append((*parts, child))
                elif found is not None and files and stat.S_ISREG(found.st_mode):
                    sync_file(fd, child)
    for parts in reversed(directories):
        with opened(dir_fd, parts) as fd:
            sync_directory(fd)


# --- removing -------------------------------------------------------------------------------------


def unlink(dir_fd: int, name: str) -> None:
    """Remove a file or a link; nothing there is fine."""
    try:
        os.unlink(checked_name(name), dir_fd=dir_fd)
    except FileNotFoundError:
        return


def remove_tree(dir_fd: int, name: str) -> int:
    """Remove whatever is under a name, links themselves and never their targets; nothing is fine.

    Returns the bytes of files whose last link went. Directories of ours that deny writing are
    opened up first, as uid 0 without capabilities has to.
    """
    found = look(dir_fd, name)
    if found is None:
        return 0
    if not stat.S_ISDIR(found.st_mode):
        return _remove_file(dir_fd, name, found)
    _open_up(dir_fd, name, found)
    freed_bytes = 0
    with opened(dir_fd, (name,)) as top_fd:
        while children := names(top_fd):
            freed_bytes += sum(_remove_level(top_fd, child) for child in children)
    os.rmdir(name, dir_fd=dir_fd)
    return freed_bytes


def _remove_level(top_fd: int, name: str) -> int:
    """Remove a child of a tree's top; its own directories are lifted there, and come next.

    So a tree of any depth goes, with two handles and no recursion.
    """
    found = look(top_fd, name)
    if found is None:
        return 0
    if not stat.S_ISDIR(found.st_mode):
        return _remove_file(top_fd, name, found)
    _open_up(top_fd, name, found)
    freed_bytes = 0
    with opened(top_fd, (name,)) as fd:
        for child in names(fd):
            below = look(fd, child)
            if below is not None and stat.S_ISDIR(below.st_mode):
                _open_up(fd, child, below)
                rename_noreplace(fd, child, top_fd, temporary_name())
            elif below is not None:
                freed_bytes += _remove_file(fd, child, below)
    os.rmdir(name, dir_fd=top_fd)
    return freed_bytes


def _open_up(dir_fd: int, name: str, found: os.stat_result) -> None:
    """Let the owner list, change and move a directory."""
    if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        set_mode(dir_fd, name, 0o700)


def _remove_file(dir_fd: int, name: str, found: os.stat_result) -> int:
    unlink(dir_fd, name)
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0
