"""One child process of a fill, and the thread that listens to it.

A child is exec'd (the agent has threads, so it never forks) with an environment of its own making:
proxies and certificates, no credential. Its job, secret included, goes down its standard input,
which then stays open: closing it ends the child. What a child says is not trusted to be
well-formed, and one that dies without a word is a failure like any other.
"""

import os
import selectors
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from agent.fill.job import (
    Done,
    Failed,
    Heard,
    Job,
    Listed,
    Noted,
    Operation,
    Progress,
    Steering,
    parse_event,
)
from agent.planning.values import FillProgress
from agent.sources.hf import ENVIRONMENT
from larder.errors import FillError, StalledError
from larder.layout import Key
from larder.status import ModelState
from runtime.clock import Clock
from runtime.logs import get_logger
from runtime.memory import resident_bytes

RATE_WINDOW_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 5.0
_LINE_MAX_BYTES: Final = 64 * 1024
_STDERR_KEPT_BYTES: Final = 2048
_MESSAGE_MAX_CHARACTERS: Final = 1000
_READ_BYTES: Final = 16 * 1024
_PASSED_ON: Final = (
    "PATH", "LANG", "LC_ALL", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip

_log = get_logger()


@dataclass(frozen=True, slots=True)
class FillResult:
    """How an operation ended. `error` is None for success; `size_bytes` came from the source."""

    key: Key
    operation: Operation
    error: FillError | None
    seconds: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a child needs of its parent. `wake` is called, from any thread, when there is news."""

    python: str
    clock: Clock
    wake: Callable[[], None]


@dataclass(slots=True)
class _State:
    """What is known of a child; guarded by its lock."""

    progress: Progress = field(default_factory=lambda: Progress(ModelState.QUEUED, 0, 0, 0))
    outcome: Done | Failed | None = None
    verdict: str | None = None
    has_ended: bool = False
    exit_status: int | None = None
    moved_at: float = 0.0
    ended_at: float = 0.0
    samples: deque[tuple[float, int]] = field(default_factory=deque)


class Child:
    """One child process and the thread that listens to it."""

    def __init__(self, job: Job, reserved_bytes: int, around: Surroundings) -> None:
        self.job = job
        self._reserved_bytes = reserved_bytes
        self._clock = around.clock
        self._wake = around.wake
        self._started_at = around.clock.monotonic()
        self._lock = threading.Lock()
        self._state = _State(moved_at=self._started_at)
        self._steering = job.steering
        self._process = _spawn(around.python)
        self._give_job()
        self._listener = threading.Thread(target=self._listen, name=f"fill-{job.key}", daemon=True)
        self._listener.start()

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone and all it said was heard."""
        with self._lock:
            return self._state.has_ended

    def progress(self) -> FillProgress:
        """How far it is."""
        with self._lock:
            said = self._state.progress
            return FillProgress(
                key=self.job.key,
                state=said.state,
                reserved_bytes=self._reserved_bytes,
                bytes_done=said.bytes_done,
                bytes_total=said.bytes_total,
                rate_bytes_per_second=self._rate(self._clock.monotonic()),
                is_set_aside=said.is_set_aside,
            )

    def result(self) -> FillResult:
        """How it ended."""
        with self._lock:
            state = self._state
            return FillResult(
                key=self.job.key,
                operation=self.job.operation,
                error=_error(state),
                seconds=state.ended_at - self._started_at,
                size_bytes=state.progress.bytes_fetched,
            )

    def idle_seconds(self) -> float:
        """For how long nothing moved; 0 once it ended."""
        with self._lock:
            return 0.0 if self._state.has_ended else self._clock.monotonic() - self._state.moved_at

    def memory_bytes(self) -> int:
        """Its resident memory; 0 when that cannot be said."""
        return resident_bytes(self._process.pid)

    def kill(self, verdict: str) -> None:
        """End it at once, for a reason that becomes its result."""
        with self._lock:
            if self._state.has_ended or self._state.verdict:
                return
            self._state.verdict = verdict
        self._kill()

    def steer(self, steering: Steering) -> None:
        """Tell it what holds from now on, if that is something else."""
        with self._lock, suppress(BrokenPipeError):  # it ended: the listener finds out why
            if steering != self._steering and self._process.stdin is not None:
                self._steering = steering
                self._process.stdin.write(steering.line())

    def end(self) -> None:
        """Tell it to exit."""
        with self._lock:
            stdin, self._process.stdin = self._process.stdin, None
        if stdin is not None:
            stdin.close()

    def join(self) -> None:
        """Wait until it is gone; one that does not go is killed. Never waits for a dead disk."""
        self._listener.join(_STOP_SECONDS)
        if self._listener.is_alive():
            self._kill()
            self._listener.join(_STOP_SECONDS)

    def _kill(self) -> None:
        """Kill it and whatever it started: they are a session of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _give_job(self) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            with suppress(BrokenPipeError):  # died already: the listener finds out why
                stdin.write(self.job.line())

    def _listen(self) -> None:
        """Take in all that the child says, until it is gone."""
        stdout, stderr = self._process.stdout, self._process.stderr
        if stdout is None or stderr is None:
            raise AssertionError("both are pipes")
        said, complaints = b"", b""
        with stdout, stderr, selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while selector.get_map():
                for ready, _ in selector.select():
                    data = os.read(ready.fd, _READ_BYTES)
                    if not data:
                        selector.unregister(ready.fileobj)
                    elif ready.fileobj is stdout:
                        said = self._hear(said + data)
                    else:
                        complaints = (complaints + data)[-_STDERR_KEPT_BYTES:]
        self._close(self._process.wait(), complaints.decode(errors="replace"))

    def _hear(self, said: bytes) -> bytes:
        """Take in whole lines; returns the beginning of the next one."""
        *lines, rest = said.split(b"\n")
        for line in lines:
            self._take_in(line)
        if len(rest) > _LINE_MAX_BYTES:
            self._take_in(rest)
            return b""
        return rest

    def _take_in(self, line: bytes) -> None:
        event = parse_event(line)
        is_news = False
        with self._lock:
            state, now = self._state, self._clock.monotonic()
            match event:
                case Progress():
                    is_news = event.state is not state.progress.state
                    if event != state.progress:
                        state.moved_at = now
                    state.progress = event
                    state.samples.append((now, event.bytes_fetched))
                    _forget_old(state.samples, now)
                case Heard() | Listed():
                    state.moved_at = now
                case Noted():
                    message = self._shown(event.message)
                    _log.warning("fill goes on another way", key=self.job.key, reason=message)
                case Done():
                    state.outcome = event
                case Failed():
                    state.outcome = replace(event, message=self._shown(event.message))
                case None:
                    pass
        if event is None:
            self.kill("its process says what is no event")
        if is_news:
            self._wake()

    def _shown(self, message: str) -> str:
        """What a child says, without secrets and no longer than it may be."""
        return self.job.secret.hidden_in(message)[:_MESSAGE_MAX_CHARACTERS]

    def _close(self, exit_status: int, complaints: str) -> None:
        """Note that the process is gone."""
        self.end()
        with self._lock:
            self._state.exit_status = exit_status
            self._state.ended_at = self._clock.monotonic()
            self._state.has_ended = True
        _log.debug(
            "fill child ended",
            key=self.job.key,
            operation=self.job.operation,
            exit_status=exit_status,
            stderr=self.job.secret.hidden_in(complaints),
        )
        self._wake()

    def _rate(self, now: float) -> int:
        """Bytes a second from the source, over the last seconds. The lock is held."""
        samples = self._state.samples
        _forget_old(samples, now)
        if not samples or now <= samples[0][0]:
            return 0
        (since, before_bytes), (_, after_bytes) = samples[0], samples[-1]
        return int((after_bytes - before_bytes) / (now - since))


def _error(state: _State) -> FillError | None:
    """What a child's end means."""
    match state.outcome:
        case Done():
            return None
        case Failed():
            return state.outcome.error()
        case None:
            pass
    if state.verdict:
        return StalledError(f"the fill was ended: {state.verdict}")
    status = state.exit_status or 0
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return StalledError(f"the fill's process ended without a word ({how})")


def _forget_old(samples: deque[tuple[float, int]], now: float) -> None:
    """Keep the samples of the window, and the last one before it."""
    while len(samples) > 1 and samples[1][0] <= now - RATE_WINDOW_SECONDS:
        samples.popleft()


def _spawn(python: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [python, "-P", "-m", "agent.fill"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd="/",
        env=child_environment(os.environ),
        start_new_session=True,
    )


def child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a child gets of our environment: nothing that may be a credential of a model."""
    return {name: ours[name] for name in _PASSED_ON if name in ours} | ENVIRONMENT
