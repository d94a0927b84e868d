"""The hub seen from a plain HTTP client: ranges, connections, and every fault it can play."""

import gzip
import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.hub import (
    Cut,
    Drip,
    Fault,
    FlipBit,
    Gzip,
    Headers,
    Hub,
    IgnoreRange,
    NextPage,
    Repo,
    Stall,
    Status,
    Truncate,
)
from demo.hub_protocol import Protocol, read_request

WEIGHTS = bytes(range(256)) * 40
FILE = "/acme/tiny/resolve/main/m.safetensors"
CONFIG = "/acme/tiny/resolve/main/config.json"
TREE = "/api/models/acme/tiny/tree/main?recursive=true&expand=false"


class Reply(NamedTuple):
    """What came back; `body` is as far as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_complete: bool


@pytest.fixture(params=["memory", "disk"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hub]:
    weights: bytes | Path = WEIGHTS
    if request.param == "disk":
        weights = tmp_path / "m.safetensors"
        weights.write_bytes(WEIGHTS)
    with Hub({"acme/tiny": Repo({"m.safetensors": weights, "config.json": b"{}"})}) as opened:
        yield opened


def ask(url: str, target: str, method: str = "GET", **headers: str) -> Reply:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        return ask_on(connection, target, method, **headers)
    finally:
        connection.close()


def ask_on(connection: HTTPConnection, target: str, method: str = "GET", **headers: str) -> Reply:
    connection.request(method, target, headers=headers)
    with connection.getresponse() as response:
        try:
            body, is_complete = response.read(), True
        except (IncompleteRead, ConnectionResetError) as error:
            body, is_complete = getattr(error, "partial", b""), False
        return Reply(response.status, dict(response.getheaders()), body, is_complete)


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=10000-", 10000, 10239),
        ("bytes=10239-99999", 10239, 10239),
    ],
)
def test_a_range_is_answered_with_that_range(hub: Hub, wanted: str, first: int, last: int) -> None:
    reply = ask(hub.url, FILE, Range=wanted)
    assert reply.status == 206
    assert reply.headers["Content-Range"] == f"bytes {first}-{last}/10240"
    assert reply.body == WEIGHTS[first : last + 1]


def test_a_range_past_the_end_is_416(hub: Hub) -> None:
    reply = ask(hub.url, FILE, Range="bytes=10240-")
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */10240")


def test_a_range_that_is_not_understood_is_left_aside(hub: Hub) -> None:
    assert ask(hub.url, FILE, Range="lines=1-2").body == WEIGHTS


@given(content=st.binary(max_size=50), start=st.integers(0, 60), last=st.integers(0, 60))
def test_any_range_is_that_part_of_the_file(content: bytes, start: int, last: int) -> None:
    protocol = Protocol({"acme/tiny": Repo({"m.bin": content})}, page_entries=1000)
    headers: dict[str, str | None] = {"Range": f"bytes={start}-{last}"}
    answer = protocol.answer(read_request("hub", "GET", "/acme/tiny/resolve/main/m.bin", headers))
    wanted = content[start : last + 1]
    assert answer.status == (206 if wanted else 416)
    if wanted:
        assert content[answer.start : answer.stop] == wanted
        assert answer.headers["Content-Length"] == str(len(wanted))


def test_a_connection_is_kept_over_head_errors_and_bodies(hub: Hub) -> None:
    connection = HTTPConnection(hub.url.removeprefix("http://"), timeout=10)
    connection.connect()
    kept = connection.sock
    for target, method, status in (
        (FILE, "HEAD", 200),
        ("/acme/none/resolve/main/x", "HEAD", 401),
        ("/nothing/here", "GET", 404),
        (TREE, "HEAD", 200),
        (FILE, "GET", 200),
    ):
        reply = ask_on(connection, target, method)
        assert (reply.status, len(reply.body) > 0) == (status, method == "GET")
    assert connection.sock is kept
    connection.close()
    assert hub.counts() == {"head": 2, "other": 1, "tree": 1, "get": 1}


def test_a_hub_counts_the_bytes_of_its_bodies(hub: Hub) -> None:
    ask(hub.url, FILE)
    ask(hub.url, FILE, "HEAD")
    ask(hub.url, FILE, Range="bytes=0-9")
    assert hub.bytes_sent == len(WEIGHTS) + 10


def test_a_hub_remembers_what_it_was_asked(hub: Hub) -> None:
    ask(hub.url, FILE, Range="bytes=0-9", Authorization="Bearer t0ken")
    [request] = hub.requests
    assert (request.origin, request.kind, request.method) == ("hub", "get", "GET")
    assert (request.repo_id, request.revision, request.path) == (
        "acme/tiny",
        "main",
        "m.safetensors",
    )
    assert (request.range, request.authorization) == ("bytes=0-9", "Bearer t0ken")


def test_a_repository_can_move_while_it_is_served(hub: Hub) -> None:
    first = hub.repos["acme/tiny"].branches["main"]
    second = hub.repos["acme/tiny"].commit({"config.json": b"[]"})
    assert ask(hub.url, CONFIG).headers["X-Repo-Commit"] == second
    assert ask(hub.url, CONFIG.replace("main", first)).body == b"{}"
    hub.repos["acme/new"] = Repo({"config.json": b"new"})
    assert ask(hub.url, CONFIG.replace("tiny", "new")).body == b"new"


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "a\0b", "a\nb", "n" * 300, "é"])
def test_a_hostile_repository_is_served_under_the_names_it_lists(name: str) -> None:
    with Hub({"acme/tiny": Repo({name: b"content"})}) as hub:
        listed = [entry["path"] for entry in json.loads(ask(hub.url, TREE).body)]
        assert name in listed
        asked = f"/acme/tiny/resolve/main/{quote(name, safe='')}"
        assert ask(hub.url, asked).body == b"content"


def test_commits_follow_from_their_content_and_from_those_before() -> None:
    repo, same = Repo({"a": b"1"}), Repo({"a": b"1"})
    assert repo.branches == same.branches
    first = repo.branches["main"]
    assert len({first, repo.commit({"a": b"2"}), repo.commit({"a": b"1"})}) == 3
    assert Repo({"b": b"1"}).branches["main"] != first


# --- faults -------------------------------------------------------------------------------------


def test_a_status_comes_as_often_as_it_was_asked_for_and_is_counted(hub: Hub) -> None:
    fault = Fault(Status(429, headers={"Retry-After": "2"}), kind="get", times=2)
    hub.faults.append(fault)
    assert ask(hub.url, FILE, "HEAD").status == 200
    replies = [ask(hub.url, FILE) for _ in range(3)]
    assert [reply.status for reply in replies] == [429, 429, 200]
    assert [reply.headers.get("Retry-After") for reply in replies] == ["2", "2", None]
    assert fault.hits == 2


def test_an_error_carries_its_code_and_message(hub: Hub) -> None:
    hub.faults.append(Fault(Status(403, "GatedRepo", "not for you")))
    reply = ask(hub.url, FILE)
    assert reply.status == 403
    assert reply.headers["X-Error-Code"] == "GatedRepo"
    assert reply.headers["X-Error-Message"] == "not for you"
    assert reply.body == b'{"error": "not for you"}'


def test_a_fault_befalls_the_paths_that_end_as_it_says(hub: Hub) -> None:
    hub.faults.append(Fault(Status(500), path=".safetensors"))
    assert (ask(hub.url, FILE).status, ask(hub.url, CONFIG).status) == (500, 200)
    assert ask(hub.url, TREE).status == 200


def test_faults_behind_a_status_wait_for_their_turn(hub: Hub) -> None:
    later = Fault(FlipBit(0), times=1)
    hub.faults += [Fault(Status(503), times=1), later]
    assert ask(hub.url, FILE).status == 503
    assert later.hits == 0
    assert ask(hub.url, FILE).body != WEIGHTS
    assert ask(hub.url, FILE).body == WEIGHTS


@pytest.mark.parametrize("after_bytes", [0, 1, 5000, 10239])
def test_a_cut_ends_the_connection_after_that_many_bytes(hub: Hub, after_bytes: int) -> None:
    hub.faults.append(Fault(Cut(after_bytes), times=1))
    reply = ask(hub.url, FILE)
    assert (reply.status, reply.headers["Content-Length"]) == (200, "10240")
    assert (reply.body, reply.is_complete) == (WEIGHTS[:after_bytes], False)
    rest = ask(hub.url, FILE, Range=f"bytes={after_bytes}-")
    assert reply.body + rest.body == WEIGHTS


def test_a_cut_counts_from_the_beginning_of_the_body(hub: Hub) -> None:
    hub.faults.append(Fault(Cut(10)))
    reply = ask(hub.url, FILE, Range="bytes=100-200")
    assert (reply.body, reply.is_complete) == (WEIGHTS[100:110], False)


def test_a_truncated_body_agrees_with_its_length(hub: Hub) -> None:
    hub.faults.append(Fault(Truncate(1000)))
    reply = ask(hub.url, FILE)
    assert (reply.body, reply.is_complete) == (WEIGHTS[:1000], True)
    assert reply.headers["Content-Length"] == "1000"
    assert reply.headers["X-Linked-Size"] == "10240"


def test_a_flipped_bit_is_at_its_place_in_the_file(hub: Hub) -> None:
    hub.faults.append(Fault(FlipBit(5000)))
    wrong = bytearray(WEIGHTS)
    wrong[5000] ^= 1
    assert ask(hub.url, FILE).body == wrong
    assert ask(hub.url, FILE, Range="bytes=4990-5009").body == wrong[4990:5010]
    assert ask(hub.url, FILE, Range="bytes=0-4999").body == WEIGHTS[:5000]
    assert ask(hub.url, FILE, Range="bytes=5001-").body == WEIGHTS[5001:]


def test_a_range_can_be_ignored(hub: Hub) -> None:
    hub.faults.append(Fault(IgnoreRange()))
    reply = ask(hub.url, FILE, Range="bytes=5-9")
    assert (reply.status, reply.body) == (200, WEIGHTS)
    assert "Content-Range" not in reply.headers


def test_headers_can_be_wrong_or_missing(hub: Hub) -> None:
    hub.faults.append(Fault(Headers({"Content-Range": "bytes 0-4/10240", "ETag": None})))
    reply = ask(hub.url, FILE, Range="bytes=5-9")
    assert reply.headers["Content-Range"] == "bytes 0-4/10240"
    assert "ETag" not in reply.headers
    assert reply.body == WEIGHTS[5:10]


def test_a_body_can_be_compressed_without_length_or_range(hub: Hub) -> None:
    hub.faults.append(Fault(Gzip()))
    reply = ask(hub.url, FILE, Range="bytes=5-9")
    assert (reply.status, reply.headers["Content-Encoding"]) == (200, "gzip")
    assert "Content-Length" not in reply.headers
    assert gzip.decompress(reply.body) == WEIGHTS


def test_a_listing_can_go_on_elsewhere(hub: Hub) -> None:
    hub.faults.append(Fault(NextPage("http://evil.example/more")))
    assert ask(hub.url, TREE).headers["Link"] == '<http://evil.example/more>; rel="next"'


def test_a_drip_brings_everything_in_the_end(hub: Hub) -> None:
    hub.faults.append(Fault(Drip(step_bytes=1000, pause_seconds=0)))
    assert ask(hub.url, FILE).body == WEIGHTS


def begun(hub: Hub, target: str) -> socket.socket:
    """A connection that has asked for a file and reads nothing yet."""
    host, _, port = hub.url.removeprefix("http://").partition(":")
    opened = socket.create_connection((host, int(port)), timeout=10)
    opened.sendall(f"GET {target} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
    return opened


def body_of(opened: socket.socket) -> bytes:
    """Everything up to the end of the connection, without the headers."""
    received = b""
    while chunk := opened.recv(65536):
        received += chunk
    return received.partition(b"\r\n\r\n")[2]


def test_closing_the_hub_ends_a_drip(hub: Hub) -> None:
    hub.faults.append(Fault(Drip(step_bytes=1, pause_seconds=3600)))
    with begun(hub, FILE) as opened:
        assert opened.recv(10) == b"HTTP/1.1 2"
        hub.close()
        assert body_of(opened) == b""


def test_closing_the_hub_ends_a_stall_and_leaves_the_rest_unsent(hub: Hub) -> None:
    hub.faults.append(Fault(Stall(after_bytes=100)))
    with begun(hub, FILE) as opened:
        assert hub.stalled.wait(10)
        hub.close()
        assert body_of(opened) == WEIGHTS[:100]
    assert hub.bytes_sent == 100


def test_a_stall_that_is_released_goes_on(hub: Hub) -> None:
    hub.faults.append(Fault(Stall(after_bytes=100), times=1))
    with begun(hub, FILE) as opened:
        assert hub.stalled.wait(10)
        assert hub.bytes_sent == 100
        hub.release()
        assert not hub.stalled.is_set()
        received = b""
        while not received.endswith(WEIGHTS):
            received += opened.recv(65536)


def test_a_client_that_leaves_in_the_middle_harms_nobody(hub: Hub) -> None:
    hub.faults.append(Fault(Stall(after_bytes=100), times=1))
    with begun(hub, FILE):
        assert hub.stalled.wait(10)
    hub.release()
    assert ask(hub.url, FILE).body == WEIGHTS


def test_closing_the_hub_does_not_wait_for_idle_connections(hub: Hub) -> None:
    connection = HTTPConnection(hub.url.removeprefix("http://"), timeout=10)
    ask_on(connection, CONFIG)
    hub.close()
    assert connection.sock.recv(1) == b""
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        ask(hub.url, CONFIG)


def test_a_rate_is_kept_for_each_response() -> None:
    with Hub({"acme/tiny": Repo({"m.bin": WEIGHTS})}, limit_rate=1_000_000) as hub:
        assert hub.limit is not None
        assert hub.limit.step_bytes / hub.limit.pause_seconds == pytest.approx(1_000_000)
        assert ask(hub.url, "/acme/tiny/resolve/main/m.bin").body == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        pytest.param(None, 200, WEIGHTS, id="in order"),
        pytest.param(Fault(Status(403), kind="cdn"), 403, None, id="refused"),
        pytest.param(Fault(Truncate(5), path="m.safetensors"), 200, WEIGHTS[:5], id="truncated"),
    ],
)
def test_faults_reach_the_second_origin(
    fault: Fault | None, status: int, body: bytes | None
) -> None:
    with Hub({"acme/tiny": Repo({"m.safetensors": WEIGHTS})}, cdn=True) as hub:
        hub.faults = [] if fault is None else [fault]
        found = ask(hub.url, FILE, "HEAD")
        assert (found.status, found.body) == (302, b"")
        link = found.headers["Location"].removeprefix(hub.cdn_url)
        reply = ask(hub.cdn_url, link)
        assert reply.status == status
        assert body is None or reply.body == body


def test_a_token_at_the_second_origin_is_refused_and_remembered() -> None:
    with Hub({"acme/tiny": Repo({"m.safetensors": WEIGHTS})}, cdn=True) as hub:
        link = ask(hub.url, FILE).headers["Location"].removeprefix(hub.cdn_url)
        assert ask(hub.cdn_url, link, Authorization="Bearer t0ken").status == 400
        assert hub.authorizations("cdn") == ["Bearer t0ken"]
        assert hub.authorizations("hub") == []
        assert ask(hub.cdn_url, link.partition("?")[0]).status == 403
        assert ask(hub.cdn_url, FILE).status == 404
