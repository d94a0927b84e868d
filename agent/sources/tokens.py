"""What an authority lends for a while: access tokens of OAuth 2.0, keys of AWS's kind.

A fill may outlast what it was lent, so that it is asked for again ahead of its end. What an
authority answers is no part of a sentence: it may repeat what it was sent.
"""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from agent.sources.web import Answer, retry_after_seconds
from larder.errors import AccessDeniedError, SourceUnavailableError
from runtime.clock import Clock

ANSWER_MAX_BYTES: Final = 64 * 1024
_REFUSALS: Final = frozenset({400, 401, 403, 404})
_AHEAD_SECONDS: Final = 300.0
_LONGEST_SECONDS: Final = 7 * 24 * 3600
USUAL_SECONDS: Final = 3600
T = TypeVar("T")


class Loan(Generic[T]):
    """What an authority gives, and for how many seconds. Several threads may take it."""

    def __init__(self, ask: Callable[[], tuple[T, float]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._given: T | None = None
        self._ends_at = 0.0

    def taken(self) -> T:
        """What is valid now. Raises `FillError`s."""
        with self._lock:
            if self._given is None or self._clock.monotonic() >= self._ends_at:
                self._given, seconds = self._ask()
                self._ends_at = self._clock.monotonic() + max(seconds - _AHEAD_SECONDS, seconds / 2)
            return self._given


def read_token(answer: Answer, clock: Clock) -> tuple[str, float]:
    """An authority's answer: a token, and for how long. Raises `FillError`s."""
    said = read_answer(answer, clock)
    token, seconds = said.get("access_token"), said.get("expires_in")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise SourceUnavailableError(f"{answer.origin.host} answers what is no token")
    if type(seconds) is not int or not 0 < seconds <= _LONGEST_SECONDS:
        return token, USUAL_SECONDS
    return token, float(seconds)


def read_answer(answer: Answer, clock: Clock) -> Mapping[str, Any]:
    """What an authority lends, as a JSON object. Raises `FillError`s."""
    refuse(answer, clock)
    try:
        said = json.loads(answer.text(ANSWER_MAX_BYTES))
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise SourceUnavailableError(f"{answer.origin.host} answers what is no token")
    return said


def refuse(answer: Answer, clock: Clock) -> None:
    """Raise what it means that an authority lends nothing."""
    host = answer.origin.host
    if answer.status in _REFUSALS:
        raise AccessDeniedError(f"{host} gives no token for the credentials")
    if not answer.is_success:
        wish = retry_after_seconds(answer.header("Retry-After"), None, clock)
        raise SourceUnavailableError(f"{host} answers HTTP {answer.status} for a token", wish)
