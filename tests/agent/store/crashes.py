"""A process that dies before its n-th change of the disk, and changes nothing after that."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.store import at

_CHANGES = frozenset(
    {
        "chmod",
        "copy_file_range",
        "fchmod",
        "fsync",
        "link",
        "mkdir",
        "open",
        "rename",
        "rmdir",
        "unlink",
    }
)


class Crash(BaseException):
    """The end of the process: nothing may catch it and go on."""


class Steps:
    """Stands for `os` in `agent.store.at`; counts changes and refuses them from the n-th on."""

    def __init__(self, last: int, failure: Callable[[], BaseException]) -> None:
        self.count = 0
        self._last = last
        self._failure = failure

    def step(self) -> None:
        self.count += 1
        if self.count >= self._last:
            raise self._failure()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in _CHANGES:
            return real

        def change(*args: Any, **kwargs: Any) -> Any:
            if name != "open" or args[1] & os.O_CREAT:
                self.step()
            return real(*args, **kwargs)

        return change


@contextmanager
def _failing(last: int, failure: Callable[[], BaseException]) -> Iterator[Steps]:
    steps = Steps(last, failure)
    real_rename = at._renameat2

    def renameat2(*args: Any) -> int:
        steps.step()
        return real_rename(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(at, "os", steps)
        patch.setattr(at, "_renameat2", renameat2)
        yield steps


def crash_before(step: int) -> Any:
    """From the `step`-th change on (counted from 1) every change raises `Crash`."""
    return _failing(step, Crash)


def full_from(step: int) -> Any:
    """From the `step`-th change on, every change fails for want of room."""
    return _failing(step, lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def died(step: int, work: Callable[[], object]) -> bool:
    """Whether `work` was killed before its `step`-th change; False means it has fewer."""
    try:
        with crash_before(step):
            work()
    except Crash:
        return True
    return False
