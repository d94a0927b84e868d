"""What holds for every pod: nothing raises, patches are sound, lists are only appended to."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import jsonpatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from larder.catalog import read_catalog
from larder.contract import DecisionReason
from larder.matching import CatalogIndex
from webhook.mutation import AdmissionRequest, Decision, View, VolumeMode, apply_patch, decide

Pod = Any
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
URIS = (
    "hf://Qwen/Qwen2-0.5B-Instruct",
    "hf://org/secret",
    "s3://models/llama",
    "s3://models/llama/v$1",
    "s3://adapters/x",
    "pvc://w/x",
    "hf://org/placed",
)
PATHS = ("/mnt/models", "/mnt/models/a", "/mnt", "/", "/larder", "/larder/x", "..", "")
NAMES = ("kserve-provision-location", "larder-0123456789abcdef", "devshm", "x")

mounts = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES), "mountPath": st.sampled_from(PATHS)},
    optional={"readOnly": st.booleans(), "subPath": st.just("s")},
)
variables = st.fixed_dictionaries(
    {
        "name": st.sampled_from(
            ("HF_ENDPOINT", "S3_ENDPOINT", "LARDER_SLOTS", "STORAGE_ALLOW_PATTERNS", "A")
        )
    },
    optional={
        "value": st.sampled_from(("https://huggingface.co", "x", '["*"]', "[[", "")) | json_values
    },
)
contexts = st.fixed_dictionaries(
    {},
    optional={
        "runAsNonRoot": st.booleans() | json_values,
        "capabilities": st.fixed_dictionaries({}, optional={"drop": json_values}) | json_values,
    },
)
containers = st.fixed_dictionaries(
    {
        "name": st.sampled_from(("storage-initializer", "kserve-container", "x")),
        "image": st.sampled_from(("kserve/storage-initializer:v1", "x")),
    },
    optional={
        "args": st.lists(st.sampled_from(URIS + PATHS), max_size=4) | json_values,
        "env": st.lists(variables, max_size=3) | json_values,
        "volumeMounts": st.lists(mounts, max_size=3) | json_values,
        "command": json_values,
        "securityContext": contexts | json_values,
    },
)
volumes = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES)},
    optional={"emptyDir": st.just({}), "hostPath": st.just({"path": "/"})},
)
terms = st.fixed_dictionaries(
    {}, optional={"matchExpressions": json_values, "matchFields": json_values}
)
required = st.fixed_dictionaries({"nodeSelectorTerms": st.lists(terms, max_size=3) | json_values})
affinities = st.fixed_dictionaries(
    {
        "nodeAffinity": st.fixed_dictionaries(
            {},
            optional={
                "requiredDuringSchedulingIgnoredDuringExecution": required | json_values,
                "preferredDuringSchedulingIgnoredDuringExecution": json_values,
            },
        )
        | json_values
    }
)
pods = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"labels": st.just({"serving.kserve.io/inferenceservice": "x"}) | json_values},
            optional={
                "annotations": st.dictionaries(
                    st.sampled_from(("larder.dev/keys", "storage.kserve.io/readonly")),
                    st.sampled_from(("false", "x")),
                )
                | json_values
            },
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "initContainers": st.lists(containers, max_size=3) | json_values,
                "containers": st.lists(containers, max_size=2) | json_values,
                "volumes": st.lists(volumes, max_size=3) | json_values,
                "nodeSelector": json_values,
                "tolerations": json_values,
                "runtimeClassName": json_values,
                "os": json_values,
                "affinity": affinities | json_values,
                "nodeName": json_values,
                "securityContext": contexts | json_values,
            },
        ),
    }
)


@pytest.fixture(scope="module")
def index(catalog_text: str) -> CatalogIndex:
    return CatalogIndex(read_catalog(catalog_text.encode(), standalone=True))


def views_of(index: CatalogIndex) -> list[View]:
    """What a webhook may know when it is asked."""
    known = View(index, PurePosixPath("/r"), ready=frozenset(m.key for m in index.catalog.models))
    restricted = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "larder.dev/volume": "hostPath",
    }
    return [
        known,
        replace(known, namespace_labels=restricted, ready=frozenset()),
        replace(known, volumes=VolumeMode.BY_NAMESPACE),
        replace(known, index=None),
    ]


def check(pod: Pod, decision: Decision, view: View) -> None:
    """A decision is whole: a patch exactly with Cached, sound, and the same applied twice."""
    assert bool(decision.operations) == (decision.reason is DecisionReason.CACHED)
    if not decision.operations:
        return
    after = jsonpatch.apply_patch(pod, [o.as_json() for o in decision.operations])
    assert after == apply_patch(pod, decision.operations)
    again = decide(AdmissionRequest(after, "chat"), view)
    assert (again.reason, again.operations) == (DecisionReason.ALREADY_REWRITTEN, ())
    assert again.keys == decision.keys
    if all(operation.op != "remove" for operation in decision.operations):  # placement Prefer
        assert_only_appended(pod, after)


def assert_only_appended(before: Pod, after: Pod) -> None:
    for kind in ("initContainers", "containers"):
        old, new = before["spec"].get(kind), after["spec"].get(kind)
        if not isinstance(old, list):
            assert new == old
            continue
        for was, now in zip(old, new, strict=True):
            if isinstance(was, dict):
                assert_container_kept(was, now)
            else:
                assert now == was
    assert_prefix(before["spec"].get("volumes"), after["spec"].get("volumes"))


def assert_container_kept(was: Any, now: Any) -> None:
    ours = {"command", "env", "volumeMounts", "securityContext"}
    assert {k: v for k, v in was.items() if k not in ours} == {
        k: v for k, v in now.items() if k not in ours
    }
    assert_prefix(was.get("volumeMounts"), now.get("volumeMounts"))
    if isinstance(was.get("env"), list):
        assert foreign(was["env"]) == foreign(now["env"])


def assert_prefix(before: Any, after: Any) -> None:
    if isinstance(before, list):
        assert after[: len(before)] == before
    elif before is not None:
        assert after == before


def foreign(variables: list[Any]) -> list[Any]:
    return [
        v
        for v in variables
        if not (isinstance(v, dict) and str(v.get("name")).startswith("LARDER_"))
    ]


@settings(max_examples=300, deadline=None)
@given(pod=pods | json_values, namespace=st.sampled_from(("chat", "other", "")))
def test_no_pod_however_odd_raises(pod: Pod, namespace: str, index: CatalogIndex) -> None:
    before = copy.deepcopy(pod)
    for view in views_of(index):
        decision = decide(AdmissionRequest(pod, namespace), view)
        assert isinstance(decision.reason, DecisionReason)
        if namespace == "chat":
            check(pod, decision, view)
    assert pod == before


# --- damage done to real pods: closer to the edge than pods made up whole ------------------------


def every_path(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        found += every_path(inner, (*path, key))
    return found


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_real_pod_with_odd_parts_is_decided_soundly(
    data: st.DataObject, index: CatalogIndex, review: Callable[[str], Any]
) -> None:
    name = data.draw(
        st.sampled_from(
            ("hf-raw.after-kserve", "storage-uris.after-kserve", "llm-decode-lora.after-kserve")
        )
    )
    pod = review(name)["request"]["object"]
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from([p for p in every_path(pod) if p]))
        target = pod
        for key in above:
            target = target[key]
        target[last] = data.draw(json_values)
    for view in views_of(index):
        check(pod, decide(AdmissionRequest(pod, "chat"), view), view)
