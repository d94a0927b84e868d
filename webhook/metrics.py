"""The webhook's metrics, in a registry of their own. Labels come from closed lists."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from larder.contract import DecisionReason
from webhook.explaining.answer import Outcome

_BUCKETS = (
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.1,
    0.5,
    3.0,
)  # 3 s: the API server left


class Metrics:
    """What the webhook counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        decisions = Counter(
            "larder_webhook_decisions",
            "Answers to well-formed reviews, by reason",
            ["reason"],
            registry=self.registry,
        )
        told = set(DecisionReason) - {DecisionReason.NAMESPACE_NOT_ALLOWED}
        self.decisions = {reason: decisions.labels(reason.value) for reason in told}
        # whoever reaches the port may read this, and would learn what others cache
        unlisted = self.decisions[DecisionReason.MODEL_NOT_IN_CATALOG]
        self.decisions[DecisionReason.NAMESPACE_NOT_ALLOWED] = unlisted
        self.malformed_reviews = Counter(
            "larder_webhook_malformed_reviews",
            "Requests that were no AdmissionReview, answered 400",
            registry=self.registry,
        )
        catalog_reviews = Counter(
            "larder_webhook_catalog_reviews",
            "Answers to edits of ConfigMaps: whether they were allowed",
            ["allowed"],
            registry=self.registry,
        )
        self.catalog_reviews = {
            allowed: catalog_reviews.labels(str(allowed).lower()) for allowed in (True, False)
        }
        self.dry_runs = Counter(
            "larder_webhook_dry_runs",
            "Answers to reviews of dry runs, which are counted here alone",
            registry=self.registry,
        )
        explains = Counter(
            "larder_webhook_explains",
            "Answers of /explain, by outcome",
            ["outcome"],
            registry=self.registry,
        )
        self.explains = {outcome: explains.labels(outcome.value) for outcome in Outcome}
        self.request_seconds = Histogram(
            "larder_webhook_request_seconds",
            "Seconds from a request's body to its answer",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.catalog_problems = Gauge(
            "larder_webhook_catalog_problems",
            "Mistakes in the newest edit of the catalog; above 0 the last good one is in force",
            registry=self.registry,
        )
        self.catalog_loaded = Gauge(
            "larder_webhook_catalog_loaded",
            "1 if a good catalog is in force, else 0",
            registry=self.registry,
        )
        self.node_reports = Gauge(
            "larder_webhook_node_reports",
            "Nodes whose reports are known",
            registry=self.registry,
        )
        self.unreadable_node_reports = Gauge(
            "larder_webhook_unreadable_node_reports",
            "ConfigMaps labelled as a node's report that are none, and are ignored",
            registry=self.registry,
        )
        self.differing_revisions = Gauge(
            "larder_webhook_differing_revisions",
            "Models that are Ready on some nodes with another revision than on others",
            registry=self.registry,
        )
        self.certificates_healthy = Gauge(
            "larder_webhook_certificates_healthy",
            "1 if the last turn of looking after the own certificates found nothing amiss, else 0",
            registry=self.registry,
        )
        self.certificate_expires = Gauge(
            "larder_webhook_certificate_expires_timestamp_seconds",
            "When the own certificate that is shown ends, in Unix seconds; 0: none is shown",
            registry=self.registry,
        )
        self.certificate_steps = Counter(
            "larder_webhook_certificate_steps",
            "Turns of this replica that changed certificates or had to wait, by reason",
            ["reason"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The metrics in Prometheus' text format; takes milliseconds, so not on an event loop."""
        return generate_latest(self.registry)
