"""Where `OSError`s of the disk become Larder's errors: once, with what was being done."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from larder.errors import CacheRootError, DiskFullError, LarderError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def raise_ours(error: OSError) -> None:
    """Raise an error that says nothing of what is on disk: this process ran out of something."""
    if error.errno in _OURS:
        raise error


def disk_error(doing: str, error: OSError) -> LarderError:
    """`DiskFullError` where room ran out, else `CacheRootError`; one sentence."""
    if error.errno in _FULL:
        return DiskFullError(f"{doing}: the disk is full ({error.strerror})")
    where = "" if error.filename is None else f" ({error.filename})"
    return CacheRootError(f"{doing}: {error.strerror or error}{where}")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what `disk_error` makes of an `OSError`; everything else passes."""
    try:
        yield
    except OSError as error:
        raise disk_error(doing, error) from error
