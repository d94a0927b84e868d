"""What an S3 bucket's objects become, and what proves them; odd keys are moto's to keep."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.planning.values import Algorithm, Checksum, Listing
from agent.sources import objects
from agent.sources.interface import SourceRequest
from agent.sources.objects import ObjectSource, objects_below
from agent.sources.s3 import S3Store
from agent.sources.s3_access import Keys, S3Access
from agent.sources.web import Timeouts, Web
from demo.hub_faults import Headers, Status
from larder.errors import (
    AccessDeniedError,
    ModelNotFoundError,
    PermanentError,
    SourceDriftedError,
    SourceUnavailableError,
)
from runtime.clock import SystemClock
from tests.agent.sources import stored
from tests.fakes.fault_proxy import Asked, Edit, Fault, FaultProxy
from tests.fakes.kserve_download import kserve_downloads
from tests.fakes.s3_server import ACCESS_KEY, REGION, SECRET_KEY, Bucket

KEYS = Keys(ACCESS_KEY, SECRET_KEY)


@pytest.fixture
def bucket(moto_url: str, bucket_name: str) -> Iterator[Bucket]:
    with closing(Bucket(moto_url, bucket_name)) as bucket:
        yield bucket


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[FaultProxy]:
    with FaultProxy(bucket.url) as proxy:
        yield proxy


@pytest.fixture
def access(bucket: Bucket, proxy: FaultProxy) -> S3Access:
    return S3Access(bucket.name, proxy.url, REGION, is_virtual=False, keys=KEYS)


def store(access: S3Access, prefix: str = "m") -> S3Store:
    return S3Store(access, prefix, SystemClock(), Web(Timeouts(5.0, 5.0)))


def listed(access: S3Access, prefix: str = "m", **patterns: tuple[str, ...]) -> Listing:
    return stored.listed(store(access, prefix), **patterns)


def sizes(listing: Listing) -> dict[str, int]:
    return {file.path: file.size_bytes for file in listing.files}


def fetched(access: S3Access, prefix: str, listing: Listing) -> dict[str, bytes]:
    return stored.fetched(store(access, prefix), listing)


# --- the tree -------------------------------------------------------------------------------------

MODEL = {
    "m/config.json": b"{}",
    "m/empty": b"",
    "m/": b"",
    "m/marker/": b"",
    "m/deep/er/w.bin": b"w",
    "m/ trailing ": b"t",
    "m/ü+%2F&=?#;@:$,!'()*~.bin": b"odd",
}


def kserves(bucket: Bucket, prefix: str, folder: Path, **env: str) -> dict[str, bytes]:
    """What KServe's own initializer makes of a prefix."""
    given = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": bucket.url,
        "AWS_DEFAULT_REGION": REGION,
    }
    return kserve_downloads(f"s3://{bucket.name}/{prefix}", folder, **given, **env)


def test_the_tree_is_the_one_that_kserve_makes(
    bucket: Bucket, access: S3Access, tmp_path: Path
) -> None:
    bucket.put(MODEL)
    ours = fetched(access, "m", listed(access))
    assert ours == kserves(bucket, "m", tmp_path / "out")
    assert len(ours) == 4


def test_one_object_is_the_one_that_kserve_makes(
    bucket: Bucket, access: S3Access, tmp_path: Path
) -> None:
    bucket.put({"m/deep/w.gguf": b"w", "m/deep/w.gguf2": b"2"})
    prefix = "m/deep/w.gguf"
    ours = fetched(access, prefix, listed(access, prefix))
    assert ours == kserves(bucket, prefix, tmp_path / "out")
    assert ours == {"w.gguf": b"w"}


def test_an_object_that_is_stored_compressed_stays_so_as_for_kserve(
    bucket: Bucket, access: S3Access, tmp_path: Path
) -> None:
    bucket.add("m/a.json", gzip.compress(b"{}"), ContentEncoding="gzip")
    ours = fetched(access, "m", listed(access))
    assert ours == kserves(bucket, "m", tmp_path / "out")
    assert gzip.decompress(ours["a.json"]) == b"{}"


