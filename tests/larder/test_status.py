"""A slot's status: what a waiting pod is told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.status import ModelState, SlotStatus, node_label, parse_status

counts = st.integers(0, 2**63 - 1)
texts = st.none() | st.text(max_size=20)
statuses = st.builds(
    SlotStatus,
    state=st.sampled_from(ModelState),
    sequence=counts,
    bytes_done=counts,
    bytes_total=counts,
    rate_bytes_per_second=counts,
    eta_seconds=st.none() | counts,
    join_timeout_seconds=counts,
    restarting=st.booleans(),
    reason=texts,
    revision=texts,
    unlisted_since=st.none() | counts,
    unproven_files=st.none() | counts,
)


@given(statuses)
def test_a_status_reads_back_as_written(status: SlotStatus) -> None:
    assert parse_status(status.text()) == status


@given(statuses, st.data())
def test_a_torn_status_is_none(status: SlotStatus, data: st.DataObject) -> None:
    text = status.text().rstrip("\n")

    assert parse_status(text[: data.draw(st.integers(0, len(text) - 1))]) is None


def test_keys_of_a_newer_release_are_ignored() -> None:
    raw = {**json.loads(SlotStatus(ModelState.READY).text()), "color": "green"}

    assert parse_status(json.dumps(raw)) == SlotStatus(ModelState.READY)


def test_what_is_left_out_has_its_default() -> None:
    text = '{"version": 1, "state": "Queued", "sequence": 3}'

    assert parse_status(text) == SlotStatus(ModelState.QUEUED, sequence=3)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": 2}, id="another version"),
        pytest.param({"version": None}, id="no version"),
        pytest.param({"state": "Lost"}, id="an unknown state"),
        pytest.param({"state": []}, id="a state of an odd type"),
        pytest.param({"sequence": None}, id="no sequence"),
        pytest.param({"bytesDone": "many"}, id="bytes that are no number"),
        pytest.param({"bytesTotal": float("inf")}, id="endless bytes"),
        pytest.param({"etaSeconds": {}}, id="an ETA of an odd type"),
        pytest.param({"reason": ["x"]}, id="a reason of an odd type"),
        pytest.param({"revision": 7}, id="a revision of an odd type"),
    ],
)
def test_an_odd_status_is_none(change: dict[str, Any]) -> None:
    raw = {**json.loads(SlotStatus(ModelState.READY).text()), **change}

    assert parse_status(json.dumps(raw)) is None


@pytest.mark.parametrize("text", ["", "null", "[]", "7", '"x"', "{}", "[" * 100_000])
def test_what_is_no_status_is_none(text: str) -> None:
    assert parse_status(text) is None


def test_a_node_label_has_three_values() -> None:
    labels = {state.value: node_label(state) for state in ModelState}

    assert labels == {
        "Absent": None,
        "Queued": "filling",
        "Downloading": "filling",
        "Verifying": "filling",
        "Ready": "ready",
        "Evicting": None,
        "Failed": "failed",
        "Quarantined": "failed",
    }
