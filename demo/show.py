"""What people see of the demo: a line a step, the changed lines of a pod, one table.

On a terminal a step that runs shows what it is at; elsewhere only finished lines are written, and
no colour. With JSON asked for, the steps go to standard error and standard output is one document.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.filesize import decimal
from rich.status import Status
from rich.table import Table
from rich.text import Text

from demo.report import DemoReport

PLAIN_COLUMNS: Final = 110
_HEADINGS: Final = (
    "\nsize",
    "KServe\nalone",
    "from\nthe hub",
    "from the\ncache",
    "from\nthe hub",
    "times\nfaster",
    "agent's fill,\nonce a node",
)
_STYLES: Final = {"+": "green", "-": "red", "@": "dim"}


@dataclass(slots=True)
class Step:
    """A step that runs; `detail` and `seconds`, if it knows better, go on its line at its end."""

    text: str
    detail: str = ""
    seconds: float | None = None
    status: Status | None = None

    def progress(self, words: str) -> None:
        """Say on a terminal how far it is."""
        if self.status is not None:
            self.status.update(f"{self.text}: {words}")


class Show:
    """Writes to a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        is_utf8 = console.encoding.lower().startswith("utf")
        self._done, self._failed, self._gap = ("✓", "✗", "⋯") if is_utf8 else ("ok", "FAILED", "..")

    @classmethod
    def on(cls, *, stderr: bool) -> "Show":
        """A show on standard output or error, as wide as the terminal."""
        console = Console(stderr=stderr, highlight=False)
        if not console.is_terminal:
            console = Console(
                stderr=stderr, highlight=False, width=PLAIN_COLUMNS, color_system=None
            )
        return cls(console)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """A line when it is over: a tick or a cross, what it was, its seconds."""
        step = Step(text)
        began = time.perf_counter()
        mark, style = self._failed, "red"
        try:
            if self._console.is_terminal:
                with self._console.status(text) as step.status:
                    yield step
            else:
                yield step
            mark, style = self._done, "green"
        finally:
            seconds = time.perf_counter() - began if step.seconds is None else step.seconds
            words = f"{step.text}: {step.detail}" if step.detail else step.text
            line = Text.assemble((mark, style), f" {words} ", (_duration(seconds), "dim"))
            self._console.print(line, soft_wrap=True)

    def diff(self, title: str, lines: Sequence[str]) -> None:
        """A title and changed lines, indented."""
        self._console.print(f"\n  {title}", markup=False)
        for line in lines:
            text = self._gap if line == "@" else line
            self._console.print(
                Text(f"    {text}", _STYLES.get(line[:1], "")), no_wrap=True, overflow="ellipsis"
            )
        self._console.print()

    def table(self, report: DemoReport) -> None:
        """The figures."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("\nmodel", no_wrap=True)
        for heading in _HEADINGS:
            table.add_column(heading, justify="right", no_wrap=True)
        for model in report.models:
            table.add_row(
                model.name,
                decimal(model.size_bytes),
                _duration(model.cold.seconds),
                decimal(model.cold.hub_bytes),
                _duration(model.cached.seconds),
                decimal(model.cached.hub_bytes),
                f"{model.ratio:.0f}x",
                _duration(model.fill_seconds),
            )
        self._console.print()
        self._console.print(table)
        for note in report.notes:
            self._console.print(Text(note, "dim"), soft_wrap=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