def test_patterns_choose_what_they_choose_for_kserve(
    bucket: Bucket, access: S3Access, tmp_path: Path
) -> None:
    bucket.put({f"m/{name}": b"x" for name in ("a.json", "b.bin", "sub/c.json", "sub/d.json")})
    ours = listed(access, allow_patterns=("*.json",), ignore_patterns=("sub/d*",))
    theirs = kserves(
        bucket,
        "m",
        tmp_path / "out",
        STORAGE_ALLOW_PATTERNS='["*.json"]',
        STORAGE_IGNORE_PATTERNS='["sub/d*"]',
    )
    assert sizes(ours).keys() == theirs.keys() == {"a.json", "sub/c.json"}


def test_a_prefix_ends_at_a_slash(bucket: Bucket, access: S3Access) -> None:
    bucket.put({"m/a": b"1", "m2/b": b"2", "m": b"", "mm": b"3"})
    assert sizes(listed(access)) == {"a": 1}


def test_a_whole_bucket_is_a_tree(bucket: Bucket, access: S3Access) -> None:
    bucket.put({"m/a": b"1", "b": b"22"})
    assert sizes(listed(access, "")) == {"b": 2, "m/a": 1}
    assert fetched(access, "", listed(access, "")) == {"b": b"22", "m/a": b"1"}


def test_pages_are_read_to_the_end(bucket: Bucket, access: S3Access) -> None:
    bucket.put({f"m/{n}": b"x" for n in range(7)})
    with closing(store(access)) as opened:
        assert [found.key for found in objects_below(opened, "m/", 3)] == [
            f"m/{n}" for n in range(7)
        ]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        pytest.param(["m/../x"], "has the part '..'", id="a key that leads out"),
        pytest.param(["m/a//b"], "has the part ''", id="an empty part"),
        pytest.param(["m//b"], "is absolute", id="an empty part at the start"),
        pytest.param(["m/a", "m/a/b"], "both a file and a directory", id="a file as a directory"),
        pytest.param(["m/a\tb"], "control character", id="a control character"),
        pytest.param(["m/" + "n" * 256], "longer than 255", id="a long name"),
        pytest.param(["m", "m/a"], "others below it", id="a prefix that is an object"),
        pytest.param(["m/model.tar.xz"], "cannot be cached", id="an archive that is not read"),
    ],
)
def test_what_no_slot_holds_as_pods_would_have_it_is_refused_in_one_sentence(
    bucket: Bucket, access: S3Access, keys: list[str], says: str
) -> None:
    bucket.put(dict.fromkeys(keys, b"x"))
    with pytest.raises(SourceDriftedError, match=says) as refused:
        listed(access)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("key", ["m/model.zip", "m/d/model.tar.gz", "m.tgz"])
def test_an_archive_that_is_the_only_file_is_one(
    bucket: Bucket, access: S3Access, key: str
) -> None:
    bucket.put({key: b"x", "m/empty": b""})
    prefix = "m" if key.startswith("m/") else key
    with closing(ObjectSource(store(access, prefix))) as source:
        request = SourceRequest(f"s3://{bucket.name}/{prefix}", max_size_bytes=99)
        (file,) = source.list(request).files
        assert (file.size_bytes, file.unpacked_bytes) == (1, 99)
        if prefix == "m":
            bucket.add("m/other", b"x")
            assert {f.unpacked_bytes for f in source.list(request).files} == {None}
    bucket.put({key: b"x"})
    with pytest.raises(PermanentError, match="accepted: maxSize in its entry"):
        listed(access, prefix)


@pytest.mark.parametrize("kept", [{}, {"m/": b"", "m/empty": b"", "m2/a": b"x", "m": b""}])
def test_a_prefix_without_a_file_is_a_model_not_found(
    bucket: Bucket, access: S3Access, kept: dict[str, bytes]
) -> None:
    bucket.put(kept)
    with pytest.raises(ModelNotFoundError, match="has no object to keep below 'm'"):
        listed(access)


def test_a_bucket_that_is_not_there_is_a_model_not_found(access: S3Access) -> None:
    with pytest.raises(ModelNotFoundError, match=r"bucket no-such \(NoSuchBucket\)"):
        listed(replace(access, bucket="no-such"))


