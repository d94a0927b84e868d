"""Runs the child's engine in this process, on a cache root of its own, without ever waiting."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.fill.engine import fill, resolve
from agent.fill.job import Event, Job, Operation, Pace, Progress, Steering
from agent.fill.workplace import Workplace
from agent.sources.hf import HubSource
from agent.sources.interface import Source
from agent.sources.secret import HF_TOKEN
from agent.sources.web import Timeouts, Web
from agent.store import at
from agent.store.inventory import is_complete
from larder.layout import Key, staging_path
from larder.manifest import Manifest, parse_manifest
from runtime.clock import ManualClock

KEY = Key("0123456789abcdef")
PART = 1000
PACE = Pace(part_bytes=PART, read_timeout_seconds=5.0)


class FillDesk:
    """One key on one root. `waits` are the seconds the child would have waited."""

    def __init__(self, root: Path, endpoint: str = "http://127.0.0.1:1") -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.job = Job(
            Operation.FILL, str(root), KEY, "hf://acme/tiny", "main", endpoint, pace=PACE
        )
        self.events: list[Event] = []
        self.waits: list[float] = []
        self.clock = ManualClock()
        self.steering = Steering()

    @property
    def staging(self) -> Path:
        return self.root / staging_path(self.job.key)

    def change(self, **changes: Any) -> None:
        self.job = replace(self.job, **changes)

    def run(self, operation: Operation, source: Source | None = None) -> None:
        """Do one operation, as a child of its own would."""
        self.change(operation=operation)
        timeouts = Timeouts(5.0, self.job.pace.read_timeout_seconds)
        root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        staging_fd = at.open_directory(root_fd, staging_path(self.job.key), create=True)
        try:
            with closing(
                HubSource(
                    self.job.endpoint, self.job.secret.line(HF_TOKEN), self.clock, Web(timeouts)
                )
            ) as hub_source:
                place = Workplace(
                    root_fd,
                    staging_fd,
                    source or hub_source,
                    self.clock,
                    self.events.append,
                    lambda seconds, _: self.waits.append(seconds),
                    lambda: 1.0,
                    lambda: self.steering,
                )
                (resolve if operation is Operation.RESOLVE else fill)(self.job, place)
        finally:
            os.close(staging_fd)
            os.close(root_fd)

    def resolve(self, source: Source | None = None) -> None:
        self.run(Operation.RESOLVE, source)

    def fill(self, source: Source | None = None) -> None:
        self.run(Operation.FILL, source)

    def resolve_and_fill(self) -> None:
        self.resolve()
        self.fill()

    @property
    def is_complete(self) -> bool:
        if not self.staging.exists():
            return False
        with closing_fd(os.open(self.staging, os.O_RDONLY | os.O_DIRECTORY)) as fd:
            return is_complete(fd)

    def manifest(self) -> Manifest:
        return parse_manifest((self.staging / "manifest").read_text())

    def content(self) -> dict[str, bytes]:
        tree = self.staging / "tree"
        files = [path for path in tree.rglob("*") if path.is_file()]
        return {path.relative_to(tree).as_posix(): path.read_bytes() for path in files}

    @property
    def fetched_bytes(self) -> int:
        """What the last operation took from its source."""
        return [e for e in self.events if isinstance(e, Progress)][-1].bytes_fetched


class closing_fd:  # noqa: N801 - reads like contextlib.closing
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
