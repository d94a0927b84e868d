"""In a restricted namespace the initializer meets the profile: only what is missing, only there."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from larder.contract import DecisionReason
from tests.fakes.kserve_mutator import RELEASES, KServe, Release
from tests.fakes.predictor_pods import SHAPES
from webhook.mutation import AdmissionRequest, View, VolumeMode, apply_patch, decide

Pod = Any

ENFORCE = "pod-security.kubernetes.io/enforce"
WHOLE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def in_namespace(view: View, profile: str) -> View:
    """The namespace enforces a profile; volumes are allowed in it all the same."""
    return replace(view, namespace_labels={ENFORCE: profile, "larder.dev/volume": "hostPath"})


def initializer(pod: Pod) -> Any:
    return next(c for c in pod["spec"]["initContainers"] if c["name"] == "storage-initializer")


def rewritten(pod: Pod, view: View) -> Pod:
    decision = decide(AdmissionRequest(pod, "chat"), view)
    assert decision.reason is DecisionReason.CACHED, decision.detail
    return apply_patch(pod, decision.operations)


@pytest.mark.parametrize(
    ("said", "said_by_pod", "after"),
    [
        pytest.param(None, None, WHOLE, id="nobody says anything"),
        pytest.param({}, {}, WHOLE, id="both say nothing"),
        pytest.param(WHOLE, {}, WHOLE, id="it meets the profile already"),
        pytest.param({"runAsUser": 1337}, {}, WHOLE | {"runAsUser": 1337}, id="a uid stays"),
        pytest.param(
            {"capabilities": {"drop": ["NET_RAW"], "add": ["NET_BIND_SERVICE"]}},
            {},
            WHOLE | {"capabilities": {"drop": ["NET_RAW", "ALL"], "add": ["NET_BIND_SERVICE"]}},
            id="what is dropped and added stays",
        ),
        pytest.param(
            None,
            {"runAsNonRoot": True, "seccompProfile": {"type": "Localhost"}},
            {k: WHOLE[k] for k in ("allowPrivilegeEscalation", "capabilities")},
            id="the pod's own words hold for its containers",
        ),
        pytest.param(
            {"runAsNonRoot": False, "allowPrivilegeEscalation": True},
            {},
            WHOLE | {"runAsNonRoot": False, "allowPrivilegeEscalation": True},
            id="what is said otherwise is for the namespace to refuse",
        ),
        pytest.param({"runAsNonRoot": None}, None, WHOLE, id="null says nothing"),
    ],
)
def test_what_is_missing_is_completed(
    said: Mapping[str, Any] | None,
    said_by_pod: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    pod: Pod,
    view: View,
) -> None:
    initializer(pod)["securityContext"] = said
    pod["spec"]["securityContext"] = said_by_pod
    server = copy.deepcopy(pod["spec"]["containers"][0].get("securityContext"))
    patched = rewritten(pod, in_namespace(view, "restricted"))
    assert initializer(patched)["securityContext"] == after
    assert patched["spec"]["securityContext"] == said_by_pod
    assert patched["spec"]["containers"][0].get("securityContext") == server


@pytest.mark.parametrize("profile", ["baseline", "privileged"])
def test_another_profile_asks_nothing(profile: str, pod: Pod, view: View) -> None:
    assert "securityContext" not in initializer(rewritten(pod, in_namespace(view, profile)))


def test_a_pod_that_is_left_alone_stays_as_kserve_made_it(pod: Pod, view: View) -> None:
    initializer(pod)["args"][0] = "hf://org/other"
    decision = decide(AdmissionRequest(pod, "chat"), in_namespace(view, "restricted"))
    assert (decision.reason, decision.operations) == (DecisionReason.MODEL_NOT_IN_CATALOG, ())


def test_without_a_volume_that_the_namespace_allows_nothing_is_completed(
    pod: Pod, view: View
) -> None:
    restricted = replace(view, namespace_labels={ENFORCE: "restricted"})
    decision = decide(AdmissionRequest(pod, "chat"), restricted)
    assert (decision.reason, decision.operations) == (DecisionReason.HOST_PATH_FORBIDDEN, ())


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_kserves_second_call_leaves_the_context(release: Release, view: View) -> None:
    kserve = KServe(release)
    pod = kserve.mutate(SHAPES["raw deployment"].before)
    restricted = in_namespace(view, "restricted")
    patched = rewritten(pod, restricted)
    assert kserve.mutate(patched) == patched
    again = decide(AdmissionRequest(patched, "chat"), restricted)
    assert again.reason is DecisionReason.ALREADY_REWRITTEN


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        pytest.param(None, DecisionReason.CACHED, id="unknown labels do not forbid it"),
        pytest.param({ENFORCE: "privileged"}, DecisionReason.CACHED, id="privileged"),
        pytest.param({ENFORCE: "baseline"}, DecisionReason.HOST_PATH_FORBIDDEN, id="baseline"),
        pytest.param({ENFORCE: "restricted"}, DecisionReason.HOST_PATH_FORBIDDEN, id="restricted"),
        pytest.param(
            {ENFORCE: "restricted", "larder.dev/volume": "hostPath"},
            DecisionReason.CACHED,
            id="the admin says that it is exempt",
        ),
    ],
)
def test_an_install_that_allows_host_paths_does_not_overrule_a_namespaces_profile(
    labels: dict[str, str] | None, reason: DecisionReason, pod: Pod, view: View
) -> None:

    decision = decide(
        AdmissionRequest(pod, "chat"),
        replace(view, volumes=VolumeMode.HOST_PATH, namespace_labels=labels),
    )
    assert decision.reason is reason
