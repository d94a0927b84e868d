"""What the patch makes of a pod, part by part."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import jsonpatch
import pytest

from larder.catalog import read_catalog
from larder.contract import (
    INITIALIZER_COMMAND,
    KSERVE_ENTRYPOINT,
    DecisionReason,
    SlotMount,
    parse_slots,
)
from larder.identity import identity_of
from larder.matching import CatalogIndex
from webhook.mutation import AdmissionRequest, View, apply_patch, decide

COMMIT = "c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
QWEN = "hf://Qwen/Qwen2-0.5B-Instruct"
QWEN_KEY = identity_of(QWEN, revision=COMMIT).key
LLAMA_KEY = identity_of("s3://models/llama").key
ADAPTERS_KEY = identity_of("s3://adapters").key

Pod = Any


def rewritten(pod: Pod, view: View) -> Pod:
    """The pod after its patch, which is applied by a library that knows nothing of ours."""
    before = copy.deepcopy(pod)
    decision = decide(AdmissionRequest(pod, "chat"), view)
    assert decision.reason is DecisionReason.CACHED, decision.detail
    assert pod == before
    after: Pod = jsonpatch.apply_patch(pod, [o.as_json() for o in decision.operations])
    assert after == apply_patch(pod, decision.operations)
    return after


def initializer(pod: Pod) -> Any:
    return next(c for c in pod["spec"]["initContainers"] if c["name"] == "storage-initializer")


def slots(pod: Pod) -> tuple[SlotMount, ...]:
    values = [v["value"] for v in initializer(pod)["env"] if v["name"] == "LARDER_SLOTS"]
    assert len(values) == 1
    rows = parse_slots(values[0])
    assert rows is not None
    return rows


def larder_mounts(container: Any) -> list[Any]:
    return [m for m in container["volumeMounts"] if m["mountPath"].startswith("/larder")]


def mount(key: str) -> dict[str, object]:
    return {"name": f"larder-{key}", "mountPath": f"/larder/{key}", "readOnly": True}


def volume(key: str, root: str = "/var/lib/larder") -> dict[str, object]:
    path = f"{root}/slots/{key}"
    return {"name": f"larder-{key}", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}


def test_only_the_named_parts_of_the_pod_change(pod: Pod, view: View) -> None:
    after = rewritten(pod, view)
    init = initializer(pod)
    init["command"] = list(INITIALIZER_COMMAND)
    init["env"] += [
        {
            "name": "LARDER_SLOTS",
            "value": f"1\n{QWEN}\t/larder/{QWEN_KEY}\t\t{QWEN}:{COMMIT}\n",
        },
        {"name": "LARDER_FALLBACK", "value": KSERVE_ENTRYPOINT},
    ]
    init["volumeMounts"].append(mount(QWEN_KEY))
    pod["spec"]["containers"][0]["volumeMounts"].append(mount(QWEN_KEY))
    pod["spec"]["volumes"].append(volume(QWEN_KEY))
    pod["metadata"]["annotations"] |= {"larder.dev/decision": "Cached", "larder.dev/keys": QWEN_KEY}
    assert after == pod


def test_a_second_application_changes_nothing(pod: Pod, view: View) -> None:
    again = decide(AdmissionRequest(rewritten(pod, view), "chat"), view)
    assert (again.reason, again.operations) == (DecisionReason.ALREADY_REWRITTEN, ())
    assert again.keys == (QWEN_KEY,)


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda pod: initializer(pod).pop("command"), id="the command"),
        pytest.param(lambda pod: initializer(pod)["env"].pop(), id="a variable"),
        pytest.param(
            lambda pod: initializer(pod)["env"][-2].update(value="1\n"), id="a variable's value"
        ),
        pytest.param(lambda pod: initializer(pod)["volumeMounts"].pop(), id="a mount"),
        pytest.param(lambda pod: pod["metadata"].pop("annotations"), id="the annotations"),
        pytest.param(
            lambda pod: pod["metadata"]["annotations"].update({"larder.dev/keys": "x"}),
            id="a forged annotation",
        ),
    ],
)
def test_what_somebody_took_away_is_put_back(
    loss: Callable[[Pod], object], pod: Pod, view: View
) -> None:
    pod["metadata"]["annotations"] = {}
    complete = rewritten(pod, view)
    damaged = copy.deepcopy(complete)
    loss(damaged)
    assert damaged != complete
    assert rewritten(damaged, view) == complete


@pytest.mark.parametrize(
    "copy_of_ours",
    [
        pytest.param(
            lambda pod: pod["spec"]["volumes"].append(pod["spec"]["volumes"][-1]), id="a volume"
        ),
        pytest.param(
            lambda pod: initializer(pod)["volumeMounts"].append(mount(QWEN_KEY)), id="a mount"
        ),
        pytest.param(
            lambda pod: initializer(pod)["volumeMounts"][-1].update(readOnly=False),
            id="a mount to write",
        ),
        pytest.param(
            lambda pod: pod["spec"]["containers"].append(
                {"name": "spy", "volumeMounts": [mount(QWEN_KEY)]}
            ),
            id="a mount of somebody who has no model",
        ),
    ],
)
def test_what_looks_like_ours_and_is_not_is_never_used(
    copy_of_ours: Callable[[Pod], object], pod: Pod, view: View
) -> None:
    forged = rewritten(pod, view)
    copy_of_ours(forged)
    decision = decide(AdmissionRequest(forged, "chat"), view)
    assert decision.reason is DecisionReason.CUSTOM_STORAGE_CONTAINER
    assert decision.operations == ()


def test_forged_variables_are_replaced_each(pod: Pod, view: View) -> None:
    initializer(pod)["env"] = [
        {"name": "LARDER_FALLBACK", "value": "/bin/evil"},
        {"name": "KEEP", "value": "1"},
        {"name": "LARDER_FALLBACK", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    environment = initializer(rewritten(pod, view))["env"]
    fallback = {"name": "LARDER_FALLBACK", "value": KSERVE_ENTRYPOINT}
    assert environment[:3] == [fallback, {"name": "KEEP", "value": "1"}, fallback]
    assert [v["name"] for v in environment[3:]] == ["LARDER_SLOTS"]


@pytest.mark.parametrize("env", [None, "absent"], ids=["null", "absent"])
def test_an_initializer_without_variables_gets_ours(env: object, pod: Pod, view: View) -> None:
    initializer(pod)["env"] = env
    if env == "absent":
        del initializer(pod)["env"]
    names = [v["name"] for v in initializer(rewritten(pod, view))["env"]]
    assert names == ["LARDER_SLOTS", "LARDER_FALLBACK"]


def test_a_listed_image_falls_back_to_its_own_entrypoint(pod: Pod, view: View) -> None:
    initializer(pod)["image"] = "registry.example:5000/our/fetcher:3"
    environment = initializer(rewritten(pod, view))["env"]
    assert environment[-1] == {"name": "LARDER_FALLBACK", "value": "/bin/fetch"}


def test_the_slot_lies_under_the_cache_root_of_the_install(pod: Pod, view: View) -> None:
    elsewhere = replace(view, cache_root=PurePosixPath("/mnt/nvme/larder"))
    after = rewritten(pod, elsewhere)
    assert after["spec"]["volumes"][-1] == volume(QWEN_KEY, "/mnt/nvme/larder")


def test_everyone_who_mounts_the_model_mounts_its_slot(
    review: Callable[[str], Any], view: View
) -> None:
    pod = review("llm-decode-lora.after-kserve")["request"]["object"]
    model = json.dumps(pod["spec"]["containers"][0]["volumeMounts"][-2])
    first, last = ({"name": n, "volumeMounts": [json.loads(model)]} for n in ("first", "last"))
    pod["spec"]["initContainers"].insert(0, first)
    pod["spec"]["containers"].append(last)
    after = rewritten(pod, view)
    mounts = {
        c["name"]: larder_mounts(c)
        for kind in ("initContainers", "containers")
        for c in after["spec"][kind]
    }
    assert mounts == {
        "first": [mount(LLAMA_KEY)],
        "llm-d-routing-sidecar": [],
        "storage-initializer": [mount(LLAMA_KEY)],
        "main": [mount(LLAMA_KEY)],
        "last": [mount(LLAMA_KEY)],
    }


def test_only_the_uris_that_match_are_served(review: Callable[[str], Any], view: View) -> None:
    pod = review("llm-decode-lora.after-kserve")["request"]["object"]
    assert [row.uri for row in slots(rewritten(pod, view))] == ["s3://models/llama"]


def test_each_uri_has_its_slot(review: Callable[[str], Any], view: View) -> None:
    pod = review("storage-uris.after-kserve")["request"]["object"]
    after = rewritten(pod, view)
    assert slots(after) == (
        SlotMount(QWEN, f"/larder/{QWEN_KEY}", "", f"{QWEN}:{COMMIT}"),
        SlotMount(
            "s3://adapters/lora-1", f"/larder/{ADAPTERS_KEY}", "lora-1", "s3://adapters/lora-1"
        ),
    )
    keys = sorted([QWEN_KEY, ADAPTERS_KEY])
    assert after["metadata"]["annotations"]["larder.dev/keys"] == ",".join(keys)
    assert after["spec"]["volumes"][-2:] == [volume(key) for key in keys]
    assert larder_mounts(after["spec"]["containers"][0]) == [mount(key) for key in keys]


def test_parts_of_one_entry_share_a_slot(pod: Pod, view: View) -> None:
    initializer(pod)["args"] = [
        *("s3://adapters/a", "/mnt/models/a", "s3://adapters/b", "/mnt/models/b"),
        *("s3://adapters/a", "/mnt/models/again"),
    ]
    after = rewritten(pod, view)
    assert [(row.uri, row.subpath) for row in slots(after)] == [
        ("s3://adapters/a", "a"),
        ("s3://adapters/b", "b"),
    ]
    assert larder_mounts(initializer(after)) == [mount(ADAPTERS_KEY)]


def test_models_in_two_volumes_are_mounted_where_they_are_read(pod: Pod, view: View) -> None:
    pod["spec"]["volumes"].append({"name": "second", "emptyDir": {}})
    initializer(pod)["volumeMounts"].append({"name": "second", "mountPath": "/mnt/second"})
    initializer(pod)["args"] += ["s3://models/llama", "/mnt/second"]
    after = rewritten(pod, view)
    assert larder_mounts(after["spec"]["containers"][0]) == [mount(QWEN_KEY)]
    both = sorted([QWEN_KEY, LLAMA_KEY])
    assert larder_mounts(initializer(after)) == [mount(key) for key in both]


@pytest.mark.parametrize(
    ("uri", "row"),
    [
        pytest.param(
            QWEN + "/",
            SlotMount(QWEN + "/", f"/larder/{QWEN_KEY}", "", f"{QWEN}:{COMMIT}"),
            id="a trailing slash",
        ),
        pytest.param(
            "hf://org/branch",
            SlotMount(
                "hf://org/branch",
                f"/larder/{identity_of('hf://org/branch', revision='refs/pr/1').key}",
                "",
                "hf://org/branch",
            ),
            id="a revision that KServe's downloader would refuse stays out",
        ),
        pytest.param(
            "s3://adapters/a$b",
            SlotMount("s3://adapters/a$b", f"/larder/{ADAPTERS_KEY}", "a$$b", "s3://adapters/a$b"),
            id="a dollar of the tenant's, which ours doubles",
        ),
        pytest.param(
            "s3://adapters/a$$b",
            SlotMount(
                "s3://adapters/a$$b", f"/larder/{ADAPTERS_KEY}", "a$$b", "s3://adapters/a$$b"
            ),
            id="a dollar that is escaped already",
        ),
        pytest.param(
            "s3://adapters/ü b",
            SlotMount("s3://adapters/ü b", f"/larder/{ADAPTERS_KEY}", "ü b", "s3://adapters/ü b"),
            id="letters and spaces",
        ),
    ],
)
def test_a_uri_is_written_as_the_initializer_will_see_it(
    uri: str, row: SlotMount, pod: Pod, view: View
) -> None:
    initializer(pod)["args"][0] = uri
    assert slots(rewritten(pod, view)) == (row,)


def test_a_later_catalog_does_not_touch_a_rewritten_pod(
    pod: Pod, view: View, catalog_text: str
) -> None:
    after = rewritten(pod, view)
    index = CatalogIndex(
        read_catalog(catalog_text.replace(COMMIT, "main").encode(), standalone=True)
    )
    decision = decide(AdmissionRequest(after, "chat"), replace(view, index=index))
    assert decision.operations == ()
