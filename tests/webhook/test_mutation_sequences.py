"""Larder's webhook before and after KServe's, in the orders of an API server (facts 1.11).

`kserve` is a small model of KServe's own pod mutator (facts 1.4), held to what was recorded from
the real one.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from larder.contract import DecisionReason
from webhook.mutation import AdmissionRequest, View, apply_patch, decide

Pod = Any
SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
METRICS = {
    "serving.kserve.io/enable-metric-aggregation": "false",
    "serving.kserve.io/enable-prometheus-scraping": "false",
}
NAMES = ["hf-raw", "s3-raw", "storage-uris", "pvc", "llm-single", "llm-decode-lora"]
CACHED = ["hf-raw", "storage-uris", "llm-single", "llm-decode-lora"]


def kserve(pod: Pod, recorded: Pod) -> Pod:
    """What KServe's webhook makes of a pod; an initializer it adds is the recorded one."""
    pod = copy.deepcopy(pod)
    if "serving.kserve.io/inferenceservice" not in pod["metadata"]["labels"]:
        return pod
    annotations = pod["metadata"]["annotations"]
    pod["metadata"]["annotations"] = {**METRICS, **annotations}
    uri = annotations.get(SOURCE_URI, "")
    present = {c["name"] for c in pod["spec"].get("initContainers", [])}
    if not uri or "storage-initializer" in present:
        return pod
    volume = recorded["spec"]["volumes"][-1]
    if volume in pod["spec"]["volumes"]:  # fact T5: deduplicated by the volume's name
        return pod
    pod["spec"]["volumes"].append(volume)
    mount = next(
        m for m in recorded["spec"]["containers"][0]["volumeMounts"] if m["name"] == volume["name"]
    )
    pod["spec"]["containers"][0]["volumeMounts"].append(mount)
    if not uri.startswith("pvc://"):
        pod["spec"].setdefault("initContainers", []).extend(recorded["spec"]["initContainers"])
    return pod


@pytest.fixture(params=NAMES)
def pods(request: pytest.FixtureRequest, review: Callable[[str], Any]) -> tuple[Pod, Pod]:
    """A pod before and after KServe's webhook, as recorded."""
    before = review(f"{request.param}.before-kserve")["request"]["object"]
    return before, review(f"{request.param}.after-kserve")["request"]["object"]


def larder(pod: Pod, view: View) -> Pod:
    return apply_patch(pod, decide(AdmissionRequest(pod, "chat"), view).operations)


def without_tokens(pod: Pod) -> Pod:
    """The two recordings are of two pods: the API server names their token volumes anew."""
    text = copy.deepcopy(pod)
    names = [v["name"] for v in text["spec"]["volumes"] if v["name"].startswith("kube-api-access-")]
    volumes = text["spec"]["volumes"]
    text["spec"]["volumes"] = [v for v in volumes if v["name"] not in names]
    for kind in ("initContainers", "containers"):
        for container in text["spec"].get(kind, []):
            mounts = container["volumeMounts"]
            container["volumeMounts"] = [m for m in mounts if m["name"] not in names]
    return text["spec"], text["metadata"].get("annotations")


def test_the_model_of_kserve_does_what_was_recorded(pods: tuple[Pod, Pod]) -> None:
    before, after = pods
    modelled, recorded = (without_tokens(pod) for pod in (kserve(before, after), after))
    assert modelled == recorded


def test_both_orders_end_in_the_same_pod(pods: tuple[Pod, Pod], view: View) -> None:
    before, after = pods
    larder_first = larder(kserve(larder(before, view), after), view)
    kserve_first = kserve(before, after)
    for mutate in (
        lambda p: larder(p, view),
        lambda p: kserve(p, after),
        lambda p: larder(p, view),
    ):
        kserve_first = mutate(kserve_first)
    assert larder_first == kserve_first


def test_kserve_adds_nothing_to_a_rewritten_pod(pods: tuple[Pod, Pod], view: View) -> None:
    _, after = pods
    rewritten = larder(after, view)
    assert kserve(rewritten, after) == rewritten


def test_a_token_volume_that_is_renamed_between_calls_confuses_nothing(
    pods: tuple[Pod, Pod], view: View
) -> None:
    rewritten = larder(pods[1], view)
    for volume in rewritten["spec"]["volumes"]:
        if volume["name"].startswith("kube-api-access-"):
            volume["name"] = "kube-api-access-again"
    for kind in ("initContainers", "containers"):
        for container in rewritten["spec"].get(kind, []):
            for mount in container["volumeMounts"]:
                if mount["name"].startswith("kube-api-access-"):
                    mount["name"] = "kube-api-access-again"
    assert larder(rewritten, view) == rewritten


@pytest.mark.parametrize("name", CACHED)
def test_a_foreign_sidecar_in_front_moves_nothing(
    name: str, review: Callable[[str], Any], view: View
) -> None:
    pod = larder(review(f"{name}.after-kserve")["request"]["object"], view)
    for kind in ("initContainers", "containers"):
        pod["spec"][kind].insert(0, {"name": f"istio-{kind.lower()}", "image": "istio"})
    decision = decide(AdmissionRequest(pod, "chat"), view)
    assert decision.reason is DecisionReason.ALREADY_REWRITTEN
