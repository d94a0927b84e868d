"""The agent's Prometheus metrics, in a registry of their own; labels are from closed sets."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from agent.planning.plan import EvictReason
from larder.contract import FillFailure
from larder.status import ModelState

SUCCESS = "Success"
_FILL_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


class AgentMetrics:
    """Every metric of an agent. Counters of all labels are there, at 0, from the start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.models = Gauge(
            "larder_agent_models",
            "Models of this node by state.",
            ["state"],
            registry=self.registry,
        )
        self.used_bytes = Gauge(
            "larder_agent_used_bytes",
            "Bytes under the cache root, each inode once, by where they are held.",
            ["place"],
            registry=self.registry,
        )
        self.budget_bytes = Gauge(
            "larder_agent_budget_bytes", "Bytes this node may hold.", registry=self.registry
        )
        self.disk_available_bytes = Gauge(
            "larder_agent_disk_available_bytes",
            "Bytes free on the cache's filesystem.",
            registry=self.registry,
        )
        self.fetched_bytes = Counter(
            "larder_agent_fetched_bytes",
            "Bytes of models that fills finished.",
            registry=self.registry,
        )
        self.fills = Counter(
            "larder_agent_fills", "Fills that ended, by result.", ["result"], registry=self.registry
        )
        self.fill_seconds = Histogram(
            "larder_agent_fill_seconds",
            "Seconds from the start of a fill to a published model.",
            buckets=_FILL_BUCKETS,
            registry=self.registry,
        )
        self.evictions = Counter(
            "larder_agent_evictions",
            "Models evicted, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.catalog_problems = Gauge(
            "larder_agent_catalog_problems",
            "Mistakes in the newest catalog; 0 when it is good.",
            registry=self.registry,
        )
        for result in (SUCCESS, *FillFailure):
            self.fills.labels(str(result))
        for reason in EvictReason:
            self.evictions.labels(str(reason))
        for state in ModelState:
            self.models.labels(str(state))
