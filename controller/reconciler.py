"""The loop: observe, plan, execute, report; by the replica that leads, and by no other.

It runs when a watch told something and at least every `RECHECK_SECONDS`; `GAP_SECONDS` between two
turns make one of what comes in crowds.
"""

import threading
from collections.abc import Callable
from typing import Final

from controller.execute import MAX_CLAIMS, Executor
from controller.observe import Observer
from controller.planning.plan import Plan, Wait, make_plan
from controller.report import Reporter
from runtime.clock import Clock
from runtime.kube.backoff import Backoff

GAP_SECONDS: Final = 1.0
SOON_SECONDS: Final = 5.0  # until what is waited for may have come, without a watch that tells
RECHECK_SECONDS: Final = 30.0
_SOON: Final = {Wait.SETTLING, Wait.RETIRING, Wait.POLICIES_NOT_IN_FORCE}


class Reconciler:
    """Brings claims to what the catalog says. `wake` cuts the wait short, `stop` ends it."""

    def __init__(
        self,
        observer: Observer,
        executor: Executor,
        reporter: Reporter,
        clock: Clock,
        is_leader: Callable[[], bool],
    ) -> None:
        self._observer = observer
        self._executor = executor
        self._reporter = reporter
        self._clock = clock
        self._is_leader = is_leader
        self._backoff = Backoff()
        self.last_turn_at = clock.monotonic()

    def run(self, stop: threading.Event, wake: threading.Event) -> None:
        """Reconcile until stopped."""
        while not stop.is_set():
            self.last_turn_at = self._clock.monotonic()
            wait_seconds = RECHECK_SECONDS
            if self._is_leader():
                wait_seconds = self.turn()
            stop.wait(min(GAP_SECONDS, wait_seconds))
            wake.wait(wait_seconds)
            wake.clear()

    def turn(self) -> float:
        """One turn; in how many seconds, at the latest, the next one is due."""
        began_at = self._clock.monotonic()
        seen = self._observer.observe()
        plan = make_plan(seen)
        is_whole = self._executor.execute(plan)
        seconds = self._clock.monotonic() - began_at
        self._reporter.report(seen, plan, self._observer, seconds)
        if not is_whole:
            return self._backoff.next_seconds()
        self._backoff.reset()
        return self._until_due(plan)

    def _until_due(self, plan: Plan) -> float:
        if len({action.claim for action in plan.actions}) > MAX_CLAIMS:
            return 0.0
        soon = _SOON & set(plan.waiting.values())
        if plan.actions or soon:
            return SOON_SECONDS
        retry_at = self._observer.refusals.next_retry()
        return (
            RECHECK_SECONDS
            if retry_at is None
            else min(RECHECK_SECONDS, max(0.0, retry_at - self._clock.monotonic()))
        )
