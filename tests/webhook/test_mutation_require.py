"""Placement Require: the slot's content at the model's path, everything of the download swept."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import jsonpatch
import pytest
import yaml

from larder.catalog import read_catalog
from larder.contract import AGENT_NODE_LABEL, DecisionReason
from larder.identity import identity_of
from larder.layout import Key
from larder.matching import CatalogIndex
from tests.fakes.kserve_mutator import SOURCE_URI, KServe, Surroundings, mount_tokens
from tests.fakes.predictor_pods import (
    SHAPES,
    Shape,
    annotated,
    beside,
    first,
    llm,
    recorded,
    server,
    shape,
    spec,
    uri,
    volume,
)
from webhook.mutation import AdmissionRequest, Decision, View, apply_patch, decide

Pod = Any
Edit = Callable[[Pod], object]

CATALOG = """
apiVersion: larder.dev/v1alpha1
kind: Catalog
nodeGroups:
- name: h100
  nodeSelector: {matchLabels: {gpu: h100}}
- name: new
  nodeSelector:
    matchExpressions:
    - {key: disk, operator: Exists}
    - {key: zone, operator: NotIn, values: [a, b]}
models:
- {name: qwen, storageUri: "hf://Qwen/Qwen2-0.5B-Instruct", revision: main, namespaces: [chat], placement: Require, nodeGroups: [new, h100]}
- {name: anywhere, storageUri: "hf://org/anywhere", revision: main, namespaces: [chat], placement: Require}
- {name: plain, storageUri: "s3://models/llama", namespaces: [chat]}
"""  # noqa: E501 - an entry a line reads best
ROOT = "/var/lib/larder"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
QWEN = "hf://Qwen/Qwen2-0.5B-Instruct"
KEY = identity_of(QWEN, revision="main").key
VOLUME = {
    "name": f"larder-{KEY}",
    "hostPath": {"path": f"{ROOT}/slots/{KEY}/content", "type": "Directory"},
}
MODEL = "kserve-provision-location"
AGENT = {"key": "kserve/localmodel", "operator": "In", "values": ["worker"]}
H100 = [AGENT, {"key": "gpu", "operator": "In", "values": ["h100"]}]
NEW = [
    AGENT,
    {"key": "disk", "operator": "Exists"},
    {"key": "zone", "operator": "NotIn", "values": ["a", "b"]},
]


@pytest.fixture(scope="module")
def required() -> View:
    return View(CatalogIndex(read_catalog(CATALOG.encode(), standalone=True)), PurePosixPath(ROOT))


def decided(pod: Pod, view: View) -> Decision:
    return decide(AdmissionRequest(pod, "chat"), view)


def placed(pod: Pod, view: View) -> Pod:
    before = copy.deepcopy(pod)
    decision = decided(pod, view)
    assert decision.reason is DecisionReason.CACHED, decision.detail
    assert pod == before
    after = jsonpatch.apply_patch(pod, [o.as_json() for o in decision.operations])
    assert after == apply_patch(pod, decision.operations)
    return after


def after_kserve(*edits: Edit, around: Surroundings = Surroundings()) -> Pod:  # noqa: B008 - frozen
    return KServe(around=around).mutate(shape(*edits).before)


def test_the_content_stands_at_the_models_path_and_the_download_is_gone(required: View) -> None:
    pod = recorded("hf-raw.after-kserve")
    after = placed(pod, required)
    expected = copy.deepcopy(pod)
    expected["spec"]["initContainers"] = []
    expected["spec"]["volumes"][-1] = VOLUME
    expected["spec"]["containers"][0]["volumeMounts"][-1]["name"] = VOLUME["name"]
    terms = [{"matchExpressions": H100}, {"matchExpressions": NEW}]
    expected["spec"]["affinity"] = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}
    annotations = expected["metadata"]["annotations"]
    annotations["larder.dev/storage-initializer-sourceuri"] = annotations.pop(SOURCE_URI)
    annotations |= {"larder.dev/decision": "Cached", "larder.dev/keys": KEY}
    assert after == expected


def test_an_entry_without_groups_goes_to_any_node_of_an_agent(required: View) -> None:
    after = placed(after_kserve(uri("hf://org/anywhere")), required)
    terms = after["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [AGENT]}]


def test_the_label_that_is_required_is_the_one_that_agents_run_by() -> None:
    deploy = Path(__file__).parents[2] / "deploy/base/programs/agent/daemonset.yaml"
    pod = yaml.safe_load(deploy.read_text())["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == dict([AGENT_NODE_LABEL])


def test_a_ready_node_is_only_preferred(required: View) -> None:
    ready = replace(required, ready=frozenset({KEY, Key("0" * 16)}))
    affinity = placed(after_kserve(), ready)["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity[PREFERRED]
    assert term["preference"]["matchExpressions"][0]["key"] == f"model.larder.dev/{KEY}"
    assert "model.larder.dev" not in str(affinity[REQUIRED])


def test_what_the_pod_requires_itself_stays_required(required: View) -> None:
    theirs = {"key": "zone", "operator": "In", "values": ["c"]}
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [theirs]}]}}}
    pod = after_kserve(
        spec(affinity=affinity, nodeSelector={"a": "b"}, topologySpreadConstraints=[{"maxSkew": 1}])
    )
    after = placed(pod, required)["spec"]
    terms = after["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert [t["matchExpressions"][0] for t in terms] == [theirs, theirs]
    assert (after["nodeSelector"], after["topologySpreadConstraints"]) == (
        {"a": "b"},
        [{"maxSkew": 1}],
    )


def test_no_hostname_is_ever_required(required: View) -> None:
    assert "hostname" not in str(placed(after_kserve(), required)["spec"]["affinity"])


SWEPT = Surroundings(
    variables=[{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/var/secrets/x.json"}],
    credentials={
        "user-gcp-sa": ("/var/secrets/", {"secret": {"secretName": "gcp"}}),
        "shared": ("/shared", {"emptyDir": {}}),
        "disk": ("/disk", {"emptyDir": {}}),
    },
    ca_bundle="global-ca-bundle",
)


def test_what_only_the_download_needed_is_swept(required: View) -> None:
    pod = after_kserve(
        volume("lonely", emptyDir={}),
        beside("other", {"name": "shared", "mountPath": "/s"}),
        beside("block", volumeDevices=[{"name": "disk", "devicePath": "/dev/x"}]),
        around=SWEPT,
    )
    after = placed(pod, required)
    names = [v["name"] for v in after["spec"]["volumes"]]
    assert names == ["devshm", "kube-api-access-h8c7z", "lonely", "shared", "disk", VOLUME["name"]]


def test_everyone_who_mounted_the_model_mounts_the_content_where_the_model_was(
    required: View,
) -> None:
    model = {"name": MODEL, "mountPath": "/watched", "readOnly": True}
    pod = after_kserve(
        first("before", model),
        beside("transformer-container"),
        beside("watcher", {"name": "devshm", "mountPath": "/dev/shm"}, model),  # noqa: S108 - of a pod
        volume(MODEL, emptyDir={}),
    )
    pod["spec"]["initContainers"].append({"name": "after", "volumeMounts": [dict(model)]})
    after = placed(pod, required)["spec"]
    ours = {
        c["name"]: [m for m in c["volumeMounts"] if m["name"] == VOLUME["name"]]
        for c in [*after["initContainers"], *after["containers"]]
    }
    paths = {name: [m["mountPath"] for m in mounts] for name, mounts in ours.items()}
    assert paths == {
        "before": ["/watched"],
        "after": ["/watched"],
        "kserve-container": ["/mnt/models"],
        "transformer-container": ["/mnt/models"],
        "watcher": ["/watched"],
    }
    assert all(m["readOnly"] is True and "subPath" not in m for ms in ours.values() for m in ms)


UNFIT: dict[str, Shape] = {
    "several URIs": SHAPES["storageUris, all cached"],
    "below a shared parent mount": llm(
        "llm-decode-lora",
        lambda pod: pod["spec"]["initContainers"][1].update(args=[QWEN, "/mnt/models"]),
    ),
    "nodeName": SHAPES["nodeName"],
    "as a DaemonSet places it": shape(
        spec(
            affinity={
                "nodeAffinity": {
                    REQUIRED: {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "metadata.name", "operator": "In"}]}
                        ]
                    }
                }
            }
        )
    ),
    "more alternatives than can be written down": shape(
        spec(
            affinity={
                "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchFields": None}] * 33}}
            }
        )
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_pod_that_cannot_be_placed_is_left_to_kserve(name: str, required: View) -> None:
    pod = KServe().mutate(UNFIT[name].before)
    decision = decided(pod, required)
    assert decision.reason is DecisionReason.PLACEMENT_UNSUPPORTED
    assert decision.operations == ()
    assert decision.detail


def test_a_part_of_a_model_is_never_mounted(required: View) -> None:
    assert required.index
    catalog = required.index.catalog
    models = [m.model_copy(update={"placement": "Require"}) for m in catalog.models]
    trees = CatalogIndex(catalog.model_copy(update={"models": models}))  # when agents fill them
    view = replace(required, index=trees)
    reasons = [
        decided(after_kserve(uri(text)), view).reason
        for text in ("s3://models/llama", "s3://models/llama/part")
    ]
    assert reasons == [DecisionReason.CACHED, DecisionReason.PLACEMENT_UNSUPPORTED]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        pytest.param(
            annotated(**{"storage.kserve.io/readonly": "false"}),
            DecisionReason.WRITABLE_MOUNT_REQUESTED,
            id="read-write",
        ),
        pytest.param(
            volume(MODEL, persistentVolumeClaim={"claimName": "c"}),
            DecisionReason.MODEL_VOLUME_NOT_EMPTY_DIR,
            id="a claim under KServe's name",
        ),
        pytest.param(
            volume(f"larder-{KEY}", emptyDir={}),
            DecisionReason.CUSTOM_STORAGE_CONTAINER,
            id="a volume under our name",
        ),
        pytest.param(spec(hostUsers=False), DecisionReason.NODE_CANNOT_MOUNT, id="own users"),
    ],
)
def test_what_forbids_a_rewrite_forbids_a_placement(
    edit: Edit, reason: DecisionReason, required: View
) -> None:
    decision = decided(after_kserve(edit), required)
    assert (decision.reason, decision.operations) == (reason, ())


def test_a_volume_whose_name_is_no_text_is_not_swept(required: View) -> None:
    pod = after_kserve()
    pod["spec"]["volumes"].append({"name": {"odd": 1}, "emptyDir": {}})
    assert decided(pod, required).reason is DecisionReason.INVALID_POD


def test_observing_places_nothing(required: View) -> None:
    observing = replace(required, namespace_labels={"larder.dev/mode": "Observe"})
    decision = decided(after_kserve(), observing)
    assert (decision.reason, decision.operations) == (DecisionReason.OBSERVING, ())


PLACED = [
    "raw deployment",
    "Knative behind Istio",
    "custom predictor",
    "collocated transformer",
    "credentials of GCS",
    "CA bundle",
    "Istio's CNI, uid of the sidecar",
    "restricted security context",
    "EKS' identity for service accounts",
    "a native sidecar",
    "LLM, single",
    "LLM, worker",
]


@pytest.mark.parametrize("name", PLACED)
def test_nothing_comes_back_in_any_order(name: str, required: View) -> None:
    row = SHAPES[name]
    kserve = KServe(around=row.around)
    once = placed(kserve.mutate(mount_tokens(row.before)), required)
    again = mount_tokens(once, "kube-api-access-third")
    for _ in range(2):
        again = kserve.mutate(again)
        assert MODEL not in {v["name"] for v in again["spec"]["volumes"]}
        assert "storage-initializer" not in {c["name"] for c in again["spec"]["initContainers"]}
        decision = decided(again, required)
        assert decision.reason is DecisionReason.ALREADY_REWRITTEN
        assert (decision.operations, decision.keys) == ((), (KEY,))
    mounts = [m["name"] for c in again["spec"]["containers"] for m in c.get("volumeMounts", [])]
    volumes = [v["name"] for v in again["spec"]["volumes"]]
    assert set(mounts) <= set(volumes)
    assert mounts.count(VOLUME["name"]) >= 1


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        pytest.param(
            annotated(**{"larder.dev/decision": "Cached", "larder.dev/keys": KEY}),
            DecisionReason.NO_STORAGE_INITIALIZER,
            id="no volume of that slot",
        ),
        pytest.param(
            annotated(**{"larder.dev/decision": "Cached"}),
            DecisionReason.NO_STORAGE_INITIALIZER,
            id="no slot",
        ),
        pytest.param(
            volume(f"larder-{KEY}", emptyDir={}),
            DecisionReason.NO_STORAGE_INITIALIZER,
            id="no decision",
        ),
    ],
)
def test_words_alone_make_no_placed_pod(edit: Edit, reason: DecisionReason, view: View) -> None:
    pod = shape(edit).before
    assert decided(pod, view).reason is reason


def test_a_placed_pod_that_opts_out_says_so(required: View) -> None:
    pod = placed(after_kserve(server()), required)
    pod["metadata"]["labels"]["larder.dev/cache"] = "disabled"
    assert decided(pod, required).reason is DecisionReason.OPTED_OUT
