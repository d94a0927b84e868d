"""Single files over HTTPS: which version, how large, and whom the Secret's headers are for."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.planning.values import Listing
from agent.sources.https import HttpsSource
from agent.sources.interface import RangeRefusedError, SourceRequest
from agent.sources.secret import NO_SECRET, Secret
from agent.sources.web import Timeouts, Web
from demo.hub_faults import Headers, Status
from larder.contract import FillFailure
from larder.errors import (
    AccessDeniedError,
    ModelNotFoundError,
    PermanentError,
    SourceDriftedError,
    SourceUnavailableError,
)
from runtime.clock import ManualClock
from tests.fakes.fault_proxy import Fault, FaultProxy
from tests.fakes.file_server import FileServer

URI = "https://models.example/pub/m.gguf"
CONTENT = b"0123456789" * 100


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"/pub/m.gguf": CONTENT}) as server:
        yield server


@pytest.fixture
def source(server: FileServer) -> Iterator[HttpsSource]:
    web = Web(Timeouts(5.0, 5.0))
    with closing(HttpsSource(server.url, NO_SECRET, ManualClock(), web)) as source:
        yield source


def listed(source: HttpsSource, uri: str = URI) -> Listing:
    return source.list(SourceRequest(uri))


def fetched(source: HttpsSource, listing: Listing, offset: int = 0) -> bytes:
    buffer = memoryview(bytearray(4096))
    with source.fetch(listing, listing.files[0], offset) as body:
        return bytes(buffer[: body.readinto(buffer)])


def test_the_file_has_the_url_s_last_part_as_its_name(server: FileServer) -> None:
    server.files["/pub/a%20b+c.gguf"] = b"x"
    with closing(HttpsSource(server.url + "/", NO_SECRET, ManualClock(), Web())) as source:
        assert listed(source, "HTTPS://h/pub/a%20b+c.gguf/").files[0].path == "a%20b+c.gguf"


@pytest.mark.parametrize("uri", ["https://h/" + "n" * 256, "https://h/pub/.."])
def test_what_cannot_be_a_file_s_name_is_refused(source: HttpsSource, uri: str) -> None:
    with pytest.raises(ModelNotFoundError, match="cannot be a file's name"):
        listed(source, uri)


def test_an_empty_file_is_one(server: FileServer, source: HttpsSource) -> None:
    server.files["/pub/m.gguf"] = b""
    listing = listed(source)
    assert listing.size_bytes == 0
    assert fetched(source, listing) == b""


def test_a_file_whose_size_nobody_says_is_refused(server: FileServer, source: HttpsSource) -> None:
    server.says_length = False
    with pytest.raises(PermanentError, match=r"does not say how large 'm\.gguf' is") as refused:
        listed(source)
    assert refused.value.reason is FillFailure.SIZE_UNKNOWN


def test_a_file_in_chunks_whose_size_nobody_says_is_listed_with_what_its_entry_lets_it_have(
    server: FileServer, source: HttpsSource
) -> None:
    server.sends_chunks = True
    (file,) = source.list(SourceRequest(URI, max_size_bytes=5000)).files
    assert (file.size_bytes, file.unpacked_bytes, file.etag) == (
        0,
        5000,
        server.etag("/pub/m.gguf"),
    )
    with pytest.raises(PermanentError, match="accepted: a file with maxSize in its entry"):
        listed(source)
    server.files["/pub/m.zip"] = CONTENT
    with pytest.raises(PermanentError, match=r"does not say how large 'm\.zip' is"):
        source.list(SourceRequest("https://models.example/pub/m.zip", max_size_bytes=5000))
    server.sends_chunks, server.says_length = False, False  # whether it is whole, nobody tells
    with pytest.raises(PermanentError, match="sent in chunks"):
        source.list(SourceRequest(URI, max_size_bytes=5000))


@pytest.mark.parametrize("name", ["m.tar", "m.tgz", "m.tar.gz", "m.zip"])
def test_an_archive_is_listed_with_what_its_entry_lets_it_hold(
    server: FileServer, source: HttpsSource, name: str
) -> None:
    server.files[f"/pub/{name}"] = CONTENT
    uri = f"https://models.example/pub/{name}"
    (file,) = source.list(SourceRequest(uri, max_size_bytes=5000)).files
    assert (file.path, file.size_bytes, file.unpacked_bytes) == (name, 1000, 5000)
    with pytest.raises(PermanentError, match="accepted: maxSize in its entry") as refused:
        listed(source, uri)
    assert refused.value.reason is FillFailure.SIZE_UNKNOWN


@pytest.mark.parametrize("name", ["m.TAR", "m.Zip", "m.tar.bz2", "m.txz"])
def test_what_kserve_unpacks_and_we_do_not_is_refused(
    server: FileServer, source: HttpsSource, name: str
) -> None:
    server.files[f"/pub/{name}"] = CONTENT
    with pytest.raises(SourceDriftedError, match=r"cannot be cached; accepted: \.tar,"):
        source.list(SourceRequest(f"https://models.example/pub/{name}", max_size_bytes=5000))


def test_a_file_that_is_no_archive_is_listed_as_it_is(source: HttpsSource) -> None:
    (file,) = source.list(SourceRequest(URI, max_size_bytes=5000)).files
    assert file.unpacked_bytes is None


def test_a_web_page_is_no_model(server: FileServer, source: HttpsSource) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(SourceDriftedError, match="gives a web page"):
        listed(source)


# --- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [{"ETag", "Last-Modified"}, {"ETag"}, {"Last-Modified"}])
def test_a_change_is_seen_by_whatever_the_server_names(
    server: FileServer, source: HttpsSource, tags: set[str]
) -> None:
    server.tags = tags
    listing = listed(source)
    assert fetched(source, listing, 5) == CONTENT[5:]
    server.files["/pub/m.gguf"] = CONTENT[::-1]
    for offset in (0, 5):
        with pytest.raises(SourceDriftedError, match=r"another 'm\.gguf' than it listed"):
            fetched(source, listing, offset)
    assert listed(source).revision != listing.revision


def test_the_server_is_told_which_version_is_wanted(server: FileServer) -> None:
    with FaultProxy(server.url) as proxy:
        source = HttpsSource(proxy.url, NO_SECRET, ManualClock(), Web(Timeouts(5.0, 5.0)))
        with closing(source):
            for tag, condition in (("ETag", "If-Match"), ("Last-Modified", "If-Unmodified-Since")):
                server.tags = {tag}
                listing = listed(source)
                fetched(source, listing, 5)
                (file,) = listing.files
                assert proxy.requests[-1].headers[condition] == (file.etag or file.version)


def test_a_server_that_ignores_the_date_is_held_to_it(server: FileServer) -> None:
    server.tags = {"Last-Modified"}
    with FaultProxy(server.url) as proxy:
        source = HttpsSource(proxy.url, NO_SECRET, ManualClock(), Web(Timeouts(5.0, 5.0)))
        with closing(source):
            listing = listed(source)
            later = Headers({"Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT"})
            proxy.faults.append(Fault(later))
            with pytest.raises(SourceDriftedError, match="another"):
                fetched(source, listing, 5)


def test_a_weak_etag_is_compared_and_not_sent(server: FileServer, source: HttpsSource) -> None:
    server.etags["/pub/m.gguf"] = 'W/"1"'
    listing = listed(source)
    assert fetched(source, listing, 5) == CONTENT[5:]
    server.etags["/pub/m.gguf"] = 'W/"2"'
    with pytest.raises(SourceDriftedError):
        fetched(source, listing, 5)


def test_a_server_that_stops_naming_the_version_is_not_believed(
    server: FileServer, source: HttpsSource
) -> None:
    listing = listed(source)
    server.tags = set()
    with pytest.raises(SourceUnavailableError, match=r"does not say which 'm\.gguf'"):
        fetched(source, listing)


def test_a_file_without_a_version_is_fetched_whole_or_not_at_all(
    server: FileServer, source: HttpsSource
) -> None:
    server.tags = set()
    listing = listed(source)
    assert fetched(source, listing) == CONTENT
    with pytest.raises(RangeRefusedError, match="still the same file"):
        fetched(source, listing, 1)


@pytest.mark.parametrize("etag", ["", "unquoted", '"' + "x" * 300 + '"', '"a b"'])
def test_what_is_no_etag_is_none(server: FileServer, source: HttpsSource, etag: str) -> None:
    server.tags = {"ETag"}
    server.etags["/pub/m.gguf"] = etag or "-"
    assert listed(source).files[0].etag is None


# --- whom the headers are for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "is_sent"), [("127.0.0.1", True), ("models.example", False), ("", False)]
)
def test_headers_go_to_the_host_that_the_secret_names(
    server: FileServer, host: str, is_sent: bool
) -> None:
    headers = json.dumps({"Authorization": "Bearer sesame", "X-Team": "a"}, indent=1)
    secret = Secret({"https-host": host, "headers": headers})
    with FaultProxy(server.url) as proxy:
        source = HttpsSource(proxy.url, secret, ManualClock(), Web(Timeouts(5.0, 5.0)))
        with closing(source):
            listed(source)
        (asked,) = proxy.requests
    assert (asked.headers.get("Authorization") == "Bearer sesame") is is_sent
    assert (asked.headers.get("X-Team") == "a") is is_sent


@pytest.mark.parametrize(
    "headers",
    [
        "",
        "nonsense",
        "[]",
        '{"A": 1}',
        '{"A": "b\\nc"}',
        '{"A: b": "c"}',
        '{"Ä": "c"}',
        '{"": "c"}',
    ],
)
def test_headers_that_are_none_are_said_to_be(server: FileServer, headers: str) -> None:
    secret = Secret({"https-host": "127.0.0.1", "headers": headers})
    source = HttpsSource(server.url, secret, ManualClock(), Web())
    with closing(source), pytest.raises(AccessDeniedError, match="no JSON object of headers"):
        listed(source)


@pytest.mark.parametrize(("keys", "says"), [((), "wants"), (("sesame",), "refuses the")])
def test_a_401_says_whether_credentials_were_shown(
    server: FileServer, keys: tuple[str, ...], says: str
) -> None:
    server.keys = ("another",)
    headers = json.dumps({"Authorization": keys[0]}) if keys else ""
    secret = Secret({"https-host": "127.0.0.1", "headers": headers} if keys else {})
    source = HttpsSource(server.url, secret, ManualClock(), Web())
    with closing(source), pytest.raises(AccessDeniedError, match=f"{says} credentials"):
        listed(source)


@pytest.mark.parametrize(
    "location",
    [
        "http://a..b/x",
        f"http://{'a' * 64}.example/x",
        "http://./x",
        "http://h\x1b[31m/x",
        "http:// /x",
    ],
)
def test_a_redirect_to_what_is_no_host_is_one_sentence(server: FileServer, location: str) -> None:
    with FaultProxy(server.url) as proxy:
        proxy.faults.append(Fault(Status(302, headers={"Location": location})))
        with (
            closing(HttpsSource(proxy.url, NO_SECRET, ManualClock(), Web())) as source,
            pytest.raises(SourceUnavailableError) as refused,
        ):
            listed(source)
    assert str(refused.value).isprintable()


def test_a_length_that_no_file_has_is_none(server: FileServer) -> None:
    with FaultProxy(server.url) as proxy:
        proxy.faults.append(Fault(Headers({"Content-Length": "9" * 5000, "Content-Range": None})))
        with (
            closing(HttpsSource(proxy.url, NO_SECRET, ManualClock(), Web())) as source,
            pytest.raises(PermanentError, match="does not say how large") as refused,
        ):
            listed(source)
    assert refused.value.reason is FillFailure.SIZE_UNKNOWN
