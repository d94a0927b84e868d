"""The contract of `agent.sources.interface`, kept by every source against a real server.

What can go wrong between a source and its server is done by the proxy before it, the same for all.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.planning.values import Algorithm, Checksum, Listing, parse_listing
from agent.sources.interface import RangeRefusedError
from agent.sources.schemes import SCHEMES, Scheme
from agent.sources.secret import NO_SECRET
from agent.sources.web import Network, Timeouts
from demo.hub_faults import Cut, Drip, FlipBit, Headers, IgnoreRange, Stall, Status, Truncate
from larder.errors import (
    AccessDeniedError,
    FillError,
    ModelNotFoundError,
    SourceDriftedError,
    SourceUnavailableError,
    TransientError,
)
from tests.agent.sources.contract.remotes import BEARER, BIG, CONTENT, Remote
from tests.fakes.azure_server import ACCOUNT
from tests.fakes.certificates import issue
from tests.fakes.fault_proxy import Action, Fault, FaultProxy, Reset
from tests.fakes.file_server import FileServer


def listed(remote: Remote) -> Listing:
    with remote.source() as source:
        return source.list(remote.request)


def scheme_of_page(remote: Remote) -> Scheme:
    """What docs/sources.md says of the remote."""
    host = f"{ACCOUNT}.blob."
    uri = remote.server.storage_uri.replace(host, "ACCOUNT.blob.").replace("models.example", "HOST")
    is_azure = "ACCOUNT" in uri
    start = "https://ACCOUNT" if is_azure else uri.partition("://")[0] + "://"
    return [scheme for scheme in SCHEMES if scheme.uri.startswith(start)][0 if is_azure else -1]


TREE = {"config.json": b"{}", "deep/er/a b+c&d.txt": b"odd", BIG: CONTENT}


# --- listing --------------------------------------------------------------------------------------


def test_a_listing_has_every_file_with_its_size_sorted(remote: Remote) -> None:
    files = TREE if remote.server.takes_trees else {BIG: CONTENT}
    remote.server.put(files)
    listing = listed(remote)
    assert {f.path: f.size_bytes for f in listing.files} == {p: len(c) for p, c in files.items()}
    paths = [f.path for f in listing.files]
    assert paths == sorted(paths, key=str.encode)
    assert listing.storage_uri == remote.server.storage_uri
    assert listing.revision
    assert not set(listing.revision) & set(" \n\t")


def test_two_listings_of_the_same_bytes_are_equal(remote: Remote) -> None:
    assert listed(remote) == listed(remote)


def test_a_change_is_another_revision(remote: Remote) -> None:
    before = listed(remote)
    remote.server.put({BIG: CONTENT[::-1]})
    assert listed(remote).revision != before.revision


def test_nothing_that_was_asked_for_is_a_model_not_found(remote: Remote) -> None:
    remote.server.put({"other.bin": b"x"})
    if remote.server.takes_trees:
        remote.server.put({})
    with pytest.raises(ModelNotFoundError):
        listed(remote)


def test_a_listing_s_digests_are_those_of_the_bytes(remote: Remote) -> None:
    (file,) = listed(remote).files
    known = {"sha256"} if file.sha256 else set()
    known |= {file.checksum.algorithm} if file.checksum else set()
    assert known <= scheme_of_page(remote).digests.keys()
    assert bool(known) is bool(scheme_of_page(remote).digests)
    if file.sha256:
        assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()
    if file.checksum:
        md5 = hashlib.md5(CONTENT, usedforsecurity=False)
        assert file.checksum == Checksum(Algorithm.MD5, md5.hexdigest())


# --- fetching -------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, 100_000, len(CONTENT) - 1])
def test_a_file_is_fetched_from_an_offset_on(remote: Remote, offset: int) -> None:
    listing = listed(remote)
    with remote.source() as source:
        assert remote.fetched(source, listing, offset=offset) == CONTENT[offset:]
    (asked,) = [a for a in remote.proxy.requests if remote.server.fetches(a) and a.method == "GET"]
    assert asked.headers.get("Range") == (f"bytes={offset}-" if offset else None)


@pytest.mark.parametrize("offset", [0, 1, 100_000])
def test_a_range_of_a_file_is_fetched(remote: Remote, offset: int) -> None:
    listing = listed(remote)
    with remote.source() as source:
        assert remote.fetched(source, listing, offset=offset, length=500) == CONTENT[offset:][:500]
    (asked,) = [a for a in remote.proxy.requests if remote.server.fetches(a) and a.method == "GET"]
    assert asked.headers.get("Range") == f"bytes={offset}-{offset + 499}"


def test_ranges_of_a_file_are_fetched_by_several_threads(remote: Remote) -> None:
    listing, step = listed(remote), len(CONTENT) // 16
    with remote.source() as source, ThreadPoolExecutor(4) as pool:

        def fetch(offset: int) -> bytes:
            return remote.fetched(source, listing, offset=offset, length=step)

        assert b"".join(pool.map(fetch, range(0, len(CONTENT), step))) == CONTENT


def test_a_body_that_is_aborted_ends_for_whoever_reads_it(remote: Remote) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(Stall(1000), remote.server.fetches))
    with remote.source() as source, source.fetch(listing, listing.files[0]) as body:
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(body.readinto, memoryview(bytearray(len(CONTENT))))
            body.abort()
        try:
            assert read.result() <= 1000
        except SourceUnavailableError as error:
            assert "not answer in time" not in str(error)
        body.abort()  # again is nothing


def test_a_listing_that_was_written_down_is_as_good(remote: Remote) -> None:
    listing = parse_listing(listed(remote).text())
    assert listing == listed(remote)
    with remote.source() as source:
        assert remote.fetched(source, listing, offset=9) == CONTENT[9:]


def test_every_file_of_a_tree_is_fetched(remote: Remote) -> None:
    files = TREE if remote.server.takes_trees else {BIG: CONTENT}
    remote.server.put(files)
    listing = listed(remote)
    with remote.source() as source:
        for path, content in files.items():
            assert remote.fetched(source, listing, path) == content


def test_a_range_that_the_server_ignores_is_told(remote: Remote) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(IgnoreRange(), remote.server.fetches))
    secret = NO_SECRET if remote.server.signs_ranges else None
    with (
        remote.source(secret=secret) as source,
        source.fetch(listing, listing.files[0], 100) as body,
    ):
        assert body.start == 0


@pytest.mark.parametrize("fault", [Cut(100_000), Truncate(100_000), Reset(100_000)])
def test_what_came_before_a_body_broke_off_is_kept_and_the_rest_is_asked_for(
    remote: Remote, fault: Action
) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(fault, remote.server.fetches, times=1))
    content, buffer = b"", memoryview(bytearray(10_000))
    with remote.source() as source:
        try:
            with source.fetch(listing, listing.files[0]) as body:
                while count := body.readinto(buffer):
                    content += buffer[:count]
        except SourceUnavailableError:
            pass
        assert content == CONTENT[: len(content)]
        assert len(content) <= 100_000
        rest = remote.fetched(source, listing, offset=len(content))
    assert content + rest == CONTENT


def test_wrong_bytes_are_passed_on_for_the_digest_to_find(remote: Remote) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(FlipBit(5000), remote.server.fetches))
    with remote.source() as source:
        assert remote.fetched(source, listing) != CONTENT


def test_a_server_that_falls_silent_is_given_up(remote: Remote) -> None:
    listing = listed(remote)
    remote.timeouts = Timeouts(0.3, 0.3)
    remote.proxy.faults.append(Fault(Stall(1000), remote.server.fetches))
    with remote.source() as source, pytest.raises(SourceUnavailableError, match="not answer in"):
        remote.fetched(source, listing)


def test_a_slow_drip_is_endured(remote: Remote) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(Drip(50_000, 0.01), remote.server.fetches))
    with remote.source() as source:
        assert remote.fetched(source, listing) == CONTENT


def test_a_length_beyond_what_was_listed_is_a_drift(remote: Remote) -> None:
    listing = listed(remote)
    longer = Headers({"Content-Length": str(len(CONTENT) + 1)})
    remote.proxy.faults.append(Fault(longer, remote.server.fetches))
    with remote.source() as source, pytest.raises(SourceDriftedError, match="was listed with"):
        remote.fetched(source, listing)


@pytest.mark.parametrize("said", ["bytes 99-307199/307200", "bytes 100-307199/*", "nonsense"])
def test_another_range_than_the_one_asked_for_is_refused(remote: Remote, said: str) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(Headers({"Content-Range": said}), remote.server.fetches))
    with remote.source() as source, pytest.raises(SourceUnavailableError, match="was asked"):
        remote.fetched(source, listing, offset=100)


@pytest.mark.parametrize("length", [None, "1000"])
def test_a_body_that_is_compressed_on_the_way_is_refused(
    remote: Remote, length: str | None
) -> None:
    listing = listed(remote)
    compressed = Headers({"Content-Encoding": "gzip", "Content-Length": length})
    remote.proxy.faults.append(Fault(compressed, remote.server.fetches))
    with remote.source() as source, pytest.raises(SourceUnavailableError, match="unasked"):
        remote.fetched(source, listing)


@pytest.mark.parametrize("fault", [Stall(10), Reset(10), Cut(10), Truncate(10)])
def test_a_listing_that_does_not_come_whole_is_none(remote: Remote, fault: Action) -> None:
    remote.timeouts = Timeouts(1.0, 1.0)
    remote.proxy.faults.append(Fault(fault, remote.server.lists))
    if not remote.server.takes_trees:  # what is said of a single file is in the answer's headers
        assert listed(remote).files
        return
    with pytest.raises(SourceUnavailableError) as refused:
        listed(remote)
    assert_is_a_sentence(remote, refused.value)


def test_a_listing_that_drips_is_endured(remote: Remote) -> None:
    whole = listed(remote)
    remote.proxy.faults.append(Fault(Drip(100, 0.01), remote.server.lists))
    assert listed(remote) == whole


@pytest.mark.parametrize("status", [302, 307])
def test_a_listing_that_is_redirected_elsewhere_takes_no_credentials_along(
    remote: Remote, status: int
) -> None:
    with FileServer({}) as elsewhere, FaultProxy(elsewhere.url) as other:
        location = {"Location": other.url.replace("127.0.0.1", "localhost") + "/?a=b"}
        remote.proxy.faults.append(Fault(Status(status, headers=location), remote.server.lists))
        with pytest.raises(SourceUnavailableError):
            listed(remote)
    named = {name.lower() for asked in other.requests for name in asked.headers}
    assert not {n for n in named if n == "authorization" or n.startswith(("x-amz-", "x-ms-"))}


# --- a source that moves on -----------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1000])
def test_another_version_is_never_mixed_into_what_was_listed(remote: Remote, offset: int) -> None:
    listing = listed(remote)
    remote.server.put({BIG: CONTENT[::-1]})
    with remote.source() as source:
        try:
            assert remote.fetched(source, listing, offset=offset) == CONTENT[offset:]
        except SourceDriftedError as error:
            assert BIG in str(error)


def test_a_file_that_is_gone_is_a_drift(remote: Remote) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(Status(404), remote.server.fetches))
    with remote.source() as source, pytest.raises(SourceDriftedError, match=BIG):
        remote.fetched(source, listing)


# --- refusals -------------------------------------------------------------------------------------

REFUSALS = [
    pytest.param(Status(401), AccessDeniedError, id="401"),
    pytest.param(Status(403), AccessDeniedError, id="403"),
    pytest.param(Status(404), ModelNotFoundError, id="404"),
    pytest.param(Status(429), SourceUnavailableError, id="429"),
    pytest.param(Status(500), SourceUnavailableError, id="500"),
    pytest.param(Status(503), SourceUnavailableError, id="503"),
]


@pytest.mark.parametrize(("fault", "error"), REFUSALS)
def test_a_refusal_to_list_is_one_of_our_errors_at_once(
    remote: Remote, fault: Status, error: type[FillError]
) -> None:
    remote.proxy.faults.append(Fault(fault, remote.server.lists))
    with pytest.raises(error) as refused:
        listed(remote)
    assert len(remote.proxy.requests) == 1
    assert_is_a_sentence(remote, refused.value)


@pytest.mark.parametrize(
    ("fault", "error"),
    [p for p in REFUSALS if p.id != "404"]
    + [pytest.param(Status(416), RangeRefusedError, id="416")],
)
def test_a_refusal_to_give_a_file_is_one_of_our_errors(
    remote: Remote, fault: Status, error: type[FillError]
) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(fault, remote.server.fetches))
    with remote.source() as source, pytest.raises(error) as refused:
        remote.fetched(source, listing, offset=7)
    assert_is_a_sentence(remote, refused.value)


def assert_is_a_sentence(remote: Remote, error: FillError) -> None:
    said = str(error)
    assert said.isprintable()
    assert "://" not in said
    assert "?" not in said
    assert BEARER not in said
    for value in remote.server.secret.data.values():
        assert value == "127.0.0.1" or value not in said


@pytest.mark.parametrize("status", [429, 503])
def test_when_to_ask_again_is_taken_from_the_answer(remote: Remote, status: int) -> None:
    listing = listed(remote)
    remote.proxy.faults.append(Fault(Status(status, headers={"Retry-After": "17"})))
    with pytest.raises(TransientError) as refused:
        listed(remote)
    assert refused.value.retry_after_seconds == 17
    with remote.source() as source, pytest.raises(TransientError) as refused:
        remote.fetched(source, listing)
    assert refused.value.retry_after_seconds == 17


def test_a_server_that_is_not_there_is_unavailable(remote: Remote) -> None:
    with (
        remote.source(url="http://127.0.0.1:1") as source,
        pytest.raises(SourceUnavailableError, match="cannot be reached"),
    ):
        source.list(remote.request)


# --- redirects and trust --------------------------------------------------------------------------


def test_a_redirect_to_a_signed_link_is_followed_without_the_credentials(remote: Remote) -> None:
    listing = listed(remote)
    with FileServer({"/signed": CONTENT}) as elsewhere, FaultProxy(elsewhere.url) as cdn:
        elsewhere.etags["/signed"] = listing.files[0].etag or ""
        location = {"Location": cdn.url + "/signed?sig=abcdefghij"}
        remote.proxy.faults.append(Fault(Status(302, headers=location), remote.server.fetches))
        with remote.source() as source:
            assert remote.fetched(source, listing, offset=10) == CONTENT[10:]
    (asked,) = cdn.requests
    assert "Authorization" not in asked.headers
    assert all(BEARER not in value for value in asked.headers.values())


def test_an_old_link_is_worth_another_one(remote: Remote) -> None:
    listing = listed(remote)
    with FaultProxy(remote.server.url) as cdn:
        cdn.faults.append(Fault(Status(403)))
        location = {"Location": cdn.url + "/signed?sig=abcdefghij"}
        fault = Fault(Status(302, headers=location), remote.server.fetches, times=1)
        remote.proxy.faults.append(fault)
        with remote.source() as source:
            with pytest.raises(SourceUnavailableError, match="403") as refused:
                remote.fetched(source, listing)
            assert "abcdefghij" not in str(refused.value)
            assert remote.fetched(source, listing) == CONTENT


def test_a_private_authority_is_trusted_when_the_catalog_names_it(
    remote: Remote, tmp_path: Path
) -> None:
    authority, leaf = issue(tmp_path)
    with FaultProxy(remote.server.url, leaf) as secure:
        with remote.source(url=secure.url, network=Network(ca_bundle=str(authority))) as source:
            listing = source.list(remote.request)
            assert remote.fetched(source, listing, offset=3) == CONTENT[3:]
        asked = len(secure.requests)
        with (
            remote.source(url=secure.url) as source,
            pytest.raises(SourceUnavailableError, match=r"cannot be reached|is not trusted"),
        ):
            source.list(remote.request)
        with (
            remote.source(url=secure.url) as source,
            pytest.raises(SourceUnavailableError, match="is not trusted"),
        ):
            remote.fetched(source, listing)
        assert len(secure.requests) == asked


def test_a_bundle_that_cannot_be_read_is_said(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for path in (tmp_path / "no.pem", tmp_path / "gone.pem"):
        network = Network(ca_bundle=str(path))
        with (
            remote.source(url="https://127.0.0.1:1", network=network) as source,
            pytest.raises(SourceUnavailableError, match="cannot be read"),
        ):
            source.list(remote.request)


@pytest.mark.parametrize(
    "proxy",
    ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1:99999", "http://[::1"],
)
def test_a_proxy_of_the_environment_that_is_none_of_ours_is_one_sentence(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("no_proxy", "")
    with (
        remote.source(url="http://127.0.0.2:9") as source,
        pytest.raises(SourceUnavailableError, match="is not given as http://HOST:PORT"),
    ):
        source.list(remote.request)


def test_the_environment_s_proxy_is_the_way_out_unless_it_says_otherwise(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", remote.proxy.url)
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.3")
    with remote.source(url="http://127.0.0.2:9") as source:
        assert remote.fetched(source, source.list(remote.request)) == CONTENT
    asked = len(remote.proxy.requests)
    with remote.source(url="http://127.0.0.3:9") as source, pytest.raises(SourceUnavailableError):
        source.list(remote.request)
    assert len(remote.proxy.requests) == asked


def test_the_catalog_s_proxy_is_the_way_out(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    network = Network(proxy=remote.proxy.url)
    with remote.source(url="http://127.0.0.2:9", network=network) as source:
        listing = source.list(remote.request)
        assert remote.fetched(source, listing) == CONTENT
    assert {a.headers["Host"] for a in remote.proxy.requests} == {"127.0.0.2:9"}
