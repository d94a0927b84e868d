"""Every reason can be told to people."""

import pytest

from larder.contract import DecisionReason
from larder.reasons import Meaning, meaning_of

NOTHING_TO_CURE = {
    DecisionReason.CACHED,
    DecisionReason.ALREADY_REWRITTEN,
    DecisionReason.CONFIDENTIAL_MODEL,
    DecisionReason.MULTI_MODEL_AGENT,
}


@pytest.mark.parametrize("reason", DecisionReason)
def test_a_reason_has_a_sentence_and_a_cure_where_there_is_one(reason: DecisionReason) -> None:
    meaning = meaning_of(reason)

    assert all(text.endswith(".") for text in (meaning.sentence, meaning.cure) if text)
    assert meaning.sentence
    assert bool(meaning.cure) is (reason not in NOTHING_TO_CURE)


def test_no_two_reasons_mean_the_same() -> None:
    assert len({meaning_of(reason) for reason in DecisionReason}) == len(DecisionReason)
    assert Meaning("x").cure == ""
