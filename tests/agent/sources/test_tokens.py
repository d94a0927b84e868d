"""Access tokens: what an authority may answer, and that nothing of it is repeated."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.sources.tokens import access_token
from agent.sources.web import Timeouts, Web
from larder.errors import AccessDeniedError, FillError, SourceUnavailableError
from runtime.clock import ManualClock
from tests.fakes.token_server import TokenServer


@pytest.fixture
def authority() -> Iterator[TokenServer]:
    with TokenServer("sesame") as server:
        yield server


def token(authority: TokenServer) -> str:
    with closing(Web(Timeouts(5.0, 5.0))) as web:
        return access_token(authority.url + "/token", {"a": "b c&d"}, web, ManualClock())


def test_a_form_is_answered_with_a_token(authority: TokenServer) -> None:
    assert token(authority) == "sesame"
    assert authority.forms == [("/token", {"a": "b c&d"})]


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, b'{"error": "b c&d is wrong"}', AccessDeniedError),
        (401, b"", AccessDeniedError),
        (302, b"", SourceUnavailableError),
        (503, b"", SourceUnavailableError),
        (200, b"", SourceUnavailableError),
        (200, b"[]", SourceUnavailableError),
        (200, b'{"access_token": 1}', SourceUnavailableError),
        (200, b'{"access_token": "a\\nb"}', SourceUnavailableError),
        (200, b"x" * 70_000, SourceUnavailableError),
    ],
)
def test_another_answer_is_one_of_our_errors(
    authority: TokenServer, status: int, answer: bytes, error: type[FillError]
) -> None:
    authority.status, authority.answer = status, answer
    authority.headers = {"Location": authority.url + "/elsewhere"}
    with pytest.raises(error) as refused:
        token(authority)
    assert "b c&d" not in str(refused.value)
    assert len(authority.forms) == 1


def test_an_authority_s_wish_to_wait_is_heard(authority: TokenServer) -> None:
    authority.status, authority.headers = 429, {"Retry-After": "9"}
    with pytest.raises(SourceUnavailableError) as refused:
        token(authority)
    assert refused.value.retry_after_seconds == 9
