"""The controller's metrics, in a registry of their own. Labels come from closed lists."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.planning.plan import Wait

WRITES = ("MakeVolume", "MakeClaim", "MarkClaim", "DeleteClaim", "DeleteVolume")
RESULTS = ("done", "refused", "failed")
_BUCKETS = (0.01, 0.1, 1, 5, 15, 30, 60, 120, 300)


class Metrics:
    """What the controller counts. Only a leader's figures of claims mean something."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.is_leader = Gauge(
            "larder_controller_is_leader",
            "1 if this replica holds the Lease, else 0.",
            registry=self.registry,
        )
        self.policies_in_force = Gauge(
            "larder_controller_policies_in_force",
            "1 if the admission policies are as shipped; at 0 no claim is made.",
            registry=self.registry,
        )
        self.catalog_problems = Gauge(
            "larder_controller_catalog_problems",
            "Mistakes in the newest edit of the catalog; above 0 the last good one is in force.",
            registry=self.registry,
        )
        self.wanted = Gauge(
            "larder_controller_claims_wanted",
            "Claims that there should be.",
            registry=self.registry,
        )
        self.bound = Gauge(
            "larder_controller_claims_bound",
            "Claims of ours that are Bound.",
            registry=self.registry,
        )
        waiting = Gauge(
            "larder_controller_claims_waiting",
            "Claims that nothing can be done about for now, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.waiting = {wait: waiting.labels(wait.value) for wait in Wait}
        self.writes = Counter(
            "larder_controller_writes",
            "Steps that were tried, by kind and result.",
            ["step", "result"],
            registry=self.registry,
        )
        for step in WRITES:
            for result in RESULTS:
                self.writes.labels(step, result)
        self.turn_seconds = Histogram(
            "larder_controller_turn_seconds",
            "Seconds of one turn: observe, plan, execute.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