@pytest.mark.parametrize("words", [b"\xff" * 100, b"x" * 100_000])
def test_a_refusal_in_other_words_than_the_store_s_is_one_by_its_status(
    proxy: FaultProxy, access: S3Access, words: bytes
) -> None:
    proxy.faults.append(Fault(Edit(lambda _: words)))
    with pytest.raises(ModelNotFoundError, match="does not have bucket"):
        listed(replace(access, bucket="no-such-bucket"))


def test_more_objects_than_a_model_has_are_refused(
    bucket: Bucket, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({f"m/{n}": b"x" for n in range(6)})
    monkeypatch.setattr(objects, "MAX_OBJECTS", 5)
    with pytest.raises(SourceDriftedError, match="more than 5 objects"):
        listed(access)


# --- hostile pages --------------------------------------------------------------------------------

KEY = b"<Key>m/a</Key>"
SIZE = b"<Size>1</Size>"
BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><ListBucketResult><Key>&a;</Key></ListBucketResult>'


def is_listing(asked: Asked) -> bool:
    return "list-type" in asked.target


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        pytest.param(lambda _: b"", "no listing", id="nothing"),
        pytest.param(lambda _: b"{}", "no listing", id="no XML"),
        pytest.param(lambda _: b"\xff\xfe", "no text", id="no UTF-8"),
        pytest.param(lambda _: b"<html></html>", "no listing", id="a page of the web"),
        pytest.param(lambda _: BOMB, "document type", id="entities"),
        pytest.param(lambda _: b"x" * (7 << 20), "answers more than", id="a page without end"),
        pytest.param(lambda p: p.replace(SIZE, b""), "without size", id="no size"),
        pytest.param(lambda p: p.replace(b"ETag>", b"X>"), "without size or ETag", id="no ETag"),
        pytest.param(lambda p: p.replace(b">1<", b">-1<"), "without size", id="a negative size"),
        pytest.param(lambda p: p.replace(b">1<", b">1e3<"), "without size", id="a size in words"),
        pytest.param(
            lambda p: p.replace(b">1<", b">99999999999999999999999<"),
            "without size",
            id="a size beyond any disk",
        ),
        pytest.param(lambda p: p.replace(KEY, b""), "longer|lists|absolute|part", id="no key"),
        pytest.param(
            lambda p: p.replace(KEY, b"<Key>m/%ff%fe</Key>"), "no UTF-8", id="a key in Latin-1"
        ),
        pytest.param(
            lambda p: p.replace(KEY, b"<Key>other/a</Key>"), "outside", id="a key from elsewhere"
        ),
    ],
)
def test_a_hostile_page_gets_one_sentence(
    bucket: Bucket,
    proxy: FaultProxy,
    access: S3Access,
    edit: Callable[[bytes], bytes],
    says: str,
) -> None:
    bucket.put({"m/a": b"x"})
    proxy.faults.append(Fault(Edit(edit), is_listing))
    with pytest.raises((SourceDriftedError, SourceUnavailableError), match=says) as refused:
        listed(access)
    assert str(refused.value).isprintable()


ENDLESS = b"""<ListBucketResult><IsTruncated>true</IsTruncated>
<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"""


