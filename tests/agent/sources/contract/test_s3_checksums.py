"""Every checksum that S3 keeps, as a real store makes and tells it, finds a wrong byte."""

import base64
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from agent.fill.hashes import Hashes
from agent.planning.values import Algorithm, RemoteFile
from demo.hub_faults import FlipBit, Headers
from larder.errors import IntegrityError
from tests.agent.sources.contract.remotes import BIG, CONTENT, Remote, S3Server
from tests.fakes.fault_proxy import Asked, Fault, FaultProxy
from tests.fakes.s3_server import Bucket, s3_client

KEY = f"pub/m/{BIG}"
KEPT = (Algorithm.SHA1, Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.CRC32)


@pytest.fixture
def bucket(versitygw_url: str, bucket_name: str) -> Iterator[Bucket]:
    with closing(Bucket(versitygw_url, bucket_name)) as bucket:
        yield bucket


@pytest.fixture
def remote(bucket: Bucket) -> Iterator[Remote]:
    with FaultProxy(bucket.url) as proxy:
        yield Remote(S3Server(bucket), proxy)


@pytest.fixture
def plain_client(bucket: Bucket) -> Iterator[Any]:
    """A client that sends no checksum: the store makes one itself."""
    with closing(s3_client(bucket.url, request_checksum_calculation="when_required")) as client:
        yield client


def listed(remote: Remote) -> RemoteFile:
    with remote.source() as source:
        return source.list(remote.request).files[0]


def verify(remote: Remote) -> None:
    """Fetch what is listed, and compare."""
    with remote.source() as source:
        listing = source.list(remote.request)
        hashes = Hashes(listing.files[0])
        hashes.update(memoryview(remote.fetched(source, listing)))
    hashes.refuse_difference()


def assert_a_wrong_byte_is_found(remote: Remote, expected: str) -> None:
    verify(remote)
    remote.proxy.faults.append(Fault(FlipBit(5000), remote.server.fetches))
    with pytest.raises(IntegrityError) as refused:
        verify(remote)
    assert refused.value.expected == expected


def is_head(asked: Asked) -> bool:
    return asked.method == "HEAD"


@pytest.mark.parametrize("algorithm", KEPT)
def test_a_checksum_of_an_object_whose_etag_is_none_finds_a_wrong_byte(
    remote: Remote, bucket: Bucket, plain_client: Any, algorithm: Algorithm
) -> None:
    match algorithm:
        case Algorithm.CRC64NVME:
            plain_client.put_object(Bucket=bucket.name, Key=KEY, Body=CONTENT)
        case Algorithm.CRC32C:  # boto3 makes none without a library of AWS's; the store compares it
            crc32c = google_crc32c.value(CONTENT).to_bytes(4)
            bucket.add(KEY, CONTENT, ChecksumCRC32C=base64.b64encode(crc32c).decode())
        case _:
            bucket.add(KEY, CONTENT, ChecksumAlgorithm=algorithm.upper())
    kms = Headers({"x-amz-server-side-encryption": "aws:kms"})
    remote.proxy.faults.append(Fault(kms, is_head))
    checksum = listed(remote).checksum
    assert checksum is not None
    assert checksum.algorithm is algorithm
    assert_a_wrong_byte_is_found(remote, checksum.hexdigest)


def test_where_the_etag_is_an_md5_a_crc64_is_compared_all_the_same(
    remote: Remote, bucket: Bucket, plain_client: Any
) -> None:
    plain_client.put_object(Bucket=bucket.name, Key=KEY, Body=CONTENT)
    assert getattr(listed(remote).checksum, "algorithm", None) is Algorithm.CRC64NVME


def test_a_sha256_finds_a_wrong_byte(remote: Remote, bucket: Bucket) -> None:
    bucket.add(KEY, CONTENT, ChecksumAlgorithm="SHA256")
    assert_a_wrong_byte_is_found(remote, str(listed(remote).sha256))


def test_an_etag_that_is_an_md5_finds_a_wrong_byte(remote: Remote, bucket: Bucket) -> None:
    bucket.add(KEY, CONTENT)
    assert_a_wrong_byte_is_found(remote, (listed(remote).etag or "").strip('"'))


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A file that boto3 uploads in parts."""
    path = tmp_path / BIG
    path.write_bytes(CONTENT * 30)
    return str(path)


def test_of_an_upload_in_parts_without_checksums_the_stores_own_finds_a_wrong_byte(
    remote: Remote, bucket: Bucket, plain_client: Any, large: str
) -> None:
    plain_client.upload_file(large, bucket.name, KEY)
    checksum = listed(remote).checksum
    assert checksum is not None
    assert checksum.algorithm is Algorithm.CRC64NVME
    assert_a_wrong_byte_is_found(remote, checksum.hexdigest)


def test_of_an_upload_in_parts_a_crc32_of_the_whole_finds_a_wrong_byte(
    remote: Remote, bucket: Bucket, large: str
) -> None:
    bucket.client.upload_file(large, bucket.name, KEY, ExtraArgs={"ChecksumType": "FULL_OBJECT"})
    checksum = listed(remote).checksum
    assert checksum is not None
    assert checksum.algorithm is Algorithm.CRC32
    assert_a_wrong_byte_is_found(remote, checksum.hexdigest)


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums_of_parts_alone_are_none_of_the_whole(
    remote: Remote, bucket: Bucket, large: str, algorithm: str
) -> None:
    bucket.client.upload_file(large, bucket.name, KEY, ExtraArgs={"ChecksumAlgorithm": algorithm})
    file = listed(remote)
    assert (file.sha256, file.checksum) == (None, None)
    verify(remote)
