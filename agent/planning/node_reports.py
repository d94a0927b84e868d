"""The node's report and labels, from what was observed and what the slots say."""

from collections.abc import Mapping

from agent.planning.plan import Observation
from larder.contract import MODEL_LABEL_PREFIX
from larder.layout import Key
from larder.node_report import ModelReport, NodeReport
from larder.status import SlotStatus, node_label


def node_report(
    node: str, seen: Observation, statuses: Mapping[Key, SlotStatus], problems: tuple[str, ...]
) -> NodeReport:
    """What the cluster is told. `problems` are those of the newest catalog, empty when good."""
    limits = seen.wishes.limits if seen.wishes else None
    return NodeReport(
        node=node,
        budget_bytes=limits.budget_bytes if limits else 0,
        used_bytes=sum(inode.size_bytes for inode in seen.inventory.inodes),
        disk_bytes=seen.disk.total_bytes,
        disk_available_bytes=seen.disk.available_bytes,
        node_groups=seen.wishes.groups if seen.wishes else None,
        catalog_problems=problems,
        models=tuple(_model(key, status, seen) for key, status in sorted(statuses.items())),
    )


def _model(key: Key, status: SlotStatus, seen: Observation) -> ModelReport:
    wanted = seen.wishes.wanted.get(key) if seen.wishes else None
    failure = seen.failures.get(key)
    return ModelReport(
        key=key,
        name=wanted.name if wanted else None,
        state=status.state,
        reason=status.reason,
        message=failure.message if failure and status.reason == failure.reason else None,
        revision=status.revision,
        bytes_done=status.bytes_done,
        bytes_total=status.bytes_total,
        rate_bytes_per_second=status.rate_bytes_per_second,
        eta_seconds=status.eta_seconds,
    )


def node_labels(report: NodeReport) -> dict[str, str]:
    """The labels that this report puts on the node: `model.larder.dev/<key>`."""
    labels = {MODEL_LABEL_PREFIX + model.key: node_label(model.state) for model in report.models}
    return {name: value for name, value in labels.items() if value is not None}
