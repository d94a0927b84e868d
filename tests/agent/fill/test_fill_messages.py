"""What parent and child say to each other, and when a child asks a source again."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fill.job import (
    Done,
    Event,
    Failed,
    Heard,
    Job,
    Listed,
    Noted,
    Operation,
    Pace,
    Progress,
    Steering,
    event_line,
    failed,
    parse_event,
    parse_job,
    parse_steering,
)
from agent.fill.meter import Meter
from agent.fill.patience import PROGRESS_BYTES, Patience
from agent.sources.secret import Secret
from larder.contract import FillFailure
from larder.errors import PermanentError, SourceUnavailableError
from larder.layout import Key
from larder.status import ModelState
from runtime.clock import ManualClock

JOB = Job(
    Operation.RESOLVE,
    "/root",
    Key("0" * 16),
    "hf://a/b",
    "main",
    "https://hub",
    Secret({"HF_TOKEN": "hf_secret"}, {"s3-region": "x"}),
    ("*.json",),
    ("*.md",),
    "sha256:" + "0" * 64,
    10,
    Pace(part_bytes=5),
    fills=3,
    xet_memory_bytes=7,
)


def test_a_job_arrives_as_it_was_sent() -> None:
    line = JOB.line()
    assert line.count(b"\n") == 1
    assert parse_job(line) == JOB


def test_a_job_s_token_is_not_in_its_repr() -> None:
    assert "hf_secret" not in repr(JOB)


@given(st.binary() | st.dictionaries(st.text(), st.none() | st.text()).map(json.dumps))
def test_what_is_no_job_is_refused_without_showing_it(line: Any) -> None:
    with pytest.raises(ValueError, match=r"^standard input does not hold a job$") as refused:
        parse_job(line)
    assert refused.value.__cause__ is None


counts = st.integers(0, 1 << 60)
events = st.one_of(
    st.builds(Heard),
    st.builds(Listed, st.text(), counts, counts),
    st.builds(Progress, st.sampled_from(ModelState), counts, counts, counts),
    st.builds(Noted, st.text()),
    st.builds(Done),
    st.builds(
        Failed,
        st.sampled_from(FillFailure),
        st.text(),
        st.booleans(),
        st.none() | st.floats(0, 1e9),
    ),
)


@given(events)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    line = event_line(event)
    assert line.count(b"\n") == 1
    assert parse_event(line) == event


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["progress"]),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("event"), inner),
    ).map(lambda said: json.dumps(said).encode())
)
def test_what_is_no_event_is_none(line: bytes) -> None:
    assert parse_event(line) is None


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"event": "listed", "revision": "a", "files": Infinity, "bytes": 1}',
        b'{"event": "listed", "revision": "a", "files": NaN, "bytes": 1}',
    ],
)
def test_what_python_takes_for_json_is_no_event_either(line: bytes) -> None:
    assert parse_event(line) is None


@pytest.mark.parametrize(
    "error",
    [
        SourceUnavailableError("away", 7.0),
        SourceUnavailableError("away"),
        PermanentError(FillFailure.ACCESS_DENIED, "no"),
    ],
)
def test_an_error_arrives_as_an_error_of_the_same_kind(error: Any) -> None:
    arrived = failed(error).error()
    assert isinstance(arrived, PermanentError) == isinstance(error, PermanentError)
    assert (arrived.reason, str(arrived)) == (error.reason, str(error))
    retry = getattr(error, "retry_after_seconds", None)
    assert getattr(arrived, "retry_after_seconds", None) == retry


# --- patience -------------------------------------------------------------------------------------


def test_waits_double_up_to_the_longest_and_jitter_halves_them_at_most() -> None:
    waits: list[float] = []
    pace = Pace(tries=7, first_wait_seconds=1.0, longest_wait_seconds=6.0)
    patience = Patience(pace, waits.append, lambda: 0.0)
    for _ in range(6):
        patience.endure(SourceUnavailableError("away"), 0)
    assert waits == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]
    with pytest.raises(SourceUnavailableError):
        patience.endure(SourceUnavailableError("away"), 0)


def test_a_source_s_own_wish_is_a_floor() -> None:
    waits: list[float] = []
    patience = Patience(Pace(), waits.append, lambda: 1.0)
    patience.endure(SourceUnavailableError("away", 9.0), 0)
    patience.endure(SourceUnavailableError("away", 0.0), 0)
    assert waits == [9.0, 2.0]


def test_a_few_bytes_are_no_progress() -> None:
    patience = Patience(Pace(tries=2), lambda _: None, lambda: 1.0)
    patience.endure(SourceUnavailableError("away"), PROGRESS_BYTES)
    patience.endure(SourceUnavailableError("away"), 2 * PROGRESS_BYTES)
    with pytest.raises(SourceUnavailableError):
        patience.endure(SourceUnavailableError("away"), 3 * PROGRESS_BYTES - 1)


def test_what_is_fetched_again_is_no_progress() -> None:
    patience = Patience(Pace(tries=3), lambda _: None, lambda: 1.0)
    patience.endure(SourceUnavailableError("away"), 2 * PROGRESS_BYTES)
    patience.endure(SourceUnavailableError("started over"), 0)
    with pytest.raises(SourceUnavailableError):
        patience.endure(SourceUnavailableError("away"), 2 * PROGRESS_BYTES)


def test_steering_comes_down_as_it_was_sent() -> None:
    steering = Steering(1234, keeps_cache=True)
    assert parse_steering(steering.line()) == steering
    with pytest.raises(ValueError, match="not a steering line"):
        parse_steering(b'{"what": 1}')


# --- the meter ------------------------------------------------------------------------------------


def test_progress_is_told_a_few_times_a_second_and_at_every_change_of_state() -> None:
    clock, told = ManualClock(), list[Event]()
    meter = Meter(100, clock, told.append)
    for _ in range(10):
        meter.fetched(5)
        meter.moved(5)
        clock.advance(0.1)
    meter.verifying()
    done = [e.bytes_done for e in told if isinstance(e, Progress)]
    assert done == [0, 15, 30, 45, 50]
    assert told[-1] == Progress(ModelState.VERIFYING, 50, 100, 50)


def test_room_that_is_set_aside_is_told_at_once() -> None:
    told = list[Event]()
    meter = Meter(100, ManualClock(), told.append)
    meter.set_aside()
    assert told[-1] == Progress(ModelState.DOWNLOADING, 0, 100, 0, is_set_aside=True)
