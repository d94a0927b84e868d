"""Whether a node could take a pod, as far as both say: labels, taints, cordons. Pure.

As the scheduler's filters have it, without the room that other pods leave: nodes come as the API
server has them, and what a pod gets wrong fits no node. Preferences are none of it.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from webhook.mutation.raw import Json, list_of, object_of, text_of

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_REPELLING: Final = frozenset({"NoSchedule", "NoExecute"})
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"  # the taint that a cordon sets


def node_fault(pod: Mapping[str, Json], node: Mapping[str, Json]) -> str | None:
    """Why a node cannot take a pod, as a clause, or None. The node that it has is not looked at."""
    spec = object_of(pod.get("spec"))
    return next(_faults(spec, node), None)


def _faults(spec: Mapping[str, Json], node: Mapping[str, Json]) -> Iterator[str]:
    labels = object_of(object_of(node.get("metadata")).get("labels"))
    for key, value in object_of(spec.get("nodeSelector")).items():
        if labels.get(key) != value:
            yield f"it lacks the label {key}={value}"
    affinity = object_of(object_of(spec.get("affinity")).get("nodeAffinity"))
    if affinity.get(_REQUIRED) is not None:
        terms = list_of(object_of(affinity.get(_REQUIRED)).get("nodeSelectorTerms"))
        if not any(_meets_term(object_of(term), node) for term in terms):
            yield "the pod's node affinity requires other labels"
    for taint in _taints(node):
        if not any(_tolerates(object_of(t), taint) for t in list_of(spec.get("tolerations"))):
            key = text_of(taint.get("key"))
            yield "it is cordoned" if key == _UNSCHEDULABLE else f"its taint {key} is not tolerated"


def _taints(node: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    """What keeps pods off a node; a cordon counts before its taint is there."""
    spec = object_of(node.get("spec"))
    found = [
        t for t in map(object_of, list_of(spec.get("taints"))) if t.get("effect") in _REPELLING
    ]
    if spec.get("unschedulable") is True and all(t.get("key") != _UNSCHEDULABLE for t in found):
        yield {"key": _UNSCHEDULABLE, "effect": "NoSchedule"}
    yield from found


def _tolerates(toleration: Mapping[str, Json], taint: Mapping[str, Json]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    is_any_value = toleration.get("operator") == "Exists"
    if toleration.get("key") in (None, ""):
        return is_any_value
    values = [t.get("value") or "" for t in (toleration, taint)]
    return toleration.get("key") == taint.get("key") and (is_any_value or values[0] == values[1])


def _meets_term(term: Mapping[str, Json], node: Mapping[str, Json]) -> bool:
    """Whether a node meets all of a term; a term that asks for nothing fits no node."""
    metadata = object_of(node.get("metadata"))
    asked = [(r, metadata.get("labels")) for r in list_of(term.get("matchExpressions"))]
    name: Json = {"metadata.name": metadata.get("name")}
    asked += [(r, name) for r in list_of(term.get("matchFields"))]
    return bool(asked) and all(_meets(object_of(r), object_of(facts)) for r, facts in asked)


def _meets(requirement: Mapping[str, Json], facts: Mapping[str, Json]) -> bool:
    key, values = text_of(requirement.get("key")), list_of(requirement.get("values"))
    match requirement.get("operator"):
        case "In":
            return key in facts and facts[key] in values
        case "NotIn":
            return key not in facts or facts[key] not in values
        case "Exists":
            return key in facts
        case "DoesNotExist":
            return key not in facts
        case "Gt":
            return _is_ordered([*values, facts.get(key)])
        case "Lt":
            return _is_ordered([facts.get(key), *values])
        case _:
            return False


def _is_ordered(pair: list[Json]) -> bool:
    """Whether the first of two whole numbers is the smaller one."""
    try:
        less, more = (int(text_of(number)) for number in pair)
    except ValueError:
        return False
    return less < more
