"""What `/explain` answers, whatever makes it: text for people, a status, and what is counted."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """How a request ended: a label of the metric."""

    EXPLAINED = "explained"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


STATUS: Final = {
    Outcome.EXPLAINED: 200,
    Outcome.MALFORMED: 400,
    Outcome.TOO_LARGE: 413,
    Outcome.UNAUTHENTICATED: 401,
    Outcome.FORBIDDEN: 403,
    Outcome.NOT_FOUND: 404,
    Outcome.BUSY: 429,
    Outcome.UNAVAILABLE: 503,
    Outcome.FAILED: 500,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. `failure` is what went wrong inside, for the log."""

    outcome: Outcome
    text: str
    namespace: str = ""
    failure: Exception | None = None


class ExplainError(Exception):
    """There is nothing to explain; `str()` is one sentence for who asked."""

    def __init__(self, outcome: Outcome, sentence: str) -> None:
        super().__init__(sentence)
        self.outcome = outcome
