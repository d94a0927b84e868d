"""What a node tells the cluster survives its document, and is told no more often than it must."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.layout import Key
from larder.node_report import (
    ModelReport,
    NodeReport,
    config_map_name,
    is_due,
    parse_node_report,
    report_in,
)
from larder.status import ModelState

KEY = Key("a" * 16)
MODEL = ModelReport(KEY, "llama", ModelState.DOWNLOADING, None, None, "c" * 40, 5, 10, 1, 5)
REPORT = NodeReport("gpu-7", 100, 50, 1000, 400, (), (MODEL,))

texts = st.none() | st.text(max_size=20)
counts = st.integers(0, 2**60)
models = st.builds(
    ModelReport,
    st.integers(0, 2**64 - 1).map(lambda n: Key(f"{n:016x}")),
    texts,
    st.sampled_from(ModelState),
    texts,
    texts,
    texts,
    counts,
    counts,
    counts,
    st.none() | counts,
)
reports = st.builds(
    NodeReport,
    st.text(max_size=20),
    counts,
    counts,
    counts,
    counts,
    st.lists(st.text(max_size=20), max_size=3).map(tuple),
    st.lists(models, max_size=3).map(tuple),
    st.none() | st.lists(st.text(max_size=20), max_size=3).map(tuple),
)


@given(reports)
def test_a_report_survives_its_document(report: NodeReport) -> None:
    assert parse_node_report(report.text()) == report


def changed(**keys: Any) -> str:
    return json.dumps(json.loads(REPORT.text()) | keys)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="no object"),
        pytest.param(changed(version=2), id="another version"),
        pytest.param(changed(models=[{}]), id="a model without keys"),
        pytest.param(REPORT.text().replace(KEY, "../../etc"), id="a key that is none"),
        pytest.param(REPORT.text().replace(f'"{KEY}"', "7"), id="a key that is a number"),
        pytest.param(REPORT.text().replace('"Downloading"', "[]"), id="a state of an odd type"),
        pytest.param(changed(diskBytes=-1), id="a disk of less than nothing"),
        pytest.param(changed(usedBytes=True), id="a count that is a claim"),
        pytest.param(changed(budgetBytes=1.5), id="half a byte"),
        pytest.param(changed(nodeGroups=7), id="groups that are none"),
        pytest.param("[" * 50_000, id="fifty thousand brackets"),
    ],
)
def test_what_is_no_report_is_none(text: str) -> None:
    assert parse_node_report(text) is None


def test_an_older_agent_says_nothing_of_groups() -> None:
    document = json.loads(replace(REPORT, node_groups=("h100",)).text())
    del document["nodeGroups"]
    assert parse_node_report(json.dumps(document)) == REPORT


def test_keys_of_later_versions_are_ignored() -> None:
    assert parse_node_report(changed(colour="red")) == REPORT


def test_the_longest_node_name_fits_a_config_map_and_one_more_is_refused() -> None:
    assert config_map_name("n") == "larder-node-n"
    assert len(config_map_name("n" * 241)) == 253
    with pytest.raises(ValueError, match="has 242 characters; accepted: up to 241"):
        config_map_name("n" * 242)


def config_map(data: object, name: str = "larder-node-gpu-7") -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def test_a_nodes_own_config_map_holds_its_report() -> None:
    assert report_in(config_map({"report.json": REPORT.text()})) == REPORT


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"metadata": {"name": "larder-node-gpu-7"}}, id="no data"),
        pytest.param(config_map({}), id="no report"),
        pytest.param(config_map({"report.json": 7}), id="a number"),
        pytest.param(config_map({"report.json": "{}"}), id="no report's document"),
        pytest.param(config_map({"report.json": REPORT.text()}, "larder-node-gpu-8"), id="another"),
        pytest.param(
            config_map({"report.json": replace(REPORT, node="n" * 242).text()}), id="a long name"
        ),
    ],
)
def test_a_config_map_with_anything_else_holds_none(content: dict[str, Any]) -> None:
    assert report_in(content) is None


MOVED = replace(REPORT, used_bytes=60, models=(replace(MODEL, bytes_done=6, eta_seconds=4),))


@pytest.mark.parametrize(
    ("before", "now", "since_seconds", "due"),
    [
        pytest.param(None, REPORT, 0.0, True, id="the first one"),
        pytest.param(REPORT, REPORT, 1e9, False, id="nothing changed"),
        pytest.param(REPORT, MOVED, 29.0, False, id="bytes moved just now"),
        pytest.param(REPORT, MOVED, 30.0, True, id="bytes moved for half a minute"),
        pytest.param(
            REPORT, replace(REPORT, disk_available_bytes=1), 1e9, False, id="others fill the disk"
        ),
        pytest.param(
            REPORT,
            replace(REPORT, models=(replace(MODEL, state=ModelState.READY),)),
            0.0,
            True,
            id="a state changed",
        ),
        pytest.param(
            REPORT, replace(REPORT, catalog_problems=("bad",)), 0.0, True, id="the catalog is bad"
        ),
    ],
)
def test_states_are_told_at_once_and_progress_seldom(
    before: NodeReport | None, now: NodeReport, since_seconds: float, due: bool
) -> None:
    assert is_due(before, now, since_seconds) is due
