"""What the controller tells: log lines for changes, gauges each turn, Events for what admins cure.

Events are about the catalog, in Larder's own namespace: whom a model is kept from is nobody's
business but the admin's.
"""

from typing import Final

from controller.metrics import Metrics
from controller.observe import Observer
from controller.planning.plan import Observation, Plan
from larder.claims import Claim
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE, EventReason
from runtime.clock import Clock
from runtime.kube.client import KubeClient
from runtime.kube.events import Event, EventWriter, Reference
from runtime.logs import get_logger

REPORTING_CONTROLLER: Final = "larder.dev/controller"
_CATALOG: Final = Reference("ConfigMap", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
_log = get_logger()


class Reporter:
    """Reports turns, and refusals as they come."""

    def __init__(self, client: KubeClient, clock: Clock, instance: str, metrics: Metrics) -> None:
        self._writer = EventWriter(client, clock, REPORTING_CONTROLLER, instance)
        self._clock = clock
        self._metrics = metrics
        self._faults: tuple[str, ...] = ()
        self._problems: tuple[str, ...] = ()
        self._is_settled = False

    def report(self, seen: Observation, plan: Plan, observer: Observer, seconds: float) -> None:
        """Tell of a turn what is new."""
        metrics = self._metrics
        metrics.turn_seconds.observe(seconds)
        metrics.policies_in_force.set(seen.is_safe)
        metrics.catalog_problems.set(len(observer.reading.problems))
        metrics.bound.set(sum(claim.is_bound for claim in seen.claims.values()))
        metrics.wanted.set(len(seen.wanted.claims) if seen.wanted else 0)
        waits = list(plan.waiting.values())
        for wait, gauge in metrics.waiting.items():
            gauge.set(waits.count(wait))
        self._tell_problems(observer.reading.problems)
        self._tell_faults(observer.faults)
        is_settled = seen.wanted is not None and not plan.actions and not waits
        if is_settled and not self._is_settled:
            _log.info("claims are as the catalog says", claims=len(seen.claims))
        self._is_settled = is_settled

    def refused(self, claim: Claim, error: str) -> None:
        """A claim was refused for the first time; `error` is one sentence."""
        note = (
            f"Claim {claim.name} in namespace {claim.namespace} is not made: {error}. A quota, a"
            " limit range or an object of that name may be in the way; it is tried again."
        )
        self._event(f"{claim.namespace}.{claim.name}", EventReason.CLAIM_REFUSED, note)

    def _tell_problems(self, problems: tuple[str, ...]) -> None:
        if problems and problems != self._problems:
            _log.error("catalog refused", problems=problems, in_force="the last good one, if any")
        self._problems = problems

    def _tell_faults(self, faults: tuple[str, ...]) -> None:
        if faults == self._faults:
            return
        self._faults = faults
        if faults:
            _log.error("no claims are made: admission policies not in force", faults=faults)
            note = f"No claims are made: {'; '.join(faults)}."
            self._event("policies", EventReason.POLICIES_NOT_IN_FORCE, note)
        else:
            _log.info("admission policies in force")

    def _event(self, about: str, reason: EventReason, note: str) -> None:
        name = f"{CATALOG_CONFIG_MAP}.{about}"
        self._writer.write(Event(name, reason, _CATALOG, note, self._clock.now()))
