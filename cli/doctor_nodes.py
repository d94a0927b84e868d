"""Whether the nodes have what the catalog wants: checks of `larder doctor`. Pure.

Agents, their reports, the models in them. A report is written when something changes: an old one is
amiss only where it speaks of a fill, which moves.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from cli.doctor_findings import Check, Cluster, Fault, Verdict, What, named
from larder.catalog import ModelEntry
from larder.contract import AGENT_NODE_LABEL, SYSTEM_NAMESPACE, FillFailure
from larder.layout import Key
from larder.node_facts import differing_revisions, facts_of
from larder.node_report import (
    COMPONENT,
    PROGRESS_SECONDS,
    ModelReport,
    config_map_name,
    report_in,
)
from larder.reasons import meaning_of
from larder.status import ModelState
from runtime.kube.objects import KubeObject

STILL_SECONDS: Final = 10 * PROGRESS_SECONDS  # a fill that stands still is killed after one minute
_AGENT: Final = "larder-agent"
_FILLING: Final = frozenset({ModelState.DOWNLOADING, ModelState.VERIFYING})
_COMING: Final = _FILLING | {ModelState.QUEUED}
_FAILED: Final = frozenset({ModelState.FAILED, ModelState.QUARANTINED})
_LOGS: Final = f"kubectl -n {SYSTEM_NAMESPACE} logs -l app.kubernetes.io/name={_AGENT} --prefix"


# --- agents and what they say ---------------------------------------------------------------------


def workers_without_agent(cluster: Cluster) -> Iterator[Fault]:
    """A node for models on which no agent runs."""
    key, value = AGENT_NODE_LABEL
    chosen = {name for name in _workers(cluster) if _labels(cluster, name).get(key) == value}
    if lacking := chosen - set(_agents(cluster)):
        sentence = f"no agent runs on {named(lacking)}, labelled {key}={value}"
        cure = "Look at the node's taints and room, or take the label off"
        yield Fault(Verdict.WARNING, sentence, cure, tuple(sorted(lacking)))


def agents_silent(cluster: Cluster) -> Iterator[Fault]:
    """An agent is ready, and nothing is known of its node."""
    ready = {node for node, pod in _agents(cluster).items() if _is_ready(pod)}
    if silent := ready - set(cluster.reports):
        sentence = f"the agents of {named(silent)} are ready and have written no report"
        yield Fault(Verdict.WARNING, sentence, f"{_LOGS} says why", tuple(sorted(silent)))


def reports_unusable(cluster: Cluster) -> Iterator[Fault]:
    """What somebody else wrote, what stands still, and agents that refuse the catalog."""
    key, value = COMPONENT
    config_maps = [
        content
        for content in cluster[What.CONFIG_MAPS].values()
        if (content["metadata"].get("labels") or {}).get(key) == value
    ]
    bad = {c["metadata"]["name"] for c in config_maps if report_in(c) is None}
    if bad:
        sentence = f"{named(bad)} holds no report that can be read"
        cure = f"Delete it (kubectl -n {SYSTEM_NAMESPACE}), and restart the node's agent"
        yield Fault(Verdict.WARNING, sentence, cure, tuple(sorted(bad)))
    still = {
        report.node
        for report in cluster.reports.values()
        if any(model.state in _FILLING for model in report.models)
        and cluster.now - _written_at(cluster, report.node) > STILL_SECONDS
    }
    if still:
        sentence = f"{named(still)} told of a fill, and nothing for {STILL_SECONDS:.0f} s since"
        yield Fault(Verdict.WARNING, sentence, f"{_LOGS} says why", tuple(sorted(still)))
    refusing = {r.node for r in cluster.reports.values() if r.catalog_problems}
    if refusing:
        sentence = f"the last good catalog is in force on {named(refusing)}, not the newest one"
        yield Fault(Verdict.WARNING, sentence, "Mend the catalog", tuple(sorted(refusing)))


# --- models ---------------------------------------------------------------------------------------


def models_failed(cluster: Cluster) -> Iterator[Fault]:
    """Slots that are failed or quarantined, by model and reason."""
    found = defaultdict[tuple[str, str, str], set[str]](set)
    for node, report in cluster.reports.items():
        for model in report.models:
            if model.state in _FAILED:
                words = model.message or ""
                reason = model.reason or model.state
                found[model.name or model.key, reason, words].add(node)
    for (name, reason, words), nodes in sorted(found.items()):
        because = f"{reason}: {words}" if words else reason
        sentence = f"model {name} on {named(nodes)}: {because}"
        yield Fault(Verdict.WARNING, sentence, _cure_of(reason), tuple(sorted(nodes)))


def _cure_of(reason: str) -> str:
    try:
        return meaning_of(FillFailure(reason)).cure
    except ValueError:
        return f"{_LOGS} says why"


def entries_nowhere_ready(cluster: Cluster) -> Iterator[Fault]:
    """A model that no node has: its pods download."""
    by_key = defaultdict[Key, list[ModelReport]](list)
    for report in cluster.reports.values():
        for model in report.models:
            by_key[model.key].append(model)
    for entry in cluster.catalog.models:
        states = {model.state for model in by_key[entry.key]}
        if ModelState.READY in states:
            continue
        if not any(_is_for(cluster, entry, node) for node in _workers(cluster)):
            sentence = f"no node is chosen for model {entry.name}"
            cure = "Compare the labels of the nodes with the entry's nodeGroups"
            yield Fault(Verdict.WARNING, sentence, cure, (entry.name,))
        elif states & _COMING:
            sentence = f"no node has model {entry.name} yet; it is being filled"
            yield Fault(Verdict.WARNING, sentence, "Wait", (entry.name,))
        else:
            sentence = f"no node has model {entry.name}, and none fills it"
            cure = "See the models that failed; else look at the agents' logs"
            yield Fault(Verdict.BROKEN, sentence, cure, (entry.name,))


def revisions_differ(cluster: Cluster) -> Iterator[Fault]:
    """Replicas answer differently by node."""
    names = {m.key: m.name or m.key for r in cluster.reports.values() for m in r.models}
    facts = [facts_of(report) for report in cluster.reports.values()]
    for key, revisions in differing_revisions(facts).items():
        sentence = f"nodes have model {names[key]} at different revisions: {named(revisions)}"
        cure = "Pin the entry's revision to a commit"
        yield Fault(Verdict.WARNING, sentence, cure, revisions)


# --- what the checks share ------------------------------------------------------------------------


def _workers(cluster: Cluster) -> list[str]:
    """Nodes that agents are for, and those that have one all the same."""
    key, value = AGENT_NODE_LABEL
    labelled = {n for _, n in cluster[What.NODES] if _labels(cluster, n).get(key) == value}
    return sorted(labelled | set(_agents(cluster)) & {n for _, n in cluster[What.NODES]})


def _labels(cluster: Cluster, node: str) -> dict[str, str]:
    content = cluster.get(What.NODES, node) or {"metadata": {}}
    return content["metadata"].get("labels") or {}


def _is_for(cluster: Cluster, entry: ModelEntry, node: str) -> bool:
    return entry in cluster.catalog.models_of(_labels(cluster, node))


def _agents(cluster: Cluster) -> dict[str, KubeObject]:
    """The agents' pods by node, as far as they are on one."""
    return {
        pod["spec"]["nodeName"]: pod
        for pod in cluster[What.PODS].values()
        if (pod["metadata"].get("labels") or {}).get("app.kubernetes.io/name") == _AGENT
        and (pod.get("spec") or {}).get("nodeName")
    }


def _is_ready(pod: KubeObject) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _written_at(cluster: Cluster, node: str) -> float:
    """When a report was changed last, by the API server's own books."""
    content = cluster.get(What.CONFIG_MAPS, config_map_name(node), SYSTEM_NAMESPACE) or {}
    fields = content.get("metadata", {}).get("managedFields") or ()
    times = [datetime.fromisoformat(f["time"]).timestamp() for f in fields if f.get("time")]
    return max(times, default=cluster.now)


CHECKS: Final = (
    Check("nodes", "each has its agent", (What.NODES, What.PODS), workers_without_agent),
    Check("agents", "each has told of its node", (What.PODS, What.CONFIG_MAPS), agents_silent),
    Check("reports", "each can be used", (What.CONFIG_MAPS,), reports_unusable),
    Check("slots", "none failed or is damaged", (What.CONFIG_MAPS,), models_failed),
    Check(
        "models",
        "some node has each",
        (What.CATALOG, What.CONFIG_MAPS, What.NODES, What.PODS),
        entries_nowhere_ready,
    ),
    Check("revisions", "nodes agree", (What.CONFIG_MAPS,), revisions_differ),
)
