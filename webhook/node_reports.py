"""The nodes' reports in memory: what an edit of the catalog is judged by, and whether nodes agree.

Anybody who may write ConfigMaps of our namespace may write a report: one that cannot be read, is of
another version, or speaks for another node, is ignored and counted. Of each, only the facts stay.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from larder.contract import SYSTEM_NAMESPACE
from larder.layout import Key
from larder.node_facts import NodeFacts, differing_revisions, facts_of
from larder.node_report import COMPONENT, report_in
from runtime.kube.objects import KubeObject, name_of
from runtime.kube.paths import collection_path
from runtime.kube.watch_protocol import Target
from runtime.logs import get_logger
from webhook.metrics import Metrics

NODE_REPORTS: Final = Target(
    collection_path("v1", "configmaps", namespace=SYSTEM_NAMESPACE),
    label_selector="=".join(COMPONENT),
)
_KEPT: Final = ("namespace", "name", "uid", "resourceVersion")
_FACTS: Final = "facts"
_log = get_logger()


def facts_only(content: KubeObject) -> KubeObject:
    """What a mirror holds of a report: its name and version, and its facts, None if unreadable."""
    metadata = content["metadata"]
    kept = {field: metadata[field] for field in _KEPT if field in metadata}
    return {"metadata": kept, _FACTS: _facts(content)}


def _facts(content: KubeObject) -> NodeFacts | None:
    report = report_in(content)
    return None if report is None else facts_of(report)


class NodeReports:
    """Takes in what the watch shows."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._nodes: tuple[NodeFacts, ...] = ()
        self._unreadable: frozenset[str] = frozenset()
        self._differing: Mapping[Key, tuple[str, ...]] = {}

    def take(self, contents: Iterable[KubeObject]) -> tuple[NodeFacts, ...]:
        """The facts of all nodes. What is amiss is logged once, and counted."""
        found = [(name_of(content)[1], content[_FACTS]) for content in contents]
        self._tell_unreadable(frozenset(name for name, facts in found if facts is None))
        nodes = tuple(facts for _, facts in found if facts is not None)
        if nodes != self._nodes:
            self._nodes = nodes
            self._tell_differing(differing_revisions(nodes))
        self._metrics.node_reports.set(len(nodes))
        return self._nodes

    def _tell_unreadable(self, names: frozenset[str]) -> None:
        self._metrics.unreadable_node_reports.set(len(names))
        if news := names - self._unreadable:
            _log.warning("node reports ignored", config_maps=sorted(news))
        self._unreadable = names

    def _tell_differing(self, differing: Mapping[Key, tuple[str, ...]]) -> None:
        self._metrics.differing_revisions.set(len(differing))
        for key, revisions in differing.items():
            if revisions != self._differing.get(key):
                _log.warning("nodes differ in a model's revision", key=key, revisions=revisions)
        self._differing = differing
