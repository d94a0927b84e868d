"""A hub is asked no more often than need be: once for a listing, a link, and a while."""

from collections import Counter

import pytest

from agent.planning.values import Listing, RemoteFile
from agent.sources import hf_politeness
from agent.sources.hf import HubSource
from agent.sources.hf_politeness import Allowance
from agent.sources.interface import SourceRequest
from demo.hub import Fault, Hub, Repo, Status
from larder.errors import SourceUnavailableError
from runtime.clock import ManualClock

MODEL, CONTENT = "model-1.safetensors", b"1" * 500  # behind a signed link
SMALL, LARGE = RemoteFile("s", hf_politeness.LARGE_BYTES - 1), RemoteFile("l", 1 << 40)


@pytest.fixture(autouse=True)
def _large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_politeness, "LARGE_BYTES", 400)


@pytest.fixture
def listing(source: HubSource) -> Listing:
    return source.list(SourceRequest("hf://acme/tiny"))


def fetched(source: HubSource, listing: Listing, offset: int = 0, path: str = MODEL) -> bytes:
    file = next(file for file in listing.files if file.path == path)
    content, buffer = b"", memoryview(bytearray(64))
    with source.fetch(listing, file, offset) as body:
        while count := body.readinto(buffer):
            content += buffer[:count]
    return content


def links_asked_for(hub: Hub) -> int:
    return hub.counts()["get"]


def test_a_model_is_described_once_and_listed_once_a_page(source: HubSource, hub: Hub) -> None:
    source.list(SourceRequest("hf://acme/tiny", "main"))
    assert Counter(request.kind for request in hub.requests) == {"api": 1, "tree": 2}


def test_a_link_serves_every_range_of_its_file(
    source: HubSource, listing: Listing, hub: Hub
) -> None:
    for offset in (0, 100, 499):
        assert fetched(source, listing, offset) == CONTENT[offset:]
    assert links_asked_for(hub) == 1
    assert hub.counts()["cdn"] == 3
    assert fetched(source, listing, path="deep/er/model-2.safetensors") == b"2" * 300
    assert links_asked_for(hub) == 2


def test_a_link_that_is_too_old_is_asked_for_anew_at_once(
    source: HubSource, listing: Listing, hub: Hub
) -> None:
    assert fetched(source, listing) == CONTENT
    hub.expire_links()
    assert fetched(source, listing, 7) == CONTENT[7:]
    assert links_asked_for(hub) == 2
    assert fetched(source, listing, 9) == CONTENT[9:]
    assert links_asked_for(hub) == 2


def test_a_link_that_fails_is_not_kept(source: HubSource, listing: Listing, hub: Hub) -> None:
    assert fetched(source, listing) == CONTENT
    hub.faults.append(Fault(Status(302, headers={"Location": "ftp://x"}), kind="cdn", times=1))
    with pytest.raises(SourceUnavailableError):
        fetched(source, listing)
    assert fetched(source, listing) == CONTENT
    assert links_asked_for(hub) == 2


def test_a_link_is_not_kept_for_small_files(source: HubSource, listing: Listing, hub: Hub) -> None:
    for _ in range(2):
        fetched(source, listing, path="deep/er/model-2.safetensors")
    assert links_asked_for(hub) == 2


def test_only_the_latest_links_are_kept(
    source: HubSource, hub: Hub, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_politeness, "LINKS_KEPT", 2)
    repo.commit({f"{n}.safetensors": b"%d" % n * 500 for n in range(3)})
    listing = source.list(SourceRequest("hf://acme/tiny"))
    for n in (0, 1, 2, 2, 1, 0):
        assert fetched(source, listing, path=f"{n}.safetensors") == b"%d" % n * 500
    assert links_asked_for(hub) == 4


@pytest.mark.parametrize(("fills", "burst", "pause"), [(1, 600, 0.1), (2, 300, 0.2), (5, 120, 0.5)])
def test_small_files_are_asked_for_at_a_rate_that_the_nodes_fills_share(
    monkeypatch: pytest.MonkeyPatch, fills: int, burst: int, pause: float
) -> None:
    monkeypatch.undo()
    clock = ManualClock()
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        clock.advance(seconds)

    allowance = Allowance(clock, fills, wait)
    for _ in range(burst):
        allowance.take(SMALL)
        allowance.take(LARGE)
    assert sum(waited) < 0.001
    for _ in range(50):
        allowance.take(SMALL)
    assert sum(waited) == pytest.approx(50 * pause)
    clock.advance(3600)
    waited.clear()
    for _ in range(burst):
        allowance.take(SMALL)
    assert sum(waited) < 0.001
    allowance.take(SMALL)
    assert sum(waited) == pytest.approx(pause)
