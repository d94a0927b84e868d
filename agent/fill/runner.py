"""The parent's side of fills: at most one child a key, started, watched, and asked how it went.

All methods are for one thread, the agent's loop. A child that ended stays in flight until its
result is taken, so that nobody starts it again before knowing why it ended.
"""

import sys
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from agent.fill.child import Child, FillResult, Surroundings
from agent.fill.job import Job, Operation, Steering
from agent.planning.bandwidth import share_of
from agent.planning.values import FillProgress
from larder.errors import StalledError
from larder.layout import Key
from runtime.clock import Clock

__all__ = ["FillResult", "Fills"]

STALL_SECONDS: Final = 60.0
MEMORY_LIMIT_BYTES: Final = 512 * 1024 * 1024


class Fills:
    """The children of one agent. `wake` is called, from any thread, when there is news."""

    def __init__(
        self,
        *,
        clock: Clock,
        wake: Callable[[], None],
        python: str = sys.executable,
        stall_seconds: float = STALL_SECONDS,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        self._clock = clock
        self._wake = wake
        self._python = python
        self._stall_seconds = stall_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._children: dict[Key, Child] = {}
        self._limit = 0
        self._waiting: AbstractSet[Key] = frozenset()
        self._stillborn: list[FillResult] = []

    def start(self, job: Job, reserved_bytes: int) -> None:
        """Start a child. Raises `ValueError` while another one works on the key."""
        if job.key in self._children:
            raise ValueError(f"{job.key} has a child already")
        around = Surroundings(self._python, self._clock, self._wake)
        others = self._filling()
        count = len(others) + (job.operation is Operation.FILL)
        self._steer(others, count)  # before there is one more
        try:
            job = replace(job, steering=self._steering(job.key, count))
            self._children[job.key] = Child(job, reserved_bytes, around)
        except OSError as error:
            fault = StalledError(f"the fill's process cannot be started: {error.strerror}")
            self._stillborn.append(FillResult(job.key, job.operation, fault, 0.0, 0))
            self._wake()

    def in_flight(self) -> tuple[FillProgress, ...]:
        """Every child that was started and whose result was not taken yet."""
        return tuple(child.progress() for child in self._living())

    def take_finished(self) -> tuple[FillResult, ...]:
        """The results of children that ended, each once; cancelled ones have none."""
        ended = [child for child in self._living() if child.has_ended]
        for child in ended:
            del self._children[child.job.key]
        stillborn, self._stillborn = self._stillborn, []
        return (*stillborn, *(child.result() for child in ended))

    def watch(self) -> None:
        """Kill children that make no progress or outgrow their memory; to be called regularly."""
        for child in self._living():
            idle_seconds = child.idle_seconds()
            if idle_seconds >= self._stall_seconds:
                child.kill(f"no byte arrived for {self._stall_seconds:g} s")
            elif child.memory_bytes() > self._memory_limit_bytes:
                child.kill(f"the fill needs more than {self._memory_limit_bytes} bytes of memory")

    def steer(self, limit: int, waiting: AbstractSet[Key]) -> None:
        """Hold all of them to `limit` bytes a second, 0 for none; `waiting` keys have pods waiting.

        To be called regularly: what ends leaves its share to the others.
        """
        self._limit, self._waiting = limit, waiting
        filling = self._filling()
        self._steer(filling, len(filling))

    def cancel(self, key: Key) -> None:
        """End a child, if there is one; what it fetched stays. Waits until it is gone."""
        child = self._children.pop(key, None)
        if child is not None:
            child.end()
            child.join()

    def stop(self) -> None:
        """End all children. Waits until they are gone."""
        children = self._living()
        self._children.clear()
        for child in children:
            child.end()
        for child in children:
            child.join()

    def _steer(self, children: Sequence[Child], count: int) -> None:
        for child in children:
            child.steer(self._steering(child.job.key, count))

    def _steering(self, key: Key, count: int) -> Steering:
        return Steering(share_of(self._limit, count), key in self._waiting)

    def _filling(self) -> list[Child]:
        """Those that fetch a model's bytes, or may."""
        children = self._living()
        return [c for c in children if c.job.operation is Operation.FILL and not c.has_ended]

    def _living(self) -> tuple["Child", ...]:
        return tuple(self._children.values())
