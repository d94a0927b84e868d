"""A slot as an agent writes it, a pod that runs the real program, and a clock without sleep."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from initializer.program import program
from initializer.wait import Clock
from larder import layout
from larder.contract import SlotMount, format_slots
from larder.layout import Digest
from larder.manifest import ManifestFile, make_manifest
from larder.status import ModelState, SlotStatus

COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"
FILES = {"config.json": b"{}", "empty": b"", "weights/a.bin": b"aaaa", "weights/b.bin": b"bb"}


@dataclass
class Slot:
    """One slot's directory, and what an agent does to it."""

    path: Path
    revision: str = COMMIT

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def mount(self) -> str:
        return str(self.path)

    def publish(self, files: dict[str, bytes] | None = None) -> None:
        """Manifest first, then content by one rename, as a fill does."""
        files = FILES if files is None else files
        staged = self.path.with_name(self.path.name + ".tree")
        for name, data in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(data)
        staged.mkdir(parents=True, exist_ok=True)
        rows = [
            ManifestFile(n, len(d), Digest(hashlib.sha256(d).hexdigest())) for n, d in files.items()
        ]
        self.write_manifest(make_manifest("hf://o/m", self.revision, rows).text())
        staged.rename(self.path / layout.CONTENT)

    def write_manifest(self, text: str) -> None:
        (self.path / layout.MANIFEST).write_bytes(os.fsencode(text))

    def say(self, state: ModelState, sequence: int = 1, **fields: object) -> None:
        status = SlotStatus(state, sequence, **fields)  # type: ignore[arg-type] # named by the test
        self.write_status(status.text())

    def write_status(self, text: str) -> None:
        written = self.path / "status.new"
        written.write_text(text)
        written.rename(self.path / layout.STATUS)

    def lose_status(self) -> None:
        (self.path / layout.STATUS).unlink()

    def set_aside(self) -> Path:
        """What an eviction does first."""
        return (self.path / layout.CONTENT).rename(self.path.with_name(self.path.name + ".aside"))

    def row(self, uri: str = "hf://o/m", subpath: str = "", fallback: str = "") -> SlotMount:
        return SlotMount(uri, self.mount, subpath, fallback or uri)


@dataclass
class Run:
    """What a container left behind."""

    code: int
    output: str
    fallback: list[str] | None  # the arguments it was exec'd with; None if it was not
    message: str


@dataclass
class Pod:
    """A directory laid out like a pod: destinations, a fallback that writes down its arguments."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.initializer = self.root / "initializer"
        self.initializer.write_bytes(program())
        self.record = self.root / "record"
        self.log = self.root / "termination-log"
        self.fallback = self.root / "entrypoint"
        self.fallback.write_text(
            f"#!/bin/sh\nfor a; do printf '%s\\0' \"$a\"; done > '{self.record}'\n"
        )
        self.fallback.chmod(0o755)
        self.models = self.root / "models"
        self.models.mkdir()

    def run(self, slots: str | Sequence[SlotMount], *arguments: str | Path) -> Run:
        command = [sys.executable, "-I", "-S", str(self.initializer), *map(str, arguments)]
        return self.run_command(command, slots)

    def run_command(self, command: list[str], slots: str | Sequence[SlotMount]) -> Run:
        self.record.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            env={
                "PATH": os.environ["PATH"],
                "LARDER_SLOTS": slots if isinstance(slots, str) else format_slots(slots),
                "LARDER_FALLBACK": str(self.fallback),
                "LARDER_TERMINATION_LOG": str(self.log),
                **self.environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        words = self.record.read_bytes() if self.record.exists() else None
        return Run(
            done.returncode,
            done.stdout.decode(),
            None if words is None else [os.fsdecode(w) for w in words.split(b"\0")[:-1]],
            self.log.read_text() if self.log.exists() else "",
        )


class FakeTime:
    """Seconds that pass only by sleeping; what is due happens while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._due: list[tuple[float, Callable[[], object]]] = []

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self._sleep)

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        self._due.append((seconds, action))
        self._due.sort(key=lambda due: due[0])

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        assert self.seconds < 10_000, "it waits for ever"
        while self._due and self._due[0][0] <= self.seconds:
            self._due.pop(0)[1]()


def tree(top: Path) -> dict[str, str]:
    """Everything below a directory: links by their target, files by their text, `/` for others."""
    return {
        str(path.relative_to(top)): (
            f"-> {path.readlink()}"
            if path.is_symlink()
            else "/"
            if path.is_dir()
            else path.read_text(errors="replace")
        )
        for path in sorted(top.rglob("*"))
    }
