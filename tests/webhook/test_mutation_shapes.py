"""Every shape of pod that KServe makes, in every order of the two webhooks, of several releases."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.kserve_mutator import CURRENT, V0_11, KServe, mount_tokens
from tests.fakes.kserve_sidecars import AGENT, RefusedError
from tests.fakes.predictor_pods import (
    LOCAL_MODEL_KEYS,
    SHAPES,
    WORKER,
    Pod,
    Shape,
    Surroundings,
    annotated,
    istio,
    recorded,
    server,
    shape,
)
from webhook.mutation import AdmissionRequest, Decision, View, apply_patch, decide
from webhook.mutation.soundness import soundness_fault

ROWS = [
    pytest.param(row, KServe(release, row.around), id=f"{name}, {release.name}")
    for name, row in SHAPES.items()
    for release in row.releases
]
PLACES = ("initContainers", "containers")
every_shape = pytest.mark.parametrize(("row", "kserve"), ROWS)


def decided(pod: Pod, view: View) -> Decision:
    return decide(AdmissionRequest(pod, "chat"), view)


def larder(pod: Pod, view: View) -> Pod:
    return apply_patch(pod, decided(pod, view).operations)


def containers(pod: Pod) -> Iterator[Any]:
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


# --- the model of KServe --------------------------------------------------------------------------


def without_tokens(pod: Pod) -> Any:
    """The recordings before and after are of two pods: their token volumes have two names."""
    pod = copy.deepcopy(pod)
    spec = pod["spec"]
    spec["volumes"] = [v for v in spec["volumes"] if not v["name"].startswith("kube-api-")]
    for container in containers(pod):
        mounts = container.get("volumeMounts", [])
        container["volumeMounts"] = [m for m in mounts if not m["name"].startswith("kube-api-")]
    return spec, pod["metadata"].get("annotations")


def of_the_account(pod: Pod) -> Surroundings:
    """What the service account of a recorded pod brought to its initializer."""
    initializers = pod["spec"].get("initContainers", [])
    variables = [v for c in initializers for v in c["env"] if not v["name"].startswith("HF_")]
    return Surroundings(variables=variables)


@pytest.mark.parametrize("name", ["hf-raw", "s3-raw", "pvc", "storage-uris"])
def test_the_model_of_kserve_does_what_was_recorded(name: str) -> None:
    before, after = (recorded(f"{name}.{when}-kserve") for when in ("before", "after"))
    modelled = KServe(CURRENT, of_the_account(after)).mutate(before)
    assert without_tokens(modelled) == without_tokens(after)


@pytest.mark.parametrize("name", ["llm-single", "llm-decode-lora"])
def test_the_model_of_kserve_does_not_see_what_the_real_one_does_not_see(name: str) -> None:
    before = recorded(f"{name}.before-kserve")
    assert KServe().mutate(before) == before


def test_the_model_of_kserve_builds_several_uris_as_recorded() -> None:
    built = recorded("storage-uris.before-kserve")
    spec = copy.deepcopy(built["spec"])
    del spec["initContainers"]
    spec["volumes"] = [v for v in spec["volumes"] if v["name"] != "mnt-models"]
    mounts = spec["containers"][0]["volumeMounts"]
    spec["containers"][0]["volumeMounts"] = [m for m in mounts if m["name"] != "mnt-models"]
    words = built["spec"]["initContainers"][0]["args"]
    again = KServe().build(built | {"spec": spec}, list(zip(words[::2], words[1::2], strict=True)))
    assert sorted_parts(again) == sorted_parts(built)


def sorted_parts(pod: Pod) -> Any:
    """A pod without the order of volumes and mounts: the template had its token volume later."""
    spec, annotations = without_tokens(pod)
    spec["volumes"].sort(key=lambda v: v["name"])
    for container in containers({"spec": spec}):
        container["volumeMounts"].sort(key=lambda m: m["name"])
    return spec, annotations


@pytest.mark.parametrize(
    ("name", "inits", "added"),
    [
        ("a modelcar", ["modelcar-init"], ["modelcar"]),
        ("a modelcar of a worker", ["modelcar-init"], ["modelcar"]),
        ("an image's volume", [], []),
        ("an image that is fetched", ["storage-initializer"], []),
        ("an agent that pulls models", [], ["agent"]),
        ("an agent that batches", ["storage-initializer"], ["agent"]),
        (
            "an agent that logs on Knative, which aggregates metrics",
            ["storage-initializer"],
            ["agent"],
        ),
    ],
)
def test_the_model_of_kserve_adds_its_sidecars(
    name: str, inits: list[str], added: list[str]
) -> None:
    row = SHAPES[name]
    after = KServe(CURRENT, row.around).mutate(row.before)
    names = {k: [c["name"] for c in after["spec"].get(k, [])] for k in PLACES}
    before = [c["name"] for c in row.before["spec"]["containers"]]
    assert names == {"initContainers": inits, "containers": before + added}


def test_the_model_of_kserve_mounts_an_images_folder() -> None:
    after = KServe().mutate(SHAPES["an image's volume"].before)
    mount = {"name": "mnt-models", "mountPath": "/mnt/models", "readOnly": True}
    assert mount | {"subPath": "models"} in after["spec"]["containers"][0]["volumeMounts"]
    source = {"reference": "registry.example/model:1", "pullPolicy": "IfNotPresent"}
    assert {"name": "mnt-models", "image": source} in after["spec"]["volumes"]


@every_shape
def test_the_model_of_kserve_changes_a_pod_once(row: Shape, kserve: KServe) -> None:
    once = kserve.mutate(row.before)
    assert kserve.mutate(once) == once


@pytest.mark.parametrize(
    ("odd", "release"),
    [
        pytest.param(shape(server(name="main")), CURRENT, id="no server's container"),
        pytest.param(shape(*WORKER), V0_11, id="a worker before releases knew them"),
        pytest.param(shape(*LOCAL_MODEL_KEYS[:1]), CURRENT, id="its own cache without a claim"),
        pytest.param(
            shape(annotated(**{AGENT: "true"})), CURRENT, id="its agent without a list of models"
        ),
    ],
)
def test_what_kserve_refuses_is_left_to_kserve(odd: Shape, release: Any, view: View) -> None:
    with pytest.raises(RefusedError):
        KServe(release).mutate(odd.before)
    assert decided(odd.before, view).operations == ()


@every_shape
def test_kserves_pod_is_sound_without_larder(row: Shape, kserve: KServe) -> None:
    """Where Larder's webhook is away, this is the pod (`failurePolicy: Ignore`)."""
    assert soundness_fault(kserve.mutate(row.before)) is None