def test_pages_without_end_are_given_up(
    proxy: FaultProxy, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sources.objects.MAX_PAGES", 3)
    proxy.faults.append(Fault(Status(200)))
    with FaultProxy(proxy.url) as front:
        front.faults.append(Fault(Edit(lambda _: ENDLESS)))
        with pytest.raises(SourceDriftedError, match="more than 3 pages"):
            listed(replace(access, endpoint=front.url))
    assert len(proxy.requests) == 3


@pytest.mark.parametrize("word", [b"", b"<NextContinuationToken></NextContinuationToken>"])
def test_a_listing_that_breaks_off_is_not_taken_for_a_whole_one(
    bucket: Bucket, proxy: FaultProxy, access: S3Access, word: bytes
) -> None:
    bucket.put({"m/a": b"x"})
    truncated = b"<IsTruncated>true</IsTruncated>" + word
    edit = Edit(lambda p: re.sub(b"<IsTruncated>false</IsTruncated>", truncated, p))
    proxy.faults.append(Fault(edit, is_listing))
    with pytest.raises(SourceUnavailableError, match="not say how its listing goes on"):
        listed(access)


def test_an_object_of_five_tebibytes_is_listed_with_its_size(
    bucket: Bucket, proxy: FaultProxy, access: S3Access
) -> None:
    bucket.put({"m/a": b"x"})
    edit = Edit(lambda p: p.replace(SIZE, b"<Size>5497558138880</Size>"))
    proxy.faults.append(Fault(edit, is_listing))
    assert listed(access).size_bytes == 5 << 40


# --- proof ----------------------------------------------------------------------------------------


def test_an_object_with_a_sha256_is_listed_with_it(bucket: Bucket, access: S3Access) -> None:
    bucket.add("m/a", b"x" * 9, ChecksumAlgorithm="SHA256")
    (file,) = listed(access).files
    assert file.sha256 == hashlib.sha256(b"x" * 9).hexdigest()
    assert file.checksum is None


def test_an_etag_that_is_an_md5_is_one(bucket: Bucket, access: S3Access) -> None:
    bucket.add("m/a", b"x" * 9)
    (file,) = listed(access).files
    md5 = hashlib.md5(b"x" * 9, usedforsecurity=False).hexdigest()
    assert file.checksum == Checksum(Algorithm.MD5, md5)
    assert file.etag == f'"{md5}"'


@pytest.mark.parametrize("more", [{}, {"ChecksumAlgorithm": "SHA256"}], ids=["plain", "sha256"])
def test_an_object_in_parts_has_no_digest_of_the_whole(
    bucket: Bucket, access: S3Access, more: dict[str, str]
) -> None:
    bucket.add_in_parts("m/a", [b"x" * (5 << 20), b"y"], **more)
    (file,) = listed(access).files
    assert (file.sha256, file.checksum) == (None, None)
    assert file.etag is not None
    assert file.etag.endswith('-2"')


@pytest.mark.parametrize(
    "encrypted",
    [
        {"x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-server-side-encryption": "aws:kms:dsse"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
    ],
    ids=["KMS", "KMS twice", "the customer's key"],
)
def test_the_etag_of_an_encrypted_object_is_no_md5(
    bucket: Bucket, proxy: FaultProxy, access: S3Access, encrypted: dict[str, str]
) -> None:
    bucket.add("m/a", b"x")
    proxy.faults.append(Fault(Headers(encrypted), lambda asked: asked.method == "HEAD"))
    crc32 = Checksum(Algorithm.CRC32, f"{zlib.crc32(b'x'):08x}")  # boto3 sends one unasked
    assert listed(access).files[0].checksum == crc32


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        pytest.param({"x-amz-checksum-type": "FULL_OBJECT"}, True, id="said to be of the whole"),
        pytest.param({"x-amz-server-side-encryption": "aws:kms"}, True, id="of one part"),
        pytest.param({"x-amz-checksum-type": "COMPOSITE"}, False, id="of the parts"),
        pytest.param({}, False, id="where the ETag is an MD5"),
    ],
)
def test_where_nothing_stronger_is_known_a_crc32c_of_the_whole_is_the_digest(
    bucket: Bucket, proxy: FaultProxy, access: S3Access, headers: dict[str, str], is_known: bool
) -> None:
    if "x-amz-checksum-type" in headers:
        bucket.add_in_parts("m/a", [b"x" * (5 << 20), b"y"])
    else:
        bucket.add("m/a", b"x")
    said = Headers({"x-amz-checksum-crc32c": "4waSgw==", **headers})
    proxy.faults.append(Fault(said, lambda asked: asked.method == "HEAD"))
    crc32c = Checksum(Algorithm.CRC32C, "e3069283")
    assert (listed(access).files[0].checksum == crc32c) is is_known


def test_what_changes_while_it_is_listed_is_a_drift(
    bucket: Bucket, proxy: FaultProxy, access: S3Access
) -> None:
    bucket.add("m/a", b"x")
    another = Headers({"ETag": '"another"'})
    proxy.faults.append(Fault(another, lambda asked: asked.method == "HEAD"))
    with pytest.raises(SourceDriftedError, match="another 'a' than it listed"):
        listed(access)


