"""How a file's bytes are fetched: ranges, redirects, refusals, and where the token goes."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from agent.planning.values import Algorithm, Checksum, Listing, RemoteFile
from agent.sources.hf import HubSource
from agent.sources.interface import RangeRefusedError, SourceRequest
from agent.sources.web import Timeouts, Web
from demo.hub import Cut, Fault, Gzip, Headers, Hub, IgnoreRange, Stall, Status, Truncate
from larder.errors import (
    AccessDeniedError,
    FillError,
    ModelNotFoundError,
    SourceDriftedError,
    SourceUnavailableError,
    TransientError,
)
from runtime.clock import ManualClock

MODEL = "model-1.safetensors"  # an LFS file: at the CDN
CONFIG = "config.json"  # at the hub
CONTENT = b"1" * 500


@pytest.fixture
def listing(source: HubSource) -> Listing:
    return source.list(SourceRequest("hf://acme/tiny"))


def file_of(listing: Listing, path: str = MODEL) -> RemoteFile:
    return next(file for file in listing.files if file.path == path)


def fetch(source: HubSource, listing: Listing, path: str = MODEL, offset: int = 0) -> bytes:
    """Everything that a body gives."""
    content, buffer = b"", memoryview(bytearray(128))
    with source.fetch(listing, file_of(listing, path), offset) as body:
        start = body.start
        while count := body.readinto(buffer):
            content += buffer[:count]
    assert start in {0, offset}
    return content


@pytest.mark.parametrize("path", [MODEL, CONFIG], ids=["at the CDN", "at the hub"])
@pytest.mark.parametrize("offset", [0, 3])
def test_a_file_is_fetched_from_an_offset_on(
    source: HubSource, listing: Listing, hub: Hub, path: str, offset: int
) -> None:
    whole = {MODEL: CONTENT, CONFIG: b'{"a": 1}'}[path]
    assert fetch(source, listing, path, offset) == whole[offset:]
    asked = [r for r in hub.requests if r.path == path]
    assert {r.range for r in asked} == {f"bytes={offset}-" if offset else None}


def test_a_path_with_odd_characters_is_fetched(hub: Hub, source: HubSource) -> None:
    odd = "a b/ü%2F?#&+;.bin"
    hub.repos["acme/tiny"].commit({odd: CONTENT})
    assert fetch(source, source.list(SourceRequest("hf://acme/tiny")), odd) == CONTENT


def test_a_connection_is_used_for_the_next_file(
    source: HubSource, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    connect = source._web._connection
    monkeypatch.setattr(source._web, "_connection", lambda *a: opened.append(a) or connect(*a))
    for _ in range(3):
        assert fetch(source, listing) == CONTENT
        assert fetch(source, listing, CONFIG) == b'{"a": 1}'
    assert len(opened) == 2  # one to the hub, one to the CDN


def test_a_connection_that_the_server_ended_meanwhile_is_made_anew(
    source: HubSource, listing: Listing, hub: Hub
) -> None:
    fetch(source, listing)
    for server in hub._servers:
        for connection in list(server._connections):
            connection.shutdown(2)
    assert fetch(source, listing) == CONTENT


def test_the_token_goes_to_the_hub_and_to_nobody_else(
    known_source: HubSource, hub: Hub, token: str
) -> None:
    listing = known_source.list(SourceRequest("hf://acme/gated"))
    assert fetch(known_source, listing) == CONTENT
    assert fetch(known_source, listing, offset=100) == CONTENT[100:]
    assert hub.authorizations("cdn") == []
    assert set(hub.authorizations("hub")) == {f"Bearer {token}"}
    assert hub.counts()["cdn"] == 2


def test_the_token_does_not_come_back_with_a_redirect_to_the_hub(
    known_source: HubSource, hub: Hub
) -> None:
    listing = known_source.list(SourceRequest("hf://acme/tiny"))
    back = f"{hub.url}/acme/tiny/resolve/main/README.md"
    hub.faults.append(Fault(Status(302, headers={"Location": back}), kind="cdn"))
    with known_source.fetch(listing, file_of(listing)):
        pass
    assert [r.authorization is None for r in hub.requests if r.path == "README.md"] == [True]


@pytest.mark.parametrize(
    ("location", "says"),
    [
        pytest.param("/acme/tiny/resolve/main/config.json", "more than 5 times", id="in circles"),
        pytest.param("ftp://127.0.0.1/x", "not an http", id="to another protocol"),
        pytest.param("http://[::1/x", "not an http", id="to nonsense"),
        pytest.param("http://127.0.0.1:1/x?secret", "cannot be reached", id="to nobody"),
        pytest.param("http://x\tü/", "cannot be", id="to a bad name"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_said(
    source: HubSource, listing: Listing, hub: Hub, location: str, says: str
) -> None:
    hub.faults.append(Fault(Status(302, headers={"Location": location}), kind="get"))
    with pytest.raises(SourceUnavailableError, match=says) as refused:
        fetch(source, listing)
    assert "secret" not in str(refused.value)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        pytest.param(Status(401), AccessDeniedError, "wants a token", id="401"),
        pytest.param(Status(403, "GatedRepo"), AccessDeniedError, "is gated", id="gated"),
        pytest.param(Status(403), AccessDeniedError, "denies access", id="403"),
        pytest.param(Status(404, "RepoNotFound"), ModelNotFoundError, "no model", id="no model"),
        pytest.param(
            Status(404, "EntryNotFound"), SourceDriftedError, "does not have it", id="no file"
        ),
        pytest.param(
            Status(404, "RevisionNotFound"), SourceDriftedError, "not have it", id="no commit"
        ),
        pytest.param(Status(416), RangeRefusedError, "does not continue", id="416"),
        pytest.param(Status(429), SourceUnavailableError, "HTTP 429", id="429"),
        pytest.param(Status(502), SourceUnavailableError, "HTTP 502", id="502"),
        pytest.param(Status(204), SourceUnavailableError, "HTTP 204", id="204"),
        pytest.param(Status(304), SourceUnavailableError, "HTTP 304", id="304"),
    ],
)
def test_a_refusal_of_the_hub_is_one_of_our_errors(
    source: HubSource, hub: Hub, fault: Status, error: type[FillError], says: str
) -> None:
    listing = source.list(SourceRequest("hf://acme/tiny"))
    hub.faults.append(Fault(fault, kind="get"))
    with pytest.raises(error, match=says):
        fetch(source, listing)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 500, 503])
def test_a_refusal_of_the_cdn_is_worth_another_link(
    source: HubSource, listing: Listing, hub: Hub, status: int
) -> None:
    hub.faults.append(Fault(Status(status, headers={"Retry-After": "3"}), kind="cdn", times=1))
    with pytest.raises(SourceUnavailableError, match=f"HTTP {status}") as refused:
        fetch(source, listing)
    assert refused.value.retry_after_seconds == 3.0
    assert fetch(source, listing) == CONTENT


def test_an_expired_link_is_not_kept(source: HubSource, listing: Listing, hub: Hub) -> None:
    fetch(source, listing)
    hub.expire_links()
    assert fetch(source, listing) == CONTENT


# --- bodies that are not what was asked for -------------------------------------------------------


def test_a_range_that_is_ignored_is_told(source: HubSource, listing: Listing, hub: Hub) -> None:
    hub.faults.append(Fault(IgnoreRange()))
    with source.fetch(listing, file_of(listing), 100) as body:
        assert body.start == 0


@pytest.mark.parametrize(
    "said",
    ["bytes 99-499/500", "bytes 100-498/500", "bytes 100-499/*", "items 100-499/500", ""],
)
def test_another_range_than_the_one_asked_for_is_refused(
    source: HubSource, listing: Listing, hub: Hub, said: str
) -> None:
    hub.faults.append(Fault(Headers({"Content-Range": said}), kind="cdn"))
    with pytest.raises(SourceUnavailableError, match="was asked"):
        fetch(source, listing, offset=100)


def test_a_range_of_a_file_of_another_size_is_a_drift(
    source: HubSource, listing: Listing, hub: Hub
) -> None:
    hub.faults.append(Fault(Headers({"Content-Range": "bytes 100-599/600"}), kind="cdn"))
    with pytest.raises(SourceDriftedError, match="has 600 bytes and was listed with 500"):
        fetch(source, listing, offset=100)


def test_a_body_that_is_longer_than_listed_is_a_drift(
    source: HubSource, listing: Listing, hub: Hub
) -> None:
    hub.faults.append(Fault(Headers({"Content-Length": "501"}), kind="cdn"))
    with pytest.raises(SourceDriftedError, match="has 501 bytes and was listed with 500"):
        fetch(source, listing)


def test_a_compressed_body_is_refused(source: HubSource, listing: Listing, hub: Hub) -> None:
    hub.faults.append(Fault(Gzip()))
    with pytest.raises(SourceUnavailableError, match="encoded as 'gzip', unasked"):
        fetch(source, listing)


def test_another_commit_is_a_drift(source: HubSource, listing: Listing, hub: Hub) -> None:
    hub.faults.append(Fault(Headers({"X-Repo-Commit": "f" * 40}), kind="get"))
    with pytest.raises(SourceDriftedError, match="another commit of acme/tiny"):
        fetch(source, listing)


def test_a_mirror_may_say_nothing_about_the_commit(
    source: HubSource, listing: Listing, hub: Hub
) -> None:
    hub.faults.append(Fault(Headers({"X-Repo-Commit": None}), kind="get"))
    assert fetch(source, listing) == CONTENT


@pytest.mark.parametrize("fault", [Cut(after_bytes=200), Truncate(to_bytes=200)])
def test_a_body_that_ends_early_gives_what_came(
    source: HubSource, listing: Listing, hub: Hub, fault: Cut | Truncate
) -> None:
    hub.faults.append(Fault(fault, kind="cdn"))
    assert fetch(source, listing) == CONTENT[:200]


def test_a_silent_server_is_given_up(hub: Hub) -> None:
    with closing(HubSource(hub.url, None, ManualClock(), Web(Timeouts(0.3, 0.3)))) as source:
        listing = source.list(SourceRequest("hf://acme/tiny"))
        hub.faults.append(Fault(Stall(after_bytes=100), kind="cdn"))
        with pytest.raises(TransientError, match="did not answer in time"):
            fetch(source, listing)


# --- proxies --------------------------------------------------------------------------------------


class _Proxy(BaseHTTPRequestHandler):
    """Answers everything itself, as a proxy with a cache would."""

    def do_GET(self) -> None:
        asked = self.server.asked  # type: ignore[attr-defined]  # set below
        asked.append((self.requestline, self.headers["Host"], self.headers["Proxy-Authorization"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@contextmanager
def proxy() -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    asked: list[tuple[str, str, str | None]] = []
    with HTTPServer(("127.0.0.1", 0), _Proxy) as server:
        server.asked = asked  # type: ignore[attr-defined]  # for the handler
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_the_environment_s_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteFile("m.bin", len(CONTENT), checksum=Checksum(Algorithm.GIT_BLOB, "0" * 40))
    listing = Listing("hf://acme/tiny", "a" * 40, (remote,))
    with proxy() as (address, asked):
        monkeypatch.setenv("http_proxy", f"http://me:my%20word@{address}")
        with closing(HubSource("http://hub.example", None, ManualClock())) as source:
            assert fetch(source, listing, "m.bin") == CONTENT
    target = f"http://hub.example/acme/tiny/resolve/{'a' * 40}/m.bin"
    assert asked == [(f"GET {target} HTTP/1.1", "hub.example", "Basic bWU6bXkgd29yZA==")]


def test_a_host_in_no_proxy_is_asked_directly(
    source: HubSource, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy() as (address, asked):
        monkeypatch.setenv("http_proxy", f"http://{address}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert fetch(source, listing) == CONTENT
    assert asked == []


def test_a_proxy_that_is_no_url_is_said(
    source: HubSource, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:port")
    with pytest.raises(SourceUnavailableError, match="is not given as http://HOST:PORT"):
        fetch(source, listing)
