"""Where a pod should run: terms are added, nothing is taken away, no node is named."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from larder.contract import DecisionReason
from larder.identity import identity_of
from tests.fakes.kserve_mutator import KServe
from tests.fakes.predictor_pods import SHAPES
from webhook.mutation import AdmissionRequest, View, apply_patch, decide
from webhook.mutation.affinity import requiring

Pod = Any

KEY = identity_of("s3://models/llama").key
OTHER = identity_of("s3://adapters").key
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def expression(name: str, value: str) -> dict[str, Any]:
    return {"key": name, "operator": "In", "values": [value]}


def ready_term(key: str) -> dict[str, Any]:
    requirement = expression(f"model.larder.dev/{key}", "ready")
    return {"weight": 1, "preference": {"matchExpressions": [requirement]}}


def preferring(*terms: Any) -> dict[str, Any]:
    return {"nodeAffinity": {PREFERRED: list(terms)}}


def required(*terms: Any) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


THEIRS = {"weight": 100, "preference": {"matchExpressions": [expression("zone", "a")]}}
SPREAD = {"podAntiAffinity": {PREFERRED: [{"weight": 1}]}}
ZONE = {"matchExpressions": [expression("zone", "a")]}


def asking_for(pod: Pod, *words: str) -> Pod:
    pod["spec"]["initContainers"][0]["args"] = list(words)
    return pod


def rewritten(pod: Pod, view: View) -> Pod:
    decision = decide(AdmissionRequest(pod, "chat"), view)
    assert decision.reason is DecisionReason.CACHED, decision.detail
    return apply_patch(pod, decision.operations)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, preferring(ready_term(KEY)), id="none"),
        pytest.param({}, preferring(ready_term(KEY)), id="an empty one"),
        pytest.param(SPREAD, SPREAD | preferring(ready_term(KEY)), id="one of another kind"),
        pytest.param(
            preferring(THEIRS), preferring(THEIRS, ready_term(KEY)), id="a preference of theirs"
        ),
        pytest.param(
            required(ZONE),
            {"nodeAffinity": required(ZONE)["nodeAffinity"] | {PREFERRED: [ready_term(KEY)]}},
            id="a requirement of theirs",
        ),
        pytest.param(
            preferring(ready_term(KEY)), preferring(ready_term(KEY)), id="the term already"
        ),
    ],
)
def test_a_node_that_has_the_model_is_preferred(
    before: Any, after: Any, pod: Pod, view: View
) -> None:
    asking_for(pod, "s3://models/llama", "/mnt/models")
    if before is not None:
        pod["spec"]["affinity"] = before
    kept = copy.deepcopy({k: v for k, v in pod["spec"].items() if k.startswith(("node", "topo"))})
    patched = rewritten(pod, replace(view, ready=frozenset({KEY, OTHER})))
    assert patched["spec"]["affinity"] == after
    assert kept.items() <= patched["spec"].items()


@pytest.mark.parametrize("ready", [frozenset(), frozenset({OTHER})], ids=["none", "another"])
def test_while_no_node_has_the_model_nothing_is_preferred(
    ready: frozenset[Any], pod: Pod, view: View
) -> None:
    asking_for(pod, "s3://models/llama", "/mnt/models")
    assert "affinity" not in rewritten(pod, replace(view, ready=ready))["spec"]


def test_each_model_has_a_term(pod: Pod, view: View) -> None:
    asking_for(pod, "s3://models/llama", "/mnt/models/a", "s3://adapters/b", "/mnt/models/b")
    patched = rewritten(pod, replace(view, ready=frozenset({KEY, OTHER})))
    assert patched["spec"]["affinity"] == preferring(*map(ready_term, sorted([KEY, OTHER])))


@pytest.mark.parametrize(
    "placed",
    [
        pytest.param({"nodeName": "gpu-1"}, id="by nodeName"),
        pytest.param(
            {"affinity": required({"matchFields": [expression("metadata.name", "gpu-1")]})},
            id="as a DaemonSet does",
        ),
    ],
)
def test_a_pod_whose_node_is_chosen_already_is_told_of_no_other(
    placed: dict[str, Any], pod: Pod, view: View
) -> None:
    pod["spec"] |= copy.deepcopy(placed)
    asking_for(pod, "s3://models/llama", "/mnt/models")
    patched = rewritten(pod, replace(view, ready=frozenset({KEY})))
    assert placed.items() <= patched["spec"].items()
    assert patched["spec"].get("affinity") == placed.get("affinity")


def test_a_node_that_gets_ready_between_two_calls_is_still_preferred(pod: Pod, view: View) -> None:
    asking_for(pod, "s3://models/llama", "/mnt/models")
    first = rewritten(pod, view)
    ready = replace(view, ready=frozenset({KEY}))
    second = rewritten(first, ready)
    assert second["spec"]["affinity"] == preferring(ready_term(KEY))
    assert decide(AdmissionRequest(second, "chat"), ready).operations == ()


@pytest.mark.parametrize("name", [name for name, row in SHAPES.items() if row.slots])
def test_a_preference_is_stable_in_every_shape(name: str, view: View) -> None:
    row = SHAPES[name]
    kserve = KServe(row.releases[-1], row.around)
    pod = kserve.mutate(row.before)
    keys = frozenset(decide(AdmissionRequest(pod, "chat"), view).keys)
    ready = replace(view, ready=keys)
    patched = rewritten(pod, ready)
    has_terms = "affinity" in patched["spec"]
    assert has_terms == ("nodeName" not in pod["spec"])
    assert decide(AdmissionRequest(kserve.mutate(patched), "chat"), ready).operations == ()


# --- required terms -------------------------------------------------------------------------------

GPU = [expression("gpu", "h100")]
DISK = [expression("disk", "nvme")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            None,
            required({"matchExpressions": GPU}, {"matchExpressions": DISK}),
            id="no requirement: either of ours",
        ),
        pytest.param(
            required(ZONE),
            required(
                {"matchExpressions": [*ZONE["matchExpressions"], *GPU]},
                {"matchExpressions": [*ZONE["matchExpressions"], *DISK]},
            ),
            id="one of theirs: with either of ours",
        ),
        pytest.param(
            required({"matchFields": [expression("metadata.name", "x")]}),
            required(
                {"matchFields": [expression("metadata.name", "x")], "matchExpressions": GPU},
                {"matchFields": [expression("metadata.name", "x")], "matchExpressions": DISK},
            ),
            id="a field of theirs",
        ),
        pytest.param(
            required({}), required({}, {}), id="a term that matches no node still matches none"
        ),
        pytest.param(
            required({"matchExpressions": []}),
            required({"matchExpressions": []}, {"matchExpressions": []}),
            id="nor does one with an empty list",
        ),
        pytest.param(required(), required(), id="no alternatives are none"),
        pytest.param(required(*[ZONE] * 40), None, id="too many to write down"),
    ],
)
def test_a_requirement_joins_every_alternative(before: Any, after: Any) -> None:
    assert requiring(before, [GPU, DISK]) == after