# --- Larder beside it -----------------------------------------------------------------------------


@every_shape
def test_a_shape_is_decided_as_expected(row: Shape, kserve: KServe, view: View) -> None:
    decision = decided(kserve.mutate(row.before), view)
    assert (decision.reason.value, len(decision.keys)) == (row.reason, row.slots)


@every_shape
def test_who_reads_the_model_mounts_its_slots_and_nobody_else(
    row: Shape, kserve: KServe, view: View
) -> None:
    after = larder(kserve.mutate(row.before), view)
    mounts = {
        c["name"]: [m for m in c.get("volumeMounts", []) if m["mountPath"].startswith("/larder")]
        for c in containers(after)
    }
    readers = {"storage-initializer", *row.readers} if row.slots else set()
    assert {name for name, ours in mounts.items() if ours} == readers
    for name in readers:
        assert len(mounts[name]) == row.slots
        assert all(mount["readOnly"] is True for mount in mounts[name])


@every_shape
def test_nothing_of_a_shape_changes_but_what_is_larders(
    row: Shape, kserve: KServe, view: View
) -> None:
    pod = kserve.mutate(row.before)
    assert without_larder(larder(pod, view)) == without_larder(pod)


def without_larder(pod: Pod) -> Pod:
    pod = copy.deepcopy(pod)
    spec, annotations = pod["spec"], pod["metadata"].get("annotations") or {}
    ours = [name for name in annotations if name.startswith("larder.dev/")]
    pod["metadata"]["annotations"] = {k: v for k, v in annotations.items() if k not in ours}
    spec["volumes"] = [v for v in spec["volumes"] if not v["name"].startswith("larder-")]
    for container in containers(pod):
        mounts = container.get("volumeMounts", [])
        variables = container.get("env", [])
        container["volumeMounts"] = [m for m in mounts if not m["name"].startswith("larder-")]
        container["env"] = [v for v in variables if not v["name"].startswith("LARDER_")]
        if container["name"] == "storage-initializer":
            container.pop("command", None)
    return pod


@every_shape
def test_both_orders_end_in_the_same_sound_pod(row: Shape, kserve: KServe, view: View) -> None:
    larder_first = larder(kserve.mutate(larder(row.before, view)), view)
    kserve_first = row.before
    for _ in range(2):
        kserve_first = larder(kserve.mutate(kserve_first), view)
    assert larder_first == kserve_first
    assert soundness_fault(larder_first) is None


@every_shape
def test_kserves_second_call_changes_nothing(row: Shape, kserve: KServe, view: View) -> None:
    rewritten = larder(kserve.mutate(row.before), view)
    assert kserve.mutate(rewritten) == rewritten


@every_shape
def test_larders_second_call_changes_nothing(row: Shape, kserve: KServe, view: View) -> None:
    rewritten = larder(kserve.mutate(row.before), view)
    decision = decided(rewritten, view)
    assert decision.operations == ()
    assert decision.reason.value == ("AlreadyRewritten" if row.slots else row.reason)


@every_shape
def test_tokens_that_the_api_server_mounts_between_calls_confuse_nothing(
    row: Shape, kserve: KServe, view: View
) -> None:
    pod = mount_tokens(row.before, "kube-api-access-first")
    pod = mount_tokens(larder(kserve.mutate(pod), view), "kube-api-access-again")
    again = larder(kserve.mutate(pod), view)
    assert again == pod


@pytest.mark.parametrize("name", [name for name, row in SHAPES.items() if row.slots])
def test_a_foreign_sidecar_in_front_moves_nothing(name: str, view: View) -> None:
    row = SHAPES[name]
    pod = larder(KServe(row.releases[-1], row.around).mutate(row.before), view)
    for kind in ("initContainers", "containers"):
        pod["spec"][kind].insert(0, {"name": f"istio-{kind.lower()}", "image": "istio"})
    assert decided(pod, view).reason.value == "AlreadyRewritten"


def test_a_uid_that_kserve_sets_at_its_second_call_stays(view: View) -> None:
    rewritten = larder(KServe().mutate(SHAPES["raw deployment"].before), view)
    for edit in istio():
        edit(rewritten)
    again = KServe().mutate(rewritten)
    initializer = next(c for c in containers(again) if c["name"] == "storage-initializer")
    assert initializer["securityContext"] == {"runAsUser": 1337}
    assert decided(again, view).operations == ()
