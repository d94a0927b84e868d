"""What a bucket of Google Cloud Storage becomes, what proves it, and whom it is shown to."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import google_crc32c
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from agent.planning.values import Algorithm, Checksum
from agent.sources.gs import KEY_FILE, GcsAccess, GcsStore
from agent.sources.objects import objects_below
from agent.sources.secret import NO_SECRET, Secret
from agent.sources.web import Timeouts, Web
from demo.hub_faults import Headers, Status
from larder.errors import AccessDeniedError, SourceDriftedError, SourceUnavailableError
from runtime.clock import ManualClock
from tests.agent.sources.stored import fetched, listed
from tests.fakes.fault_proxy import Edit, Fault, FaultProxy
from tests.fakes.gcs_server import GcsBucket
from tests.fakes.kserve_download import kserve_downloads
from tests.fakes.token_server import TokenServer


@pytest.fixture
def bucket(fake_gcs_url: str, bucket_name: str) -> Iterator[GcsBucket]:
    with closing(GcsBucket(fake_gcs_url, bucket_name)) as bucket:
        yield bucket


@pytest.fixture
def proxy(bucket: GcsBucket) -> Iterator[FaultProxy]:
    with FaultProxy(bucket.url) as proxy:
        yield proxy


def opened(bucket: GcsBucket, url: str, prefix: str = "m", secret: Secret = NO_SECRET) -> GcsStore:
    web = Web(Timeouts(5.0, 5.0))
    access = GcsAccess(secret, ManualClock(), web)
    return GcsStore(f"{url}/storage/v1/b/{bucket.name}", prefix, access, web)


@pytest.mark.parametrize(
    ("objects", "prefix"),
    [
        pytest.param(
            {"m/a.json": b"{}", "m/": b"", "m/empty": b"", "m/d/ ü+%2F&.bin": b"w", "m2/x": b"x"},
            "m",
            id="a tree, with an empty file",
        ),
        pytest.param({"m/w.gguf": b"w", "m/w.gguf2": b"2"}, "m/w.gguf", id="one object"),
    ],
)
def test_the_tree_is_the_one_that_kserve_makes(
    bucket: GcsBucket, objects: dict[str, bytes], prefix: str, tmp_path: Path
) -> None:
    bucket.put(objects)
    ours = opened(bucket, bucket.url, prefix)
    theirs = kserve_downloads(
        f"gs://{bucket.name}/{prefix}", tmp_path / "out", STORAGE_EMULATOR_HOST=bucket.url
    )
    assert fetched(ours, listed(ours)) == theirs
    assert theirs


def test_an_object_is_listed_with_its_md5(bucket: GcsBucket) -> None:
    bucket.put({"m/a": b"abc"})
    (file,) = listed(opened(bucket, bucket.url)).files
    md5 = hashlib.md5(b"abc", usedforsecurity=False)
    assert file.checksum == Checksum(Algorithm.MD5, md5.hexdigest())
    assert file.version


def test_a_composed_object_is_listed_with_its_crc32c(bucket: GcsBucket, proxy: FaultProxy) -> None:
    bucket.put({"m/a": b"abc"})
    proxy.faults.append(Fault(Edit(lambda page: page.replace(b'"md5Hash"', b'"other"'))))
    (file,) = listed(opened(bucket, proxy.url)).files
    crc32c = f"{google_crc32c.value(b'abc'):08x}"
    assert file.checksum == Checksum(Algorithm.CRC32C, crc32c)


def test_pages_are_read_to_the_end(bucket: GcsBucket) -> None:
    bucket.put({f"m/{n}": b"x" for n in range(5)})
    with closing(opened(bucket, bucket.url)) as store:
        assert [found.key for found in objects_below(store, "m/", 2)] == [
            f"m/{n}" for n in range(5)
        ]


def test_an_object_is_asked_for_by_its_generation(bucket: GcsBucket, proxy: FaultProxy) -> None:
    bucket.put({"m/a": b"abc"})
    store = opened(bucket, proxy.url)
    listing = listed(store)
    fetched(store, listing)
    assert f"generation={listing.files[0].version}" in proxy.requests[-1].target


def test_another_generation_is_a_drift_even_if_it_is_given(
    bucket: GcsBucket, proxy: FaultProxy
) -> None:
    bucket.put({"m/a": b"abc"})
    store = opened(bucket, proxy.url)
    listing = listed(store)
    proxy.faults.append(Fault(Headers({"x-goog-generation": "1"})))
    with pytest.raises(SourceDriftedError, match="another 'a'"):
        fetched(store, listing)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda _: b"", "no listing"),
        (lambda _: b"[]", "no listing"),
        (lambda _: b'{"items": {}}', "no listing"),
        (lambda _: b"[" * 200_000, "no listing"),
        (lambda p: p.replace(b'"items"', b'"nextPageToken":7,"items"'), "no listing"),
        (lambda _: b" " * (7 << 20), "answers more than"),
        (lambda _: b'{"items": [1]}', "without size"),
        (lambda p: p.replace(b'"size":"1"', b'"size":"-1"'), "without size"),
        (lambda p: p.replace(b'"size":"1"', b'"size":"99999999999999999999"'), "without size"),
        (lambda p: p.replace(b'"generation"', b'"other"'), "without size or generation"),
        (lambda p: p.replace(b'"m/a"', b'"m/../a"'), "has the part '..'"),
        (lambda p: p.replace(b'"m/a"', b'"other/a"'), "outside"),
        (lambda p: p.replace(b'"size"', b'"contentEncoding":"gzip","size"'), "compressed"),
    ],
    ids=[
        *(
            "nothing",
            "a list",
            "items that are none",
            "brackets in brackets",
            "a page token that is none",
        ),
        *("a page without end", "an item that is none", "a negative size"),
        *("a size beyond any disk", "no generation", "a key that leads out", "one from elsewhere"),
        "a compressed object",
    ],
)
def test_a_hostile_page_gets_one_sentence(
    bucket: GcsBucket, proxy: FaultProxy, edit: Callable[[bytes], bytes], says: str
) -> None:
    bucket.put({"m/a": b"x"})
    proxy.faults.append(Fault(Edit(edit)))
    with pytest.raises((SourceDriftedError, SourceUnavailableError), match=says) as refused:
        listed(opened(bucket, proxy.url))
    assert str(refused.value).isprintable()


def test_pages_without_end_are_given_up(
    bucket: GcsBucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sources.objects.MAX_PAGES", 3)
    proxy.faults.append(Fault(Edit(lambda _: b'{"nextPageToken": "t"}')))
    with pytest.raises(SourceDriftedError, match="more than 3 pages"):
        listed(opened(bucket, proxy.url))


# --- service accounts -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def account_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def padded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_service_account_shows_a_claim_that_it_signed_and_its_token_goes_along(
    bucket: GcsBucket, proxy: FaultProxy, account_key: rsa.RSAPrivateKey
) -> None:
    bucket.put({"m/a": b"abc"})
    with TokenServer("sesame") as authority:
        account = {
            "type": "service_account",
            "client_email": "me@project",
            "private_key": pem(account_key),
            "token_uri": authority.url + "/token",
        }
        store = opened(bucket, proxy.url, secret=Secret({KEY_FILE: json.dumps(account)}))
        assert fetched(store, listed(store)) == {"a": b"abc"}
    ((_, form),) = authority.forms
    signed, _, signature = form["assertion"].rpartition(".")
    key = account_key.public_key()
    key.verify(padded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    claim = json.loads(padded(signed.partition(".")[2]))
    assert claim["iss"] == "me@project"
    assert claim["aud"] == authority.url + "/token"
    assert claim["exp"] - claim["iat"] == 3600
    assert claim["iat"] == int(ManualClock().now())
    assert {asked.headers["Authorization"] for asked in proxy.requests} == {"Bearer sesame"}


def test_without_a_secret_nothing_is_shown(bucket: GcsBucket, proxy: FaultProxy) -> None:
    proxy.faults.append(Fault(Status(401)))
    with pytest.raises(AccessDeniedError, match="wants credentials"):
        listed(opened(bucket, proxy.url))
    assert "Authorization" not in proxy.requests[0].headers


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"client_email": "e", "private_key": "none"}',
        '{"client_email": "e", "private_key": 1}',
        '{"client_email": "e", "private_key": "EC"}',
        '{"client_email": "e", "private_key": "RSA", "token_uri": "file:///x"}',
    ],
)
def test_what_is_no_key_file_is_said_to_be_none(
    bucket: GcsBucket, account_key: rsa.RSAPrivateKey, text: str
) -> None:
    curve = json.dumps(pem(ec.generate_private_key(ec.SECP256R1())))
    text = text.replace('"EC"', curve).replace('"RSA"', json.dumps(pem(account_key)))
    store = opened(bucket, "http://127.0.0.1:1", secret=Secret({KEY_FILE: text}))
    with pytest.raises(AccessDeniedError, match="no service account's key file"):
        listed(store)
