"""Webhook and agent one version apart: each reads what the other wrote, or takes it for nothing.

`tests/recorded/0.1.0` is what that version's programs wrote. It is never edited: what a later
version writes otherwise stands beside it, in a directory of its own. What runs in pods is in
`tests/initializer/test_initializer_version_skew.py`.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from agent.planning.mounted import keys_mounted
from agent.planning.node_reports import node_labels
from larder.catalog import read_catalog
from larder.claims import Claim
from larder.contract import KEYS_ANNOTATION, SLOTS_VARIABLE, STORAGE_INITIALIZER, parse_slots
from larder.layout import Key, parse_layout
from larder.manifest import parse_manifest
from larder.matching import CatalogIndex
from larder.node_report import NodeReport, parse_node_report
from larder.status import ModelState, parse_status
from webhook.mutation import AdmissionRequest, View, VolumeMode, apply_patch, decide

RECORDED = Path(__file__).parents[1] / "recorded/0.1.0"
ROOT = PurePosixPath("/var/lib/larder")
QWEN = Key("6378328551d57e5c")
SLOT = RECORDED / "root/slots" / QWEN
COMMIT = "c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
STATUSES = (RECORDED / "statuses").read_text().splitlines()
REPORT = (RECORDED / "node-report.json").read_text()
LAYOUT = (RECORDED / "root/layout.json").read_text()
PODS = {path.stem: json.loads(path.read_text()) for path in sorted(RECORDED.glob("pods/*.json"))}
PREFERRED = [name for name in PODS if name != "require"]
CATALOG = read_catalog((RECORDED / "catalog.yaml").read_bytes(), standalone=False)
VIEW = View(
    CatalogIndex(CATALOG),
    ROOT,
    VolumeMode.BY_NAMESPACE,
    {"larder.dev/volume": "hostPath"},
    frozenset({QWEN}),
)


def view_of(name: str) -> View:
    """What a webhook of today knows where that pod was made."""
    if name == "claim":
        claims = frozenset({Claim("chat", QWEN).name})
        return View(VIEW.index, ROOT, VolumeMode.BY_NAMESPACE, {}, frozenset(), claims)
    return VIEW


def fresh(name: str) -> Any:
    return json.loads(json.dumps(PODS[name]))


def initializer_of(pod: Any) -> Any:
    return next(c for c in pod["spec"]["initContainers"] if c["name"] == STORAGE_INITIALIZER)


def variables(pod: Any) -> dict[str, Any]:
    return {variable["name"]: variable for variable in initializer_of(pod)["env"]}


def later(text: str) -> str:
    """The same with keys that nobody knows yet, in every object."""

    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {n: grown(v) for n, v in value.items()} | {"later": {"at": [1, None]}}
        return [grown(v) for v in value] if isinstance(value, list) else value

    return json.dumps(grown(json.loads(text)))


def with_keys(text: str, **keys: Any) -> str:
    return json.dumps(json.loads(text) | keys)


# --- what 0.1.0 wrote -----------------------------------------------------------------------------


def test_every_status_is_read() -> None:
    found = [parse_status(text) for text in STATUSES]
    assert [status.state for status in found if status] == [
        *(ModelState(json.loads(text)["state"]) for text in STATUSES)
    ]
    downloading = found[2]
    assert downloading
    assert (downloading.sequence, downloading.bytes_done, downloading.eta_seconds) == (17, 1024, 6)
    assert (downloading.join_timeout_seconds, downloading.revision) == (1800, COMMIT)
    assert found[6]
    assert (found[6].reason, found[6].unlisted_since) == ("AccessDenied", 1795269466)
    assert found[8]
    assert found[8].restarting
    assert {status.state for status in found if status} == set(ModelState)


def test_a_nodes_report_is_read() -> None:
    report = parse_node_report(REPORT)
    assert report
    assert (report.node, report.node_groups) == ("gpu-7", ("h100",))
    assert [model.state for model in report.models] == list(ModelState)
    assert (report.budget_bytes, report.used_bytes) == (10**12, 10**9)


def test_a_slot_and_its_root_are_read() -> None:
    layout = parse_layout(LAYOUT)
    assert layout
    assert layout.is_usable
    manifest = parse_manifest((SLOT / "manifest").read_text())
    assert (manifest.storage_uri, manifest.revision) == ("hf://Qwen/Qwen2-0.5B-Instruct", COMMIT)
    assert [file.path for file in manifest.files] == ["config.json", "weights/part-1.bin"]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_that_was_rewritten_is_left_as_it_is(name: str) -> None:
    decision = decide(AdmissionRequest(PODS[name], "chat"), view_of(name))
    assert (decision.reason, decision.operations) == ("AlreadyRewritten", ())
    assert ",".join(decision.keys) == PODS[name]["metadata"]["annotations"][KEYS_ANNOTATION]


@pytest.mark.parametrize("name", PODS)
def test_an_agent_sees_what_such_a_pod_mounts(name: str) -> None:
    keys = PODS[name]["metadata"]["annotations"][KEYS_ANNOTATION]
    assert keys_mounted(PODS[name], ROOT) == set(keys.split(","))


@pytest.mark.parametrize("name", PREFERRED)
def test_the_slots_of_such_a_pod_are_read(name: str) -> None:
    mounts = parse_slots(variables(PODS[name])[SLOTS_VARIABLE]["value"])
    assert mounts
    keys = PODS[name]["metadata"]["annotations"][KEYS_ANNOTATION]
    assert {mount.mount_path for mount in mounts} == {f"/larder/{k}" for k in keys.split(",")}


def test_such_a_pod_prefers_nodes_that_an_agent_of_today_labels() -> None:
    (term,) = PODS["host-path"]["spec"]["affinity"]["nodeAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    (wanted,) = term["preference"]["matchExpressions"]
    model = parse_node_report(REPORT.replace("0000000000000004", QWEN))
    assert model
    assert node_labels(NodeReport("gpu-7", models=model.models))[wanted["key"]] in wanted["values"]


# --- what a later version may write ---------------------------------------------------------------


@pytest.mark.parametrize("text", STATUSES)
def test_a_status_with_keys_that_nobody_knows_is_read(text: str) -> None:
    assert parse_status(later(text)) == parse_status(text) is not None


@pytest.mark.parametrize("keys", [{"version": 2}, {"version": "1.1"}, {"state": "Warming"}])
def test_a_status_of_another_version_or_state_is_none(keys: dict[str, Any]) -> None:
    assert parse_status(with_keys(STATUSES[2], **keys)) is None


def test_a_report_with_keys_that_nobody_knows_is_read() -> None:
    assert parse_node_report(later(REPORT)) == parse_node_report(REPORT)


def test_of_a_report_a_model_in_a_state_that_nobody_knows_is_left_out_alone() -> None:
    report = parse_node_report(REPORT.replace('"Evicting"', '"Warming"'))
    assert report
    states = [state for state in ModelState if state is not ModelState.EVICTING]
    assert [model.state for model in report.models] == states


def test_a_report_of_another_version_is_none() -> None:
    assert parse_node_report(with_keys(REPORT, version=2)) is None


@pytest.mark.parametrize(
    ("schema", "oldest_reader", "is_usable"),
    [
        pytest.param(2, 1, True, id="a newer tree that this version may still use"),
        pytest.param(2, 2, False, id="a newer tree that it may not"),
    ],
)
def test_a_later_root_says_itself_who_may_use_it(
    schema: int, oldest_reader: int, is_usable: bool
) -> None:
    text = later(with_keys(LAYOUT, schema=schema, oldestReader=oldest_reader))
    layout = parse_layout(text)
    assert layout
    assert layout.is_usable == is_usable


def test_a_later_manifest_is_refused_with_a_sentence() -> None:
    text = (SLOT / "manifest").read_text()
    with pytest.raises(ValueError, match="manifest version '2' is not '1'"):
        parse_manifest("2" + text[1:])


def _with_later_slots(pod: Any) -> None:
    variables(pod)[SLOTS_VARIABLE]["value"] = "2\nsomething else\n"


def _with_a_later_command(pod: Any) -> None:
    initializer_of(pod)["command"] = ["/larder/start", "storage-initializer"]


def _with_more(pod: Any) -> None:
    pod["metadata"]["annotations"] |= {"larder.dev/later": "x", "larder.dev/decision": "Warmed"}
    initializer_of(pod)["env"].append({"name": "LARDER_LATER", "value": "1"})


@pytest.mark.parametrize("name", PREFERRED)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(_with_a_later_command, "CustomStorageContainer", id="another command"),
        pytest.param(_with_later_slots, "Cached", id="another version of the slots: written anew"),
        pytest.param(_with_more, "Cached", id="more annotations: ours are written anew"),
    ],
)
def test_a_pod_that_a_later_webhook_rewrote_is_left_alone_or_made_one_of_ours(
    name: str, change: Any, reason: str
) -> None:
    pod = fresh(name)
    change(pod)
    decision = decide(AdmissionRequest(pod, "chat"), view_of(name))
    assert decision.reason == reason
    if reason == "Cached":
        ours = apply_patch(pod, decision.operations)
        assert parse_slots(variables(ours)[SLOTS_VARIABLE]["value"])
    assert keys_mounted(pod, ROOT) == keys_mounted(PODS[name], ROOT)


@pytest.mark.parametrize("text", ["2\nx", "1\none\ttwo", "1\na\tb\tc\td\te", "", "1.1\n"])
def test_slots_of_another_version_or_shape_are_none(text: str) -> None:
    assert parse_slots(text) is None
