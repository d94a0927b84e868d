"""Reports are taken in for what they are, and nodes that differ are flagged once."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from larder.layout import Key
from larder.node_report import DATA_KEY, ModelReport, NodeReport, config_map_name
from larder.status import ModelState
from webhook.metrics import Metrics
from webhook.node_reports import NODE_REPORTS, NodeReports, facts_only

KEY = Key("a" * 16)


def report(node: str, revision: str = "1" * 40, done: int = 0) -> NodeReport:
    model = ModelReport(KEY, "a", ModelState.READY, revision=revision, bytes_done=done)
    return NodeReport(node, 10, disk_bytes=20, models=(model,), node_groups=("h100",))


def config_map(node: str, data: object = None, **fields: Any) -> dict[str, Any]:
    metadata = {"namespace": "larder-system", "name": config_map_name(node), "uid": f"u-{node}"}
    more = {"resourceVersion": "7", "annotations": {"long": "x" * 1000}, "labels": {"a": "b"}}
    text = report(node, **fields).text()
    return {"metadata": metadata | more, "data": {DATA_KEY: text} if data is None else data}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def reports(metrics: Metrics) -> NodeReports:
    return NodeReports(metrics)


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"larder_webhook_{name}")


def test_the_reports_are_asked_for_by_their_label() -> None:
    assert NODE_REPORTS.label_selector == "app.kubernetes.io/component=node-report"


def test_of_a_report_only_its_facts_stay_in_memory() -> None:
    kept = facts_only(config_map("gpu-7"))
    facts = kept.pop("facts")
    assert kept == {
        "metadata": {
            "namespace": "larder-system",
            "name": "larder-node-gpu-7",
            "uid": "u-gpu-7",
            "resourceVersion": "7",
        }
    }
    assert (facts.node, facts.budget_bytes, facts.groups) == ("gpu-7", 10, {"h100"})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(config_map("n", data=None) | {"data": None}, id="no data"),
        pytest.param(config_map("n", data="odd"), id="data that are text"),
        pytest.param(config_map("n", data={}), id="no key"),
        pytest.param(config_map("n", data={DATA_KEY: 7}), id="a number"),
        pytest.param(config_map("n", data={DATA_KEY: '{"version": 9}'}), id="a later version"),
        pytest.param(config_map("n", data={DATA_KEY: report("m").text()}), id="another node's"),
        pytest.param(
            config_map("n", data={DATA_KEY: report("m" * 250).text()}), id="a node of no such name"
        ),
    ],
)
def test_what_is_no_report_is_ignored_counted_and_said_once(
    reports: NodeReports, metrics: Metrics, content: dict[str, Any]
) -> None:
    contents = [facts_only(content), facts_only(config_map("gpu-7"))]
    with capture_logs() as logs:
        for _ in range(3):
            assert [node.node for node in reports.take(contents)] == ["gpu-7"]
    assert [(log["event"], log["config_maps"]) for log in logs] == [
        ("node reports ignored", ["larder-node-n"])
    ]
    assert value(metrics, "unreadable_node_reports") == 1
    assert value(metrics, "node_reports") == 1
    reports.take(contents[1:])
    assert value(metrics, "unreadable_node_reports") == 0


def test_nodes_that_differ_in_a_revision_are_flagged_until_they_agree(
    reports: NodeReports, metrics: Metrics
) -> None:
    one, other = config_map("n1"), config_map("n2", revision="2" * 40)
    with capture_logs() as logs:
        for _ in range(2):
            reports.take([facts_only(one), facts_only(other)])
        assert value(metrics, "differing_revisions") == 1
        reports.take([facts_only(one), facts_only(config_map("n2"))])
    assert [(log["event"], log["key"]) for log in logs] == [
        ("nodes differ in a model's revision", KEY)
    ]
    assert logs[0]["revisions"] == ("1" * 40, "2" * 40)
    assert value(metrics, "differing_revisions") == 0


def test_progress_leaves_what_is_known_as_it_is(reports: NodeReports) -> None:
    before = reports.take([facts_only(config_map("n1"))])
    assert reports.take([facts_only(config_map("n1", done=9))]) is before
