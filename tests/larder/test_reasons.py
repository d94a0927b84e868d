"""Every reason has words, and those that somebody can do something about have a cure."""

import pytest

from larder.contract import DecisionReason
from larder.reasons import meaning_of

WITHOUT_CURE = {
    DecisionReason.CACHED,
    DecisionReason.ALREADY_REWRITTEN,
    DecisionReason.CONFIDENTIAL_MODEL,
    DecisionReason.MULTI_MODEL_AGENT,
}


@pytest.mark.parametrize("reason", DecisionReason)
def test_a_reason_is_one_sentence_and_its_cure_another(reason: DecisionReason) -> None:
    meaning = meaning_of(reason)
    texts = [meaning.sentence] + ([meaning.cure] if meaning.cure else [])
    assert all(text.endswith(".") and text[0].isupper() for text in texts)
    assert all(text.isprintable() and ". " not in text for text in texts)
    assert bool(meaning.cure) is (reason not in WITHOUT_CURE)


def test_no_two_reasons_say_the_same() -> None:
    assert len({meaning_of(reason).sentence for reason in DecisionReason}) == len(DecisionReason)
