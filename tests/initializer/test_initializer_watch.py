"""The waiting table: every row with its reason, on a clock that is only a number."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initializer.hit import NotHit
from initializer.watch import (
    READY_POLLS,
    Outcome,
    Progress,
    Status,
    Watch,
    describe,
    parse_status,
)
from larder.status import ModelState, SlotStatus

DOWNLOADING = Status("Downloading", 1)


def reason(outcome: Outcome | None) -> str | None:
    return outcome.reason if outcome else None


# --- at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("Absent", "NotCached"),
        ("Failed", "Failed"),
        ("Quarantined", "Quarantined"),
        ("Evicting", "Evicting"),
    ],
)
def test_a_state_without_a_model_to_come_is_not_waited_for(state: str, expected: str) -> None:
    status = Status(state, 1, eta_seconds=1, restarting=True)

    assert reason(Watch(0, 0).judge(status, 0)) == expected


def test_a_failed_fill_hands_its_own_reason_to_the_log() -> None:
    assert Watch(0, 0).judge(Status("Failed", 1, reason="DiskFull"), 0) == ("Failed", "DiskFull")


# --- no status --------------------------------------------------------------------------------


def test_no_status_is_waited_for_three_seconds() -> None:
    watch = Watch(0, 100)

    assert watch.judge(None, 102.9) is None
    assert reason(watch.judge(None, 103)) == "NoStatus"


def test_a_status_may_vanish_for_a_moment_and_come_back() -> None:
    watch = Watch(0, 0)

    assert watch.judge(DOWNLOADING, 2) is None
    assert watch.judge(None, 4.9) is None
    assert watch.judge(DOWNLOADING, 5) is None
    assert watch.judge(None, 7.9) is None
    assert reason(watch.judge(None, 8)) == "NoStatus"


# --- progress ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["Downloading", "Verifying", "Queued"])
def test_a_sequence_that_stands_still_for_a_minute_is_stalled(state: str) -> None:
    watch, status = Watch(0, 0), Status(state, 7, eta_seconds=1)

    assert watch.judge(status, 10) is None
    assert watch.judge(status, 69.9) is None
    assert reason(watch.judge(status, 70)) == "Stalled"


@pytest.mark.parametrize("state", ["Downloading", "Verifying", "Queued"])
def test_a_sequence_that_moves_is_waited_for(state: str) -> None:
    watch = Watch(0, 0)

    outcomes = [
        watch.judge(Status(state, sequence, eta_seconds=900), 59.0 * sequence)
        for sequence in range(16)
    ]

    assert outcomes == [None] * 16


def test_a_sequence_that_starts_again_has_moved() -> None:
    watch = Watch(0, 0)

    assert watch.judge(Status("Downloading", 500), 0) is None
    assert watch.judge(Status("Downloading", 1), 59) is None
    assert watch.judge(Status("Downloading", 1), 118) is None
    assert reason(watch.judge(Status("Downloading", 1), 119)) == "Stalled"


# --- the agent restarts -----------------------------------------------------------------------


def test_an_agent_that_restarts_is_waited_for_two_minutes() -> None:
    watch, away = Watch(0, 0), Status("Downloading", 7, eta_seconds=9999, restarting=True)

    assert watch.judge(Status("Downloading", 7), 0) is None
    assert watch.judge(away, 10) is None
    assert watch.judge(away, 129.9) is None
    assert reason(watch.judge(away, 130)) == "AgentGone"


@pytest.mark.parametrize(
    "back", [Status("Downloading", 8), Status("Downloading", 7), Status("Queued", 7, eta_seconds=9)]
)
def test_an_agent_that_came_back_has_a_minute_again(back: Status) -> None:
    watch, away = Watch(0, 0), Status("Downloading", 7, restarting=True)

    assert watch.judge(away, 0) is None
    assert watch.judge(away, 119) is None
    assert watch.judge(back, 120) is None
    assert watch.judge(back, 179) is None
    assert reason(watch.judge(back, 180)) == "Stalled"


def test_an_agent_that_restarts_may_have_left_a_queue_without_an_eta() -> None:
    watch, away = Watch(0, 0), Status("Queued", 7, restarting=True)

    assert [watch.judge(away, now) for now in (0, 6, 60, 119)] == [None] * 4


# --- the ETA ----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["Downloading", "Verifying", "Queued"])
def test_an_eta_must_fit_into_what_is_left_of_the_join_timeout(state: str) -> None:
    watch = Watch(waiting_since=0, now=40)  # another URI was waited for before

    def status(eta_seconds: int) -> Status:
        return Status(state, 1, eta_seconds=eta_seconds, join_timeout_seconds=100)

    assert watch.judge(status(60), 40) is None
    assert reason(watch.judge(status(61), 40)) == "EtaTooLong"
    assert watch.judge(status(50), 50) is None
    assert reason(watch.judge(status(50), 50.1)) == "EtaTooLong"


def test_without_an_eta_the_join_timeout_still_ends_the_wait() -> None:
    watch = Watch(0, 0)

    def status(sequence: int) -> Status:
        return Status("Downloading", sequence, join_timeout_seconds=100, restarting=sequence > 1)

    assert watch.judge(status(1), 50) is None
    assert watch.judge(status(2), 99.9) is None
    assert reason(watch.judge(status(3), 100)) == "EtaTooLong"


def test_a_queue_without_an_eta_is_waited_for_five_seconds() -> None:
    watch = Watch(0, 0)

    outcomes = [watch.judge(Status("Queued", n), n) for n in range(5)]

    assert outcomes == [None] * 5
    assert reason(watch.judge(Status("Queued", 5), 5)) == "Queued"


@pytest.mark.parametrize("between", [Status("Queued", 2, eta_seconds=9), Status("Downloading", 2)])
def test_a_queue_that_moved_is_waited_for_again(between: Status) -> None:
    watch = Watch(0, 0)

    assert watch.judge(Status("Queued", 1), 0) is None
    assert watch.judge(between, 4) is None
    assert watch.judge(Status("Queued", 3), 6) is None
    assert watch.judge(Status("Queued", 3), 10.9) is None
    assert reason(watch.judge(Status("Queued", 3), 11)) == "Queued"


# --- Ready ------------------------------------------------------------------------------------


def test_ready_without_content_is_believed_for_a_few_polls() -> None:
    watch, ready = Watch(0, 0), Status("Ready", 1)

    outcomes = [watch.judge(ready, 0) for _ in range(READY_POLLS)]

    assert outcomes == [None] * READY_POLLS
    assert reason(watch.judge(ready, 0)) == "Unreadable"


def test_ready_is_believed_anew_after_a_new_fill() -> None:
    watch, ready = Watch(0, 0), Status("Ready", 1)

    for _ in range(3):
        assert [watch.judge(ready, 0) for _ in range(READY_POLLS)] == [None] * READY_POLLS
        assert watch.judge(DOWNLOADING, 0) is None


# --- the file ---------------------------------------------------------------------------------


@given(
    st.builds(
        SlotStatus,
        state=st.sampled_from(ModelState),
        sequence=st.integers(0),
        bytes_done=st.integers(0),
        bytes_total=st.integers(0),
        rate_bytes_per_second=st.integers(0),
        eta_seconds=st.none() | st.integers(0),
        join_timeout_seconds=st.integers(0),
        restarting=st.booleans(),
        reason=st.none() | st.text(),
        revision=st.none() | st.text(),
    )
)
def test_a_status_is_read_as_it_was_written(written: SlotStatus) -> None:
    read = parse_status(written.text())

    assert read == Status(*(getattr(written, name) for name in Status._fields))


def test_a_status_has_the_contracts_defaults_and_ignores_what_is_new() -> None:
    text = json.dumps({"version": 1, "state": "Queued", "sequence": 3, "mood": {"new": True}})

    written = SlotStatus(ModelState.QUEUED, 3)

    assert parse_status(text) == Status(*(getattr(written, name) for name in Status._fields))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"version": 1, "state": "Rea',
        "[]",
        "null",
        "[" * 100_000,
        '{"version": 1}',
        '{"version": 1, "state": "Queued", "sequence": "x"}',
        '{"version": 1, "state": "Queued", "sequence": 1, "etaSeconds": Infinity}',
        '{"version": 1, "state": "Queued", "sequence": 1, "etaSeconds": []}',
    ],
)
def test_a_torn_status_is_none(text: str) -> None:
    assert parse_status(text) is None


@pytest.mark.parametrize(
    "text",
    ['{"version": 2, "state": "Ready"}', '{"version": 1, "state": "Shipped", "sequence": 1}'],
    ids=["version", "state"],
)
def test_a_status_of_another_contract_is_refused(text: str) -> None:
    with pytest.raises(NotHit) as refused:
        parse_status(text)

    assert refused.value.args[0] == "ContractUnknown"


# --- what the log says ------------------------------------------------------------------------


def test_progress_is_a_line_in_ten_seconds_and_one_at_each_change(
    capfd: pytest.CaptureFixture[str],
) -> None:
    progress = Progress("hf://o/m")
    for seconds in range(25):
        state = "Downloading" if seconds < 22 else "Verifying"
        progress.tell(Status(state, seconds, 25 * seconds, 1000, 25, 40 - seconds), seconds)
    progress.tell(None, 26)
    progress.tell(Status("Verifying", 27, 600, 1000, restarting=True), 27)

    assert capfd.readouterr().out.splitlines() == [
        "larder: hf://o/m: Downloading 0% of 1000 B, 25 B/s, 40 s left",
        "larder: hf://o/m: Downloading 25% of 1000 B, 25 B/s, 30 s left",
        "larder: hf://o/m: Downloading 50% of 1000 B, 25 B/s, 20 s left",
        "larder: hf://o/m: Verifying 55% of 1000 B, 25 B/s, 18 s left",
        "larder: hf://o/m: Verifying 60% of 1000 B, the agent restarts",
    ]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status("Queued", 1), "Queued"),
        (Status("Queued", 1, eta_seconds=0), "Queued, 0 s left"),
        (Status("Downloading", 1, 0, 1024), "Downloading 0% of 1.0 KiB"),
        (
            Status("Downloading", 1, 3 << 30, 16 << 30, 320 << 20, 42),
            "Downloading 18% of 16.0 GiB, 320.0 MiB/s, 42 s left",
        ),
        (Status("Verifying", 1, 5 << 40, 5 << 40), "Verifying 100% of 5120.0 GiB"),
    ],
)
def test_a_status_is_described_for_people(status: Status, expected: str) -> None:
    assert describe(status) == expected