@pytest.mark.parametrize("status", [403, 405, 501])
def test_where_single_objects_may_not_be_asked_for_the_first_fill_is_the_reference(
    bucket: Bucket, proxy: FaultProxy, access: S3Access, status: int
) -> None:
    bucket.add("m/a", b"x")
    proxy.faults.append(Fault(Status(status), lambda asked: asked.method == "HEAD"))
    listing = listed(access)
    assert listing.files[0].checksum is None
    assert fetched(access, "m", listing) == {"a": b"x"}


def test_a_store_that_is_busy_while_it_is_listed_is_asked_again_later(
    bucket: Bucket, proxy: FaultProxy, access: S3Access
) -> None:
    bucket.add("m/a", b"x")
    busy = Status(503, headers={"Retry-After": "9"})
    proxy.faults.append(Fault(busy, lambda asked: asked.method == "HEAD"))
    with pytest.raises(SourceUnavailableError) as refused:
        listed(access)
    assert refused.value.retry_after_seconds == 9


def test_only_the_largest_objects_are_asked_for_one_by_one(
    bucket: Bucket, proxy: FaultProxy, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put({f"m/{n}": b"x" * (n + 1) for n in range(5)})
    monkeypatch.setattr(objects, "MAX_DESCRIBED", 2)
    proven = {file.path for file in listed(access).files if file.checksum}
    assert proven == {"3", "4"}
    assert len([a for a in proxy.requests if a.method == "HEAD"]) == 2


# --- access ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 307, 400, 403])
def test_a_bucket_of_another_region_is_asked_for_there(
    bucket: Bucket, proxy: FaultProxy, access: S3Access, status: int
) -> None:
    bucket.add("m/a", b"x")
    moved = Status(status, headers={"x-amz-bucket-region": "ap-test-9"})
    proxy.faults.append(Fault(moved, times=1))
    assert sizes(listed(access)) == {"a": 1}
    scopes = [a.headers["Authorization"].split("/")[2] for a in proxy.requests]
    assert scopes[:2] == [REGION, "ap-test-9"]
    assert REGION not in scopes[1:]


@pytest.mark.parametrize("region", [REGION, "no region/", ""])
def test_a_refusal_that_names_no_other_region_is_one(
    bucket: Bucket, proxy: FaultProxy, access: S3Access, region: str
) -> None:
    bucket.add("m/a", b"x")
    proxy.faults.append(Fault(Status(403, headers={"x-amz-bucket-region": region})))
    with pytest.raises(AccessDeniedError):
        listed(access)
    assert len(proxy.requests) == 1


def test_a_bucket_that_moves_round_and_round_is_given_up(
    proxy: FaultProxy, access: S3Access
) -> None:
    proxy.faults.append(Fault(Status(403, headers={"x-amz-bucket-region": "a-1"}), times=1))
    proxy.faults.append(Fault(Status(403, headers={"x-amz-bucket-region": REGION})))
    with pytest.raises(AccessDeniedError):
        listed(access)
    assert len(proxy.requests) == 2


def test_without_keys_nothing_is_signed(
    bucket: Bucket, proxy: FaultProxy, access: S3Access
) -> None:
    bucket.add("m/a", b"x", ACL="public-read")
    anonymous = replace(access, keys=None)
    assert fetched(anonymous, "m", listed(anonymous)) == {"a": b"x"}
    assert not [a for a in proxy.requests if "Authorization" in a.headers]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken"])
def test_an_old_token_is_an_access_denied_with_the_store_s_word(
    proxy: FaultProxy, access: S3Access, code: str
) -> None:
    said = f"<Error><Code>{code}</Code></Error>".encode()
    with FaultProxy(proxy.url) as front:
        front.faults.append(Fault(Edit(lambda _: said)))
        proxy.faults.append(Fault(Status(400)))
        with pytest.raises(AccessDeniedError, match=code):
            listed(replace(access, endpoint=front.url))
