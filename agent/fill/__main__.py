"""The child: `python -m agent.fill`, a job on standard input, events on standard output.

It does one operation on one key, under the flock of `staging/<key>/lock`, and exits. Lines after
the job's steer it. When standard input ends, its parent is gone or wants it to stop: it exits at
once, wherever it is; what is on disk can be continued. Whatever a library prints goes to standard
error, never among the events.
"""

import fcntl
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Final

from agent.fill.engine import fill, resolve
from agent.fill.job import (
    Done,
    Event,
    Heard,
    Job,
    Noted,
    Operation,
    Steering,
    event_line,
    failed,
    parse_job,
    parse_steering,
)
from agent.fill.staging import read_listing
from agent.fill.unpack import fill_unmeasured
from agent.fill.workplace import Workplace
from agent.sources.schemes import Reach, source_of
from agent.sources.web import Timeouts, Web
from agent.sources.xet import Xet, XetTerms
from agent.store import at
from agent.store.faults import translated
from larder.contract import FillFailure
from larder.errors import CacheRootError, FillError, IntegrityError, TransientError
from larder.layout import LOCK_FILE, staging_path
from runtime.clock import SystemClock

_UMASK: Final = 0o022
_WRONG_USE: Final = 2
_LOCK_TRIES: Final = 5
_LISTING_SECONDS: Final = 600.0
"""How long answers to a listing count: even one without end is ended."""
_READ_BYTES: Final = 64 * 1024


def main() -> int:
    """Do the job that standard input holds; returns the exit status, 0 also for a told failure."""
    os.umask(_UMASK)
    emit = _events()
    said = _lines()
    try:
        job = parse_job(next(said, b""))
    except ValueError as error:
        sys.stderr.write(f"python -m agent.fill: {error}\n")
        return _WRONG_USE
    helm = _Helm(job.steering)
    threading.Thread(target=helm.follow, args=(said,), name="control", daemon=True).start()
    emit(_outcome(job, emit, helm))
    return 0


class _Helm:
    """What the parent said last; one that is gone ends us."""

    def __init__(self, steering: Steering) -> None:
        self.steering = steering

    def follow(self, said: Iterator[bytes]) -> None:
        """Take in what it says; never returns."""
        for line in said:
            self.steering = parse_steering(line)
        os._exit(0)


def _lines() -> Iterator[bytes]:
    """The lines of standard input, without Python's buffer: its lock would outlive the thread."""
    rest = b""
    while data := os.read(0, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _events() -> Callable[[Event], None]:
    """What writes events to the standard output of our start; nobody else writes there."""
    events_fd = os.dup(1)
    os.dup2(2, 1)

    def emit(event: Event) -> None:
        os.write(events_fd, event_line(event))

    return emit


def _outcome(job: Job, emit: Callable[[Event], None], helm: _Helm) -> Event:
    """Do the job; what came of it."""
    try:
        _work(job, emit, helm)
    except FillError as error:
        return failed(error)
    except CacheRootError as error:  # a disk that fails: rare, and somebody has to look at it
        return failed(TransientError(FillFailure.STALLED, str(error)))
    return Done()


def _work(job: Job, emit: Callable[[Event], None], helm: _Helm) -> None:
    timeouts = Timeouts(job.pace.connect_timeout_seconds, job.pace.read_timeout_seconds)
    clock = SystemClock()
    listed_until = clock.monotonic() + _LISTING_SECONDS

    def heard() -> None:
        if job.operation is Operation.RESOLVE and clock.monotonic() < listed_until:
            emit(Heard())

    with (
        closing(Web(timeouts, job.network, heard)) as web,
        _staging(job) as (root_fd, staging_fd),
        closing(Xet(_xet_terms(job, staging_fd, emit, helm))) as xet,
    ):
        by_xet = xet if job.xet_memory_bytes else None
        reach = Reach(job.endpoint, job.secret, clock, web, job.fills, by_xet)
        place = Workplace(
            root_fd=root_fd,
            staging_fd=staging_fd,
            source=source_of(job.storage_uri, reach),
            clock=clock,
            emit=emit,
            wait=_wait,
            jitter=random.random,
            steering=lambda: helm.steering,
        )
        match job.operation:
            case Operation.RESOLVE:
                resolve(job, place)
            case Operation.FILL:
                listing = read_listing(staging_fd)
                if listing and (file := listing.unmeasured):
                    fill_unmeasured(job, place, listing, file)
                else:
                    _fill(job, place, xet)


def _fill(job: Job, place: Workplace, xet: Xet) -> None:
    """Fill; and again, if hf-xet may be why a file is not what was listed."""
    while True:
        try:
            return fill(job, place)
        except IntegrityError:
            if not xet.blame():
                raise


def _xet_terms(job: Job, staging_fd: int, emit: Callable[[Event], None], helm: _Helm) -> XetTerms:
    return XetTerms(
        memory_limit_bytes=job.xet_memory_bytes,
        home_fd=staging_fd,
        network=job.network,
        clock=SystemClock(),
        may_start=lambda: not helm.steering.bytes_per_second,
        tell=lambda fault: emit(Noted(f"hf-xet is not used any more: {fault}")),
    )


def _wait(seconds: float, stopped: threading.Event) -> None:
    stopped.wait(seconds)  # if our parent wants us gone, `follow` ends this


@contextmanager
def _staging(job: Job) -> Iterator[tuple[int, int]]:
    """Handles on the cache root and on the staging, made if need be and locked for us alone."""
    with ExitStack() as opened, translated(f"opening staging {job.key}"):
        root_fd = os.open(job.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        opened.callback(os.close, root_fd)
        staging_fd = at.open_directory(root_fd, staging_path(job.key), create=True)
        opened.callback(os.close, staging_fd)
        lock_fd = at.open_file(staging_fd, LOCK_FILE, os.O_RDWR | os.O_CREAT)
        opened.callback(os.close, lock_fd)
        _lock(lock_fd, job)
        yield root_fd, staging_fd


def _lock(lock_fd: int, job: Job) -> None:
    """Take the staging's lock; a predecessor whose parent was killed is about to let it go."""
    for _ in range(_LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        _wait(job.pace.first_wait_seconds, threading.Event())
    raise TransientError(FillFailure.STALLED, f"an earlier fill of {job.key} has not ended yet")


if __name__ == "__main__":
    sys.exit(main())
