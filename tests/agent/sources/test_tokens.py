"""Access tokens: what an authority may answer, that none of it is repeated, how long it lasts."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.sources.tokens import Loan, read_token
from agent.sources.web import Network, Timeouts, Web
from larder.errors import AccessDeniedError, FillError, SourceUnavailableError
from runtime.clock import ManualClock
from tests.fakes.certificates import issue
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.token_server import TokenServer


@pytest.fixture
def authority() -> Iterator[TokenServer]:
    with TokenServer("sesame") as server:
        yield server


def token(authority: TokenServer) -> tuple[str, float]:
    with (
        closing(Web(Timeouts(5.0, 5.0))) as web,
        web.post(authority.url + "/token", {"a": "b c&d"}) as answer,
    ):
        return read_token(answer, ManualClock())


def test_a_form_is_answered_with_a_token(authority: TokenServer) -> None:
    assert token(authority) == ("sesame", 3599)
    assert authority.forms == [("/token", {"a": "b c&d"})]


@pytest.mark.parametrize(
    "seconds",
    [
        *("", ', "expires_in": "soon"', ', "expires_in": true'),
        *(', "expires_in": -1', f', "expires_in": {"9" * 400}'),
    ],
)
def test_a_token_whose_end_nobody_says_is_good_for_the_usual_hour(
    authority: TokenServer, seconds: str
) -> None:
    authority.answer = b'{"access_token": "sesame"%s}' % seconds.encode()
    assert token(authority) == ("sesame", 3600)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, b'{"error": "b c&d is wrong"}', AccessDeniedError),
        (401, b"", AccessDeniedError),
        (404, b"", AccessDeniedError),
        (302, b"", SourceUnavailableError),
        (503, b"", SourceUnavailableError),
        (200, b"", SourceUnavailableError),
        (200, b"[]", SourceUnavailableError),
        (200, b"[" * 60_000, SourceUnavailableError),
        (200, b'{"access_token": 1}', SourceUnavailableError),
        (200, b'{"access_token": ""}', SourceUnavailableError),
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


def test_an_authority_is_asked_by_the_catalog_s_way_out(
    authority: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    issuer, leaf = issue(tmp_path)
    with FaultProxy(authority.url) as proxy, FaultProxy(authority.url, leaf) as secure:
        for url, network in (
            ("http://127.0.0.2:9/token", Network(proxy=proxy.url)),
            (secure.url + "/token", Network(ca_bundle=str(issuer))),
        ):
            web = Web(Timeouts(5.0, 5.0), network)
            with closing(web), web.post(url, {"a": "b"}) as answer:
                assert read_token(answer, ManualClock()) == ("sesame", 3599)
        with (
            closing(Web(Timeouts(5.0, 5.0))) as web,
            pytest.raises(SourceUnavailableError, match="not trusted"),
            web.post(secure.url + "/token", {"a": "b"}),
        ):
            pass
    assert len(authority.forms) == len(proxy.requests) + len(secure.requests) == 2


@pytest.mark.parametrize(
    ("seconds", "is_kept_for"),
    [
        pytest.param(3600.0, 3300.0, id="an hour: five minutes ahead of its end"),
        pytest.param(400.0, 200.0, id="a few minutes: half of them"),
    ],
)
def test_what_is_lent_is_asked_for_again_ahead_of_its_end(
    seconds: float, is_kept_for: float
) -> None:
    clock, asked = ManualClock(), iter(range(10))
    loan = Loan(lambda: (next(asked), seconds), clock)
    assert (loan.taken(), loan.taken()) == (0, 0)
    clock.advance(is_kept_for - 1)
    assert loan.taken() == 0
    clock.advance(1)
    assert (loan.taken(), loan.taken()) == (1, 1)


def test_what_could_not_be_lent_is_asked_for_again() -> None:
    answers = iter([SourceUnavailableError("not now"), "sesame"])

    def ask() -> tuple[str, float]:
        match next(answers):
            case str(token):
                return token, 60.0
            case error:
                raise error

    loan = Loan(ask, ManualClock())
    with pytest.raises(SourceUnavailableError):
        loan.taken()
    assert loan.taken() == "sesame"
