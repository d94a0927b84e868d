"""An agent's side of fills: real children, started, listened to and stopped."""

import threading
from dataclasses import replace
from typing import Any

from agent.fill.job import Job, Operation
from agent.fill.runner import FillResult, Fills
from runtime.clock import ManualClock


class Parent:
    """An agent's side of fills; time stands still unless a test moves it."""

    enough_seconds = 30.0

    def __init__(self, job: Job) -> None:
        self.news = threading.Semaphore(0)
        self.clock = ManualClock()
        self.finished: list[FillResult] = []
        self.fills = Fills(clock=self.clock, wake=self.news.release, stall_seconds=60.0)
        self.job = job

    def start(self, **changes: Any) -> None:
        self.fills.start(replace(self.job, **changes), 1234)

    def result(self) -> FillResult:
        """The next result, whenever it comes."""
        while True:
            self.finished += self.fills.take_finished()
            if self.finished:
                return self.finished.pop(0)
            assert self.news.acquire(timeout=self.enough_seconds)

    def run(self, operation: Operation, **changes: Any) -> FillResult:
        self.start(operation=operation, **changes)
        return self.result()

    @property
    def pid(self) -> int:
        (child,) = self.fills._children.values()
        return child._process.pid
