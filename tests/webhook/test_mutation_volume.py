"""Which volume shows a slot: the host's path or a claim, and only where a pod may have it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from larder.contract import DecisionReason, parse_slots
from larder.identity import identity_of
from tests.fakes.kserve_mutator import KServe
from tests.fakes.predictor_pods import SHAPES
from webhook.mutation import AdmissionRequest, Decision, View, VolumeMode, apply_patch, decide
from webhook.mutation.soundness import soundness_fault

Pod = Any
R = DecisionReason

QWEN = identity_of(
    "hf://Qwen/Qwen2-0.5B-Instruct", revision="c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
).key
ADAPTERS = identity_of("s3://adapters").key
PLACED = identity_of("hf://org/placed", revision="main").key
PROFILE = "pod-security.kubernetes.io/enforce"
RESTRICTED = {PROFILE: "restricted"}
PRIVILEGED = {PROFILE: "privileged"}


def decided(pod: Pod, view: View) -> Decision:
    return decide(AdmissionRequest(pod, "chat"), view)


def with_claims(view: View, *names: str, labels: dict[str, str] | None = None) -> View:
    claims = frozenset(f"larder-{name}" for name in names)
    return replace(
        view, volumes=VolumeMode.BY_NAMESPACE, namespace_labels=labels or {}, claims=claims
    )


def claim_volume(key: str, suffix: str = "") -> dict[str, Any]:
    source = {"claimName": f"larder-{key}{suffix}", "readOnly": True}
    return {"name": f"larder-{key}", "persistentVolumeClaim": source}


@pytest.mark.parametrize(
    ("claims", "labels", "reason"),
    [
        pytest.param(None, RESTRICTED, R.HOST_PATH_FORBIDDEN, id="nobody makes claims"),
        pytest.param(frozenset(), RESTRICTED, R.VOLUME_NOT_READY, id="no claim is bound yet"),
        pytest.param(
            frozenset({f"larder-{ADAPTERS}"}), RESTRICTED, R.VOLUME_NOT_READY, id="another's claim"
        ),
        pytest.param(
            frozenset({f"larder-{QWEN}-content"}),
            RESTRICTED,
            R.VOLUME_NOT_READY,
            id="the claim of the content alone",
        ),
        pytest.param(frozenset({f"larder-{QWEN}"}), RESTRICTED, R.CACHED, id="its claim"),
        pytest.param(frozenset({f"larder-{QWEN}"}), None, R.CACHED, id="its claim, labels unknown"),
        pytest.param(frozenset(), PRIVILEGED, R.CACHED, id="no claim where hostPath is allowed"),
    ],
)
def test_without_a_volume_the_pod_stays_kserves(
    claims: frozenset[str] | None,
    labels: dict[str, str] | None,
    reason: DecisionReason,
    pod: Pod,
    view: View,
) -> None:
    asked = replace(view, volumes=VolumeMode.BY_NAMESPACE, namespace_labels=labels, claims=claims)
    decision = decided(pod, asked)
    assert (decision.reason, bool(decision.operations)) == (reason, reason is R.CACHED)


def test_a_claim_is_mounted_read_only_and_as_a_whole(pod: Pod, view: View) -> None:
    asked = with_claims(view, QWEN)
    after = apply_patch(pod, decided(pod, asked).operations)
    assert after["spec"]["volumes"][-1] == claim_volume(QWEN)
    mounts = [
        m
        for c in [*after["spec"]["initContainers"], *after["spec"]["containers"]]
        for m in c["volumeMounts"]
        if m["name"] == f"larder-{QWEN}"
    ]
    mount = {"name": f"larder-{QWEN}", "mountPath": f"/larder/{QWEN}", "readOnly": True}
    assert mounts == [mount, mount]
    assert soundness_fault(after) is None
    assert decided(after, asked).reason is R.ALREADY_REWRITTEN


def test_where_the_host_path_is_allowed_no_claim_is_used(pod: Pod, view: View) -> None:
    asked = with_claims(view, QWEN, labels=PRIVILEGED)
    after = apply_patch(pod, decided(pod, asked).operations)
    assert "hostPath" in after["spec"]["volumes"][-1]


def test_models_without_a_volume_are_left_to_the_fallback(
    review: Callable[[str], Any], view: View
) -> None:
    pod = review("storage-uris.after-kserve")["request"]["object"]
    decision = decided(pod, with_claims(view, ADAPTERS))
    assert (decision.reason, decision.keys) == (R.CACHED, (ADAPTERS,))
    assert decision.detail == "1 of its 2 URIs are served"
    after = apply_patch(pod, decision.operations)
    slots = next(
        v for v in after["spec"]["initContainers"][0]["env"] if v["name"] == "LARDER_SLOTS"
    )
    assert [row.uri for row in parse_slots(slots["value"]) or ()] == ["s3://adapters/lora-1"]


def test_a_restricted_namespace_serves_through_a_claim(view: View) -> None:
    kserve = KServe()
    pod = kserve.mutate(SHAPES["raw deployment"].before)
    asked = with_claims(view, QWEN, labels=RESTRICTED)
    after = apply_patch(pod, decided(pod, asked).operations)
    initializer = next(c for c in after["spec"]["initContainers"])
    assert initializer["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "hostPath" not in str(after)
    assert kserve.mutate(after) == after


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param([f"{PLACED}-content"], R.CACHED, id="its content's claim"),
        pytest.param([PLACED], R.VOLUME_NOT_READY, id="its slot's claim alone"),
    ],
)
def test_a_required_model_is_mounted_by_the_claim_of_its_content(
    claims: list[str], reason: DecisionReason, pod: Pod, view: View
) -> None:
    pod["spec"]["initContainers"][0]["args"][0] = "hf://org/placed"
    decision = decided(pod, with_claims(view, *claims))
    assert decision.reason is reason
    if reason is R.CACHED:
        after = apply_patch(pod, decision.operations)
        assert after["spec"]["volumes"][-1] == claim_volume(PLACED, "-content")
        assert after["spec"]["containers"][0]["volumeMounts"][-1]["mountPath"] == "/mnt/models"


def test_a_required_model_without_a_volume_is_not_downloaded_beside_a_cached_one(
    pod: Pod, view: View
) -> None:
    words = ["s3://adapters/a", "/mnt/models/a", "hf://org/placed", "/mnt/models/b"]
    pod["spec"]["initContainers"][0]["args"] = words
    decision = decided(pod, with_claims(view, ADAPTERS))
    assert (decision.reason, decision.operations) == (R.PLACEMENT_UNSUPPORTED, ())


def test_a_volume_that_another_view_gave_is_never_mended(pod: Pod, view: View) -> None:
    after = apply_patch(pod, decided(pod, view).operations)
    again = decided(after, with_claims(view, QWEN))
    assert (again.reason, again.operations) == (R.CUSTOM_STORAGE_CONTAINER, ())
