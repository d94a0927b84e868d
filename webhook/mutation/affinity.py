"""Where a pod should run: node affinity with terms of Larder's added, and nothing taken away.

Required terms are alternatives of one another, so a requirement is added to each of them; an empty
term matches no node, and stays empty. Preferred terms are appended. A hostname is never named, and
neither are topology constraints or node selectors touched.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from larder.catalog import LabelSelector, ModelEntry, NodeGroup
from larder.contract import AGENT_NODE_LABEL, MODEL_LABEL_PREFIX
from larder.layout import Key
from larder.status import ModelState, node_label
from webhook.mutation.raw import Json, JsonObject, list_of, object_of

MAX_TERMS: Final = 64  # alternatives of the pod times those of the entry: a patch stays small
_WEIGHT: Final = 1  # the least: whatever the pod itself prefers weighs more; alone, it counts fully
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def is_placed(spec: Mapping[str, Json]) -> bool:
    """Whether somebody chose the pod's very node already: by its name, or as a DaemonSet does."""
    terms = _required_terms(spec.get("affinity"))
    return bool(spec.get("nodeName")) or any(object_of(t).get("matchFields") for t in terms)


def preferring(affinity: Json, ready: Iterable[Key]) -> Json:
    """An affinity that prefers nodes which have models ready; a term a model, each only once."""
    node_affinity = _node_affinity(affinity)
    terms = list_of(node_affinity.get(_PREFERRED))
    missing = [term for term in map(_ready_term, ready) if term not in terms]
    return _with(affinity, _PREFERRED, [*terms, *missing]) if missing else affinity


def _ready_term(key: Key) -> Json:
    requirement: Json = _requirement(MODEL_LABEL_PREFIX + key, "In", [node_label(ModelState.READY)])
    return {"weight": _WEIGHT, "preference": {"matchExpressions": [requirement]}}


def requiring(affinity: Json, alternatives: list[list[Json]]) -> Json:
    """An affinity that requires one of several lists of requirements beside all it required.

    None if that is too much to write down.
    """
    if _node_affinity(affinity).get(_REQUIRED) is None:
        both: list[Json] = [{"matchExpressions": alternative} for alternative in alternatives]
        return _with(affinity, _REQUIRED, {"nodeSelectorTerms": both})
    terms = _required_terms(affinity)
    if len(terms) * len(alternatives) > MAX_TERMS:
        return None
    both = [_and(term, alternative) for term in terms for alternative in alternatives]
    return _with(affinity, _REQUIRED, {"nodeSelectorTerms": both})


def _and(term: Json, requirements: list[Json]) -> Json:
    said = object_of(term)
    expressions = list_of(said.get("matchExpressions"))
    if not expressions and not said.get("matchFields"):
        return term
    return {**said, "matchExpressions": [*expressions, *requirements]}


def requirements_of(groups: Iterable[NodeGroup], entry: ModelEntry) -> list[list[Json]]:
    """What a node that keeps an entry is like: a list of requirements for each of its groups."""
    label, value = AGENT_NODE_LABEL
    agent: Json = _requirement(label, "In", [value])
    chosen = [g.node_selector for g in groups if g.name in entry.node_groups]
    return [[agent, *_requirements(selector)] for selector in chosen] or [[agent]]


def _requirements(selector: LabelSelector) -> Iterable[Json]:
    for label, value in selector.match_labels.items():
        yield _requirement(label, "In", [value])
    for expression in selector.match_expressions:
        yield _requirement(expression.key, expression.operator, list(expression.values))


def _requirement(label: str, operator: str, values: list[Json]) -> JsonObject:
    written: JsonObject = {"key": label, "operator": operator}
    return {**written, "values": values} if values else written


def _required_terms(affinity: Json) -> list[Json]:
    required = object_of(_node_affinity(affinity).get(_REQUIRED))
    return list_of(required.get("nodeSelectorTerms"))


def _node_affinity(affinity: Json) -> Mapping[str, Json]:
    return object_of(object_of(affinity).get("nodeAffinity"))


def _with(affinity: Json, kind: str, value: Json) -> Json:
    node_affinity: JsonObject = {**_node_affinity(affinity), kind: value}
    return {**object_of(affinity), "nodeAffinity": node_affinity}
