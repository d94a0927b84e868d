"""Whether a node could take a pod is told as Kubernetes' scheduler would, room apart."""

from typing import Any

import pytest

from webhook.explaining.scheduling import node_fault

TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
REQUIRES = "the pod's node affinity requires other labels"
NOT_TOLERATED = "its taint gpu is not tolerated"


def node(labels: dict[str, str] | None = None, **spec: object) -> Any:
    return {"metadata": {"name": "n", "labels": labels or {}}, "spec": spec}


def requiring(*terms: object) -> Any:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [*terms]}}
    return {"affinity": {"nodeAffinity": required}}


def where(key: str, operator: str, *values: str) -> Any:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": [*values]}]}


@pytest.mark.parametrize(
    ("spec", "there", "fault"),
    [
        pytest.param({}, node(), None, id="nothing asked"),
        pytest.param({"nodeSelector": {"a": "1"}}, node({"a": "1"}), None, id="its label"),
        pytest.param(
            {"nodeSelector": {"a": "1"}}, node({"a": "2"}), "it lacks the label a=1", id="another"
        ),
        pytest.param(requiring(where("a", "In", "1", "2")), node({"a": "2"}), None, id="In"),
        pytest.param(requiring(where("a", "In", "1")), node(), REQUIRES, id="In, without it"),
        pytest.param(requiring(where("a", "NotIn", "1")), node(), None, id="NotIn, without it"),
        pytest.param(requiring(where("a", "NotIn", "1")), node({"a": "1"}), REQUIRES, id="NotIn"),
        pytest.param(requiring(where("a", "Exists")), node({"a": ""}), None, id="Exists"),
        pytest.param(requiring(where("a", "DoesNotExist")), node({"a": ""}), REQUIRES, id="not"),
        pytest.param(
            requiring(where("a", "Gt", "9")), node({"a": "10"}), None, id="Gt is of numbers"
        ),
        pytest.param(requiring(where("a", "Lt", "9")), node({"a": "10"}), REQUIRES, id="Lt"),
        pytest.param(requiring(where("a", "Gt", "9")), node(), REQUIRES, id="Gt, without it"),
        pytest.param(requiring(where("a", "Near", "9")), node({"a": "9"}), REQUIRES, id="unknown"),
        pytest.param(
            requiring(where("a", "Exists"), where("b", "Exists")),
            node({"b": ""}),
            None,
            id="terms are alternatives",
        ),
        pytest.param(requiring({}), node(), REQUIRES, id="an empty term fits nothing"),
        pytest.param(requiring(), node(), REQUIRES, id="no term fits nothing"),
        pytest.param(
            requiring(
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
            ),
            node(),
            None,
            id="a DaemonSet's own node",
        ),
        pytest.param({}, node(taints=[TAINT]), NOT_TOLERATED, id="a taint"),
        pytest.param(
            {"tolerations": [{"key": "gpu", "value": "yes"}]},
            node(taints=[TAINT]),
            None,
            id="a taint that is tolerated by its value",
        ),
        pytest.param(
            {"tolerations": [{"key": "gpu", "value": "no"}]},
            node(taints=[TAINT]),
            NOT_TOLERATED,
            id="a taint of another value",
        ),
        pytest.param(
            {"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]},
            node(taints=[TAINT]),
            NOT_TOLERATED,
            id="a toleration of another effect",
        ),
        pytest.param(
            {"tolerations": [{"operator": "Exists"}]},
            node(taints=[TAINT]),
            None,
            id="whoever tolerates all",
        ),
        pytest.param(
            {},
            node(taints=[{**TAINT, "effect": "PreferNoSchedule"}]),
            None,
            id="a taint that only prefers",
        ),
        pytest.param({}, node(unschedulable=True), "it is cordoned", id="a cordon"),
        pytest.param(
            {}, node(unschedulable=True, taints=[CORDON]), "it is cordoned", id="and its taint"
        ),
        pytest.param({"nodeSelector": 1, "tolerations": "x"}, node(), None, id="an odd pod"),
    ],
)
def test_a_node_takes_a_pod_or_says_why_not(spec: Any, there: Any, fault: str | None) -> None:
    assert node_fault({"spec": spec}, there) == fault
