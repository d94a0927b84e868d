"""What of a report is worth an Event, and what its readers may know."""

from dataclasses import replace

import pytest

from agent.planning.node_events import model_news
from agent.planning.plan import Evict, EvictReason, Plan
from agent.planning.values import Failure
from larder.contract import FillFailure
from larder.layout import Key
from larder.node_report import ModelReport, NodeReport
from larder.status import ModelState as S
from larder.status import SlotStatus

KEY = Key("a" * 16)
SENTENCE = "hf://acme/private: https://hub/x?token=hf_abc refused"


def report(state: S | None, reason: str | None = None, message: str | None = None) -> NodeReport:
    model = ModelReport(KEY, "private", state or S.ABSENT, reason, message)
    return NodeReport("gpu-7", models=(model,) if state else ())


def evicting(reason: EvictReason = EvictReason.UNLISTED) -> Plan:
    return Plan((Evict(KEY, reason, 1),))


def said(report: NodeReport) -> dict[Key, SlotStatus]:
    return {m.key: SlotStatus(m.state, reason=m.reason) for m in report.models}


def reasons(before: NodeReport, now: NodeReport, plan: Plan) -> list[str]:
    return [str(item.reason) for item in model_news(said(before), now, plan, {})]


FAILED = report(S.FAILED, "AccessDenied")


@pytest.mark.parametrize(
    ("before", "now", "plan", "expected"),
    [
        pytest.param(report(S.VERIFYING), report(S.READY), Plan(), ["ModelReady"], id="a fill"),
        pytest.param(report(None), report(S.READY), Plan(), ["ModelReady"], id="out of nothing"),
        pytest.param(report(S.READY), report(S.READY), Plan(), [], id="ready as before"),
        pytest.param(report(None), FAILED, Plan(), ["FillFailed"], id="failed in the first turn"),
        pytest.param(report(S.QUEUED), report(S.DOWNLOADING), Plan(), [], id="on its way"),
        pytest.param(report(S.QUEUED), FAILED, Plan(), ["FillFailed"], id="a failure"),
        pytest.param(FAILED, FAILED, Plan(), [], id="failed as before"),
        pytest.param(
            FAILED, report(S.FAILED, "Stalled"), Plan(), ["FillFailed"], id="failed otherwise"
        ),
        pytest.param(
            report(S.DOWNLOADING), report(S.FAILED), Plan(), ["FillFailed"], id="without a reason"
        ),
        pytest.param(
            report(S.READY), report(S.QUARANTINED), Plan(), ["VerificationFailed"], id="damage"
        ),
        pytest.param(report(S.READY), report(None), evicting(), ["ModelEvicted"], id="evicted"),
        pytest.param(
            report(S.QUARANTINED),
            report(S.QUEUED),
            evicting(EvictReason.QUARANTINED),
            ["ModelEvicted"],
            id="evicted to be fetched again",
        ),
        pytest.param(report(S.READY), report(S.READY), evicting(), [], id="an eviction taken back"),
        pytest.param(report(S.FAILED), report(None), evicting(), [], id="only parts were evicted"),
        pytest.param(report(None), report(None), evicting(), [], id="a staging was evicted"),
        pytest.param(report(S.READY), report(None), Plan(), [], id="somebody else took it away"),
    ],
)
def test_news_are(before: NodeReport, now: NodeReport, plan: Plan, expected: object) -> None:
    assert reasons(before, now, plan) == expected


@pytest.mark.parametrize(
    ("failure", "event"),
    [
        (FillFailure.INTEGRITY_MISMATCH, "VerificationFailed"),
        (FillFailure.BUDGET_EXCEEDED, "BudgetExceeded"),
        (FillFailure.SOURCE_DRIFTED, "SourceDrifted"),
        (FillFailure.DISK_FULL, "FillFailed"),
    ],
)
def test_failures_that_need_another_cure_have_their_own_event(
    failure: FillFailure, event: str
) -> None:
    assert reasons(report(S.QUEUED), report(S.FAILED, failure), Plan()) == [event]


@pytest.mark.parametrize("failure", FillFailure)
def test_a_source_that_is_away_for_a_moment_is_no_event_and_all_else_is_one_at_once(
    failure: FillFailure,
) -> None:
    told = [
        attempts
        for attempts in range(1, 6)
        if model_news(
            said(report(S.DOWNLOADING)),
            report(S.FAILED, failure),
            Plan(),
            {KEY: Failure(failure, SENTENCE, retry_at=9.0, attempts=attempts)},
        )
    ]
    passes = failure in {FillFailure.SOURCE_UNAVAILABLE, FillFailure.STALLED}
    assert told == ([3, 4, 5] if passes else [1, 2, 3, 4, 5])


def test_of_a_model_that_is_there_an_old_failure_hides_nothing() -> None:
    old = {KEY: Failure(FillFailure.STALLED, SENTENCE, retry_at=9.0)}
    (ready,) = model_news(said(report(S.VERIFYING)), report(S.READY), Plan(), old)
    assert ready.reason == "ModelReady"


@pytest.mark.parametrize("state", [S.READY, S.QUARANTINED, S.FAILED])
def test_a_note_names_no_model_and_quotes_nothing(state: S) -> None:
    now = report(state, "AccessDenied" if state is S.FAILED else None, SENTENCE)
    (item,) = model_news(said(report(S.QUEUED)), now, Plan(), {})
    assert KEY in item.note
    assert not [word for word in ("private", "acme", "hub", "hf_abc") if word in item.note]
    assert len(item.note.encode()) < 1024


def test_a_note_says_why_and_who_says_more() -> None:
    (failed,) = model_news(said(report(S.QUEUED)), FAILED, Plan(), {})
    assert failed.note == (
        f"Model {KEY} could not be filled: AccessDenied."
        " ConfigMap larder-system/larder-node-gpu-7 says more."
    )
    evicted = evicting(EvictReason.ROOM_NEEDED)
    (gone,) = model_news(said(report(S.READY)), report(None), evicted, {})
    assert gone.note == f"Model {KEY} was evicted: RoomNeeded."


def test_what_went_is_told_before_what_came() -> None:
    other = replace(report(S.READY).models[0], key=Key("b" * 16))
    now = NodeReport("gpu-7", models=(other,))
    assert reasons(report(S.READY), now, evicting()) == ["ModelEvicted", "ModelReady"]
