"""Every reason has words, and whatever is amiss has a cure."""

import pytest

from larder.contract import DecisionReason, EventReason, FillFailure, RunReason
from larder.reasons import Reason, meaning_of

LISTS: tuple[tuple[Reason, ...], ...] = (
    tuple(DecisionReason),
    tuple(RunReason),
    tuple(FillFailure),
    tuple(EventReason),
)
REASONS = [reason for reasons in LISTS for reason in reasons]
NOTHING_AMISS = {"Cached", "AlreadyRewritten", "Hit", "Joined", "ModelReady"}


@pytest.mark.parametrize("reason", REASONS, ids=lambda r: f"{type(r).__name__} {r}")
def test_a_reason_is_one_sentence_and_its_cure_another(reason: Reason) -> None:
    meaning = meaning_of(reason)
    texts = [meaning.sentence] + ([meaning.cure] if meaning.cure else [])
    assert all(text.endswith(".") and text[0].isupper() for text in texts)
    assert all(text.isprintable() and ". " not in text for text in texts)
    assert bool(meaning.cure) is (reason not in NOTHING_AMISS)


@pytest.mark.parametrize("reasons", LISTS, ids=lambda reasons: type(reasons[0]).__name__)
def test_no_two_reasons_of_a_list_say_the_same(reasons: tuple[Reason, ...]) -> None:
    assert len({meaning_of(reason).sentence for reason in reasons}) == len(reasons)


def test_codes_of_two_lists_that_are_spelled_alike_mean_their_own() -> None:
    alike = [r for r in FillFailure if r in set(RunReason) | set(EventReason)]
    assert alike == [
        FillFailure.BUDGET_EXCEEDED,
        FillFailure.SOURCE_DRIFTED,
        FillFailure.STALLED,
    ]
    assert meaning_of(FillFailure.STALLED) != meaning_of(RunReason.STALLED)
    assert meaning_of(FillFailure.SOURCE_DRIFTED) != meaning_of(EventReason.SOURCE_DRIFTED)
