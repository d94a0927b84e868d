"""hf-xet seen from a source: how many ranges at once, whose token, which way out."""

import json
import os
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.planning.values import RemoteFile
from agent.sources.web import Network, origin_of
from agent.sources.xet import STREAM_BYTES, Xet, XetAccess, XetTerms, read_access
from agent.sources.xet_child import said
from larder.errors import SourceUnavailableError
from runtime.clock import ManualClock
from tests.fakes.certificates import issue
from tests.fakes.xet_cas import EXPIRES, TOKEN, Cas

CONTENT = os.urandom(100_000)
HUB = origin_of("https://hub.example")


@pytest.fixture
def cas() -> Iterator[Cas]:
    with Cas() as cas:
        yield cas


@pytest.fixture
def file(tmp_path: Path, cas: Cas) -> RemoteFile:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    (name,) = cas.upload([path])
    return RemoteFile("file", len(CONTENT), xet_hash=name)


@pytest.fixture
def terms(tmp_path: Path) -> Iterator[XetTerms]:
    home_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    told: list[str] = []
    yield XetTerms(2 * STREAM_BYTES, home_fd, Network(), ManualClock(), lambda: True, told.append)
    os.close(home_fd)
    assert told == []


def read(xet: Xet, file: RemoteFile, access: XetAccess, span: range | None = None) -> bytes | None:
    """What comes of a range; None if it is to be fetched another way."""
    span = span or range(file.size_bytes)
    buffer = memoryview(bytearray(len(span)))
    with xet.fetch(file, span, lambda: access) as body:
        if body is None:
            return None
        assert body.start == span.start
        position = 0
        while count := body.readinto(buffer[position:]):
            position += count
    return bytes(buffer[:position])


def test_a_range_is_what_was_asked_for(cas: Cas, file: RemoteFile, terms: XetTerms) -> None:
    with closing(Xet(terms)) as xet:
        given = read(xet, file, XetAccess(cas.url, TOKEN, EXPIRES), range(70_001, 99_999))
    assert given == CONTENT[70_001:99_999]


def test_a_file_without_a_xet_hash_is_not_for_hf_xet(cas: Cas, terms: XetTerms) -> None:
    with closing(Xet(terms)) as xet:
        assert read(xet, RemoteFile("a", 3), XetAccess(cas.url, TOKEN, EXPIRES)) is None


def test_as_many_ranges_are_under_way_as_the_memory_has_room_for(
    cas: Cas, file: RemoteFile, terms: XetTerms
) -> None:
    access = XetAccess(cas.url, TOKEN, EXPIRES)
    span = range(file.size_bytes)
    with closing(Xet(terms)) as xet:
        with xet.fetch(file, span, lambda: access), xet.fetch(file, span, lambda: access):
            assert read(xet, file, access) is None
        assert read(xet, file, access) == CONTENT


def test_a_token_is_used_until_shortly_before_it_ends(
    cas: Cas, file: RemoteFile, terms: XetTerms
) -> None:
    clock = ManualClock()
    asked: list[XetAccess] = []

    def access() -> XetAccess:
        asked.append(XetAccess(cas.url, TOKEN, int(clock.now()) + 600))
        return asked[-1]

    def stays_unused() -> None:
        with xet.fetch(file, range(10), access) as body:
            assert body is not None

    with closing(Xet(replace(terms, clock=clock))) as xet:
        for seconds, tokens in ((0, 1), (500, 1), (41, 2)):
            clock.advance(seconds)
            stays_unused()
            assert len(asked) == tokens


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="another document"),
        pytest.param("[" * 60_000, id="brackets in brackets"),
        pytest.param('{"casUrl": "https://c", "accessToken": "t", "exp": Infinity}', id="never"),
        pytest.param(json.dumps({"casUrl": "https://c", "exp": 1}), id="no token"),
        pytest.param(json.dumps({"casUrl": 7, "accessToken": "t", "exp": 1}), id="no URL"),
        pytest.param(json.dumps({"casUrl": "ftp://c", "accessToken": "t", "exp": 1}), id="ftp"),
        pytest.param(json.dumps({"casUrl": "http://c", "accessToken": "t", "exp": 1}), id="http"),
        pytest.param(json.dumps({"casUrl": "https://c", "accessToken": "t", "exp": "?"}), id="end"),
    ],
)
def test_what_names_no_store_over_https_is_refused(answer: str) -> None:
    with pytest.raises(SourceUnavailableError, match=r"^hub\.example names (no|a) store of chunks"):
        read_access(answer, HUB)


def test_a_store_is_named_with_a_token_that_is_not_shown() -> None:
    access = read_access('{"casUrl": "https://c/", "accessToken": "hidden", "exp": 1}', HUB)
    assert access == XetAccess("https://c", "hidden", 1)
    assert "hidden" not in repr(access)


def test_the_authorities_of_the_catalog_are_hf_xet_s(
    tmp_path: Path, file: RemoteFile, cas: Cas, terms: XetTerms
) -> None:
    authority, leaf = issue(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(leaf)
    with Cas(tls) as store:
        store.xorbs, store.files = cas.xorbs, cas.files
        with closing(Xet(replace(terms, network=Network(ca_bundle=str(authority))))) as xet:
            assert read(xet, file, XetAccess(store.url, TOKEN, EXPIRES)) == CONTENT


def test_the_proxy_of_the_catalog_is_hf_xet_s(file: RemoteFile, cas: Cas, terms: XetTerms) -> None:
    access = XetAccess("http://store.example", TOKEN, EXPIRES)
    with closing(Xet(replace(terms, network=Network(proxy=cas.url)))) as xet:
        assert read(xet, file, access) == CONTENT
    assert f"GET http://store.example/v1/reconstructions/{file.xet_hash}" in cas.requests


def test_what_hf_xet_says_is_told_without_token_and_links() -> None:
    error = RuntimeError("tok_1 was refused\nby https://cas/x?sig=1, said the store")
    assert said(error, "tok_1") == "RuntimeError: *** was refused by a URL said the store"
