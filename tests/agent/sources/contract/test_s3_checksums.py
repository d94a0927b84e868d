"""Every checksum that S3 keeps, as a real store makes and tells it, finds a wrong byte."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.fill.hashes import Hashes
from agent.planning.values import Algorithm, RemoteFile
from demo.hub_faults import FlipBit, Headers, Status
from larder.errors import IntegrityError, SourceUnavailableError
from tests.agent.sources.contract.remotes import BIG, CONTENT, Remote, S3Server
from tests.fakes.fault_proxy import Asked, Fault, FaultProxy
from tests.fakes.s3_server import Bucket, crc32c, s3_client

KEY = f"pub/m/{BIG}"
MIB = 1 << 20
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


def assert_a_wrong_byte_is_found(remote: Remote, expected: str, flipped: int = 5000) -> None:
    verify(remote)
    remote.proxy.faults.append(Fault(FlipBit(flipped), remote.server.fetches))
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
        case Algorithm.CRC32C:
            bucket.add(KEY, CONTENT, ChecksumCRC32C=crc32c(CONTENT))
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


# --- of an upload's parts -------------------------------------------------------------------------


def part(asked: Asked) -> bool:
    """Whether a request is for one part of an object."""
    return "partNumber=" in asked.target


def parts_of(*sizes: int) -> list[bytes]:
    """Parts of so many bytes of one content, which has no period that could fit them."""
    whole = (CONTENT + b"!") * (1 + sum(sizes) // len(CONTENT))
    return [whole[sum(sizes[:n]) :][:size] for n, size in enumerate(sizes)]


@pytest.mark.parametrize("flipped", [0, 8 * MIB - 1, 8 * MIB, len(CONTENT) * 30 - 1])
def test_of_an_upload_as_boto3_makes_it_the_parts_checksums_find_a_wrong_byte_in_each(
    remote: Remote, bucket: Bucket, large: str, flipped: int
) -> None:
    bucket.client.upload_file(large, bucket.name, KEY)
    checksum = listed(remote).checksum
    assert checksum is not None
    assert (checksum.algorithm, checksum.part_bytes) == (Algorithm.CRC32, 8 * MIB)
    assert_a_wrong_byte_is_found(remote, checksum.hexdigest, flipped)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_every_checksum_of_parts_finds_a_wrong_byte_in_each(
    remote: Remote, bucket: Bucket, algorithm: str
) -> None:
    parts = parts_of(5 * MIB, 5 * MIB, 5 * MIB, 77)
    bucket.add_in_parts(KEY, parts, ChecksumAlgorithm=algorithm)
    file = listed(remote)
    assert file.checksum is not None
    assert file.checksum.algorithm == algorithm.lower()
    verify(remote)
    content = bytearray(b"".join(parts))
    for flipped in (0, 5 * MIB, 15 * MIB - 1, 15 * MIB):
        content[flipped] ^= 1
        hashes = Hashes(file)
        hashes.update(memoryview(content))
        with pytest.raises(IntegrityError):
            hashes.refuse_difference()
        content[flipped] ^= 1


@pytest.mark.parametrize(
    ("sizes", "questions"),
    [
        pytest.param((9 * MIB,), 1, id="one part"),
        pytest.param((5 * MIB, 5 * MIB), 1, id="two, as large"),
        pytest.param((5 * MIB, 5 * MIB, 5 * MIB), 2, id="three, as large"),
        pytest.param((5 * MIB, 5 * MIB, 5 * MIB, 5 * MIB, 1), 2, id="five"),
    ],
)
def test_it_takes_at_most_two_questions_to_know_equal_parts(
    remote: Remote, bucket: Bucket, sizes: tuple[int, ...], questions: int
) -> None:
    bucket.add_in_parts(KEY, parts_of(*sizes), ChecksumAlgorithm="CRC32")
    assert getattr(listed(remote).checksum, "part_bytes", None) == sizes[0]
    assert sum(part(asked) for asked in remote.proxy.requests) == questions
    verify(remote)


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((6 * MIB, 5 * MIB, 5 * MIB, 1), id="the first is the largest"),
        pytest.param((5 * MIB, 6 * MIB, 5 * MIB, 1), id="as many as equal ones were"),
        pytest.param((6 * MIB, 5 * MIB, 6 * MIB), id="as many, and the last as large"),
        pytest.param((5 * MIB, 6 * MIB), id="the last is the largest"),
    ],
)
def test_an_object_in_unequal_parts_is_taken_and_the_first_fill_is_the_reference(
    remote: Remote, bucket: Bucket, sizes: tuple[int, ...]
) -> None:
    bucket.add_in_parts(KEY, parts_of(*sizes), ChecksumAlgorithm="CRC32")
    file = listed(remote)
    assert (file.sha256, file.checksum) == (None, None)
    verify(remote)


@pytest.mark.parametrize(
    "answer",
    [
        *(
            pytest.param(Status(status), id=str(status))
            for status in (400, 403, 404, 405, 416, 501)
        ),
        pytest.param(Headers({"ETag": '"of-the-part"'}), id="of another ETag"),
        pytest.param(Headers({"Content-Length": None}), id="without a size"),
    ],
)
def test_where_parts_may_not_be_asked_for_the_first_fill_is_the_reference(
    remote: Remote, bucket: Bucket, large: str, answer: Status | Headers
) -> None:
    bucket.client.upload_file(large, bucket.name, KEY)
    remote.proxy.faults.append(Fault(answer, part))
    assert listed(remote).checksum is None
    verify(remote)


def test_a_store_that_is_busy_when_asked_for_parts_is_asked_again_later(
    remote: Remote, bucket: Bucket, large: str
) -> None:
    bucket.client.upload_file(large, bucket.name, KEY)
    remote.proxy.faults.append(Fault(Status(503), part))
    with pytest.raises(SourceUnavailableError):
        listed(remote)


@pytest.mark.parametrize("said", ["tgFDsA==", "tgFD-2", "tgFDsA==-0", "tgFDsA==-3", "-2", "!-2"])
def test_what_is_no_checksum_of_so_many_parts_is_none(
    remote: Remote, bucket: Bucket, large: str, said: str
) -> None:
    bucket.client.upload_file(large, bucket.name, KEY)
    other = Headers({"x-amz-checksum-crc32": said})
    remote.proxy.faults.append(Fault(other, lambda asked: is_head(asked) and not part(asked)))
    assert listed(remote).checksum is None
