"""The loop: observe, plan, execute, report.

It runs when something happened (a fill moved or ended, the catalog changed, time to retry), and at
least every `RECHECK_SECONDS`; in between it only looks at the catalog file's stat.
"""

import threading
from dataclasses import dataclass
from typing import Final

from agent.execute import Executor
from agent.fill.runner import Fills
from agent.observe import Observer
from agent.planning.bandwidth import limit_at
from agent.planning.plan import Observation, Plan, make_plan
from agent.planning.values import Failure
from agent.report import Reporter, Statuses
from agent.store.store import Store
from larder.errors import LarderError
from larder.layout import Key
from runtime.clock import Clock
from runtime.logs import get_logger

TICK_SECONDS: Final = 1.0
RECHECK_SECONDS: Final = 30.0

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop is made of."""

    observer: Observer
    executor: Executor
    reporter: Reporter
    statuses: Statuses
    fills: Fills
    store: Store
    clock: Clock


class Reconciler:
    """Brings a node to what the catalog says. `wake` cuts the wait short, `stop` ends it."""

    def __init__(
        self,
        parts: Parts,
        failures: dict[Key, Failure],
        wake: threading.Event,
        stop: threading.Event,
    ) -> None:
        self._parts = parts
        self._failures = failures
        self._wake = wake
        self._stop = stop
        self._due = 0.0
        self._complaint, self._complained_at = "", 0.0

    def run(self) -> None:
        """Reconcile until stopped; then tell waiting pods, and end the children.

        A disk or store that fails is logged and tried again: the agent that serves what is there
        is worth more than one that restarts.
        """
        while not self._stop.is_set():
            try:
                if self._has_news():
                    seen, _ = self.reconcile()
                    self._due = self._next_due(seen)
            except (OSError, LarderError) as error:
                self._due = self._parts.clock.monotonic() + RECHECK_SECONDS
                self._complain(str(error))
            self._wake.wait(TICK_SECONDS)
        self.shut_down()

    def _complain(self, fault: str) -> None:
        """Say what went wrong; the same again only after a while, for fills make many turns."""
        now = self._parts.clock.monotonic()
        if fault != self._complaint or now >= self._complained_at + RECHECK_SECONDS:
            self._complaint, self._complained_at = fault, now
            _log.error("reconcile failed", error=fault)

    def run_once(self) -> bool:
        """Reconcile until nothing is left but retries; whether every wanted model is Ready."""
        try:
            return self._reconcile_until_rest()
        except (OSError, LarderError) as error:
            self._complain(str(error))
        self.shut_down()
        return False

    def _reconcile_until_rest(self) -> bool:
        while not self._stop.is_set():
            seen, plan = self.reconcile()
            if seen.wishes is None:
                break
            if not plan.actions and not seen.in_flight:
                slots = seen.inventory.slots
                return all(k in slots and slots[k].is_ready for k in seen.wishes.wanted)
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
        self.shut_down()
        return False

    def shut_down(self) -> None:
        """End the children and say that an agent comes back."""
        self._parts.fills.stop()
        self._parts.statuses.announce_restart()

    def reconcile(self) -> tuple[Observation, Plan]:
        """One turn: what was seen last, and the plan that was executed."""
        parts = self._parts
        self._take_in_catalog()
        self._take_in_fills()
        seen = parts.observer.observe()
        plan = make_plan(seen)
        if parts.executor.execute(plan, seen):
            parts.observer.invalidate()
            seen = parts.observer.observe()
            self._wake.set()  # what was executed may allow more
        self._steer_fills(seen)
        parts.reporter.report(seen, plan)
        if parts.statuses.on_disk.keys() - seen.inventory.slots.keys():
            parts.observer.invalidate()  # its report made a slot
        return seen, plan

    def _steer_fills(self, seen: Observation) -> None:
        """Tell fills under way what changed for them; an unknown catalog changes nothing."""
        if seen.wishes is not None:
            minute = self._parts.clock.minute_of_day()
            limit = limit_at(seen.wishes.limits.max_bandwidth, minute)
            self._parts.fills.steer(limit, seen.waiting)

    def _take_in_catalog(self) -> bool:
        parts = self._parts
        if not parts.observer.poll_catalog():
            return False
        self._failures.clear()  # the cure of a permanent fault is a change
        reading = parts.observer.reading
        parts.reporter.report_catalog(reading)
        if reading.document and not reading.problems:
            try:
                parts.store.save_catalog(reading.document)
            except LarderError as error:  # a copy; the catalog is in force without it
                _log.warning("catalog not kept", error=str(error))
        return True

    def _take_in_fills(self) -> None:
        self._parts.fills.watch()
        if self._parts.executor.settle():
            self._parts.observer.invalidate()

    def _has_news(self) -> bool:
        has_news = self._take_in_catalog() or self._wake.is_set()
        self._wake.clear()
        is_due = self._parts.clock.monotonic() >= self._due
        return has_news or is_due or bool(self._parts.fills.in_flight())

    def _next_due(self, seen: Observation) -> float:
        retries = [f.retry_at - seen.now for f in seen.failures.values()]
        delay = min([RECHECK_SECONDS, *(r for r in retries if r > 0)])  # others had their turn
        return self._parts.clock.monotonic() + delay
