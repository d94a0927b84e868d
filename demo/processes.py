"""The processes that the demo starts: bounded waits, ended in order, none left behind.

Each runs in a session of its own, so that Ctrl-C reaches the demo alone and a process goes with
all its children. An interrupt never comes between the start of a process and the note of its id.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self, TypeVar

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.05
TAIL_LINES: Final = 12
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


class DemoError(Exception):
    """The demo cannot go on; `str()` is one sentence, `log` the end of what a process said."""

    def __init__(self, sentence: str, log: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.log = tuple(log)


class Interrupted(BaseException):  # like KeyboardInterrupt, no error
    """SIGINT or SIGTERM came."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interrupts:
    """Raises `Interrupted` in the main thread, but at no moment that is shielded."""

    def __init__(self) -> None:
        self._shields = 0
        self._waiting: int | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Signals are taken in here, and by whoever had them before from then on."""
        before = {number: signal.signal(number, self._come) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """An interrupt waits for the end of this."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self._waiting is not None and not self._shields:
            raise Interrupted(self._waiting)

    def ignore(self) -> None:
        """From here on there is only cleaning up."""
        self._shields += 1

    def _come(self, number: int, _frame: FrameType | None) -> None:
        self._waiting = number
        if not self._shields:
            raise Interrupted(number)


class Program:
    """A program that runs while this is entered; its JSON log goes to a file."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._environment = dict(environment)

    def __enter__(self) -> Self:
        """Start it in the directory of its log."""
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._log.parent,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Ask it to end, wait, then end all that is left of its session."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        _kill_session(self._process)

    def check(self) -> None:
        """Raise `DemoError` if it ended by itself."""
        if (status := self._process.poll()) is not None:
            sentence = f"the {self.name} ended by itself, with status {status}"
            raise DemoError(sentence, tail(self._log))

    def event(self, phrase: str, **values: str) -> dict[str, Any] | None:
        """The first line of its log with an event and these values."""
        for line in self._log.read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # half a line, or no JSON
                said = json.loads(line)
                if said.get("event") == phrase and values.items() <= said.items():
                    return dict(said)
        return None

    def wait_until(self, seen: Callable[[], T | None], what: str, limit_seconds: float) -> T:
        """What `seen` returns once it is not None; the program must live until then."""
        deadline = time.monotonic() + limit_seconds
        pause = threading.Event()
        while (found := seen()) is None:
            self.check()
            if time.monotonic() > deadline:
                sentence = f"the {self.name} did not {what} within {limit_seconds:.0f} s"
                raise DemoError(sentence, tail(self._log))
            pause.wait(POLL_SECONDS)
        return found

    def failure(self, sentence: str) -> DemoError:
        """An error of this program, with the end of its log."""
        return DemoError(sentence, tail(self._log))


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ran to its end."""

    seconds: float
    status: int
    lines: tuple[str, ...]


def run_to_end(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    interrupts: Interrupts,
    limit_seconds: float,
) -> Ended:
    """Run a command. Raises `DemoError` if it takes longer than the limit."""
    began = time.perf_counter()
    with contextlib.ExitStack() as ending:
        with interrupts.shielded():
            process = subprocess.Popen(  # noqa: S603 - the pod's own command
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,
            )
            ending.enter_context(process)
            ending.callback(_kill_session, process)
        try:
            output, _ = process.communicate(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{command[0]} took longer than {limit_seconds:.0f} s") from None
        seconds = time.perf_counter() - began
    return Ended(seconds, process.returncode, tuple(output.decode(errors="replace").splitlines()))


def tail(log: Path) -> tuple[str, ...]:
    """The last lines of a log."""
    with log.open(errors="replace") as lines:
        return tuple(line.rstrip("\n") for line in deque(lines, TAIL_LINES))


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
