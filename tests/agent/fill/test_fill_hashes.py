"""What a file's bytes come to is compared with every digest that was listed."""

import hashlib
import zlib

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fill.hashes import Hashes
from agent.planning.values import OF_WHOLE, Algorithm, Checksum, RemoteFile
from larder.errors import IntegrityError
from larder.layout import Digest

NVME = 0x9A6C9329AC4BC9B5
"""The polynomial of NVM Express, its lowest power first (NVM Command Set 1.0d, 5.2.1.3.4)."""


def crc64nvme(content: bytes) -> int:
    """Bit by bit, as the specification has it."""
    rest = (1 << 64) - 1
    for byte in content:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ (NVME if rest & 1 else 0)
    return rest ^ (1 << 64) - 1


def expected(algorithm: Algorithm, content: bytes) -> str:
    """What a checksum is, by another's word than that of the library in use."""
    match algorithm:
        case Algorithm.GIT_BLOB:
            blob = b"blob %d\0" % len(content) + content
            return hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        case Algorithm.MD5:
            return hashlib.md5(content, usedforsecurity=False).hexdigest()
        case Algorithm.SHA256:
            return hashlib.sha256(content).hexdigest()
        case Algorithm.SHA1:
            return hashlib.sha1(content, usedforsecurity=False).hexdigest()
        case Algorithm.CRC64NVME:
            return f"{crc64nvme(content):016x}"
        case Algorithm.CRC32C:
            return f"{google_crc32c.value(content):08x}"
        case Algorithm.CRC32:
            return f"{zlib.crc32(content):08x}"


def listed(algorithm: Algorithm | None, content: bytes) -> tuple[RemoteFile, str]:
    """A file with a checksum or, without an algorithm, a SHA-256; and which."""
    if algorithm is None:
        sha256 = Digest(hashlib.sha256(content).hexdigest())
        return RemoteFile("m", len(content), sha256), sha256
    checksum = Checksum(algorithm, expected(algorithm, content))
    return RemoteFile("m", len(content), checksum=checksum), checksum.hexdigest


def hashed(file: RemoteFile, content: bytes, cut: int) -> Hashes:
    """What follows the cut goes through a copy, as when a part is read again."""
    before = Hashes(file)
    before.update(memoryview(content[:cut]))
    after = before.copy()
    before.update(memoryview(b"what is thrown away"))
    after.update(memoryview(content[cut:]))
    return after


@pytest.mark.parametrize("algorithm", [None, *OF_WHOLE])
@given(st.data())
def test_the_digest_that_was_listed_is_accepted_and_no_other_byte(
    algorithm: Algorithm | None, data: st.DataObject
) -> None:
    content = data.draw(st.binary(max_size=600))
    cut = data.draw(st.integers(0, len(content)))
    file, digest = listed(algorithm, content)
    hashed(file, content, cut).refuse_difference()
    if content:
        other = bytearray(content)
        other[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        with pytest.raises(IntegrityError) as refused:
            hashed(file, bytes(other), cut).refuse_difference()
        assert refused.value.expected == digest


@pytest.mark.parametrize(
    "algorithm", [Algorithm.SHA256, Algorithm.SHA1, Algorithm.CRC32C, Algorithm.CRC32]
)
@given(st.data())
def test_a_checksum_over_those_of_parts_finds_a_wrong_byte_in_any(
    algorithm: Algorithm, data: st.DataObject
) -> None:
    content = data.draw(st.binary(min_size=1, max_size=600))
    part_bytes = data.draw(st.integers(1, 700))
    parts = [content[n : n + part_bytes] for n in range(0, len(content), part_bytes)]
    of_parts = b"".join(bytes.fromhex(expected(algorithm, part)) for part in parts)
    checksum = Checksum(algorithm, expected(algorithm, of_parts), part_bytes)
    file = RemoteFile("m", len(content), checksum=checksum)
    cut, wrong = (data.draw(st.integers(0, len(content) - 1)) for _ in "ab")
    hashed(file, content, cut).refuse_difference()
    other = bytearray(content)
    other[wrong] ^= data.draw(st.integers(1, 255))
    with pytest.raises(IntegrityError):
        hashed(file, bytes(other), cut).refuse_difference()


@pytest.mark.parametrize(
    ("algorithm", "of_digits"),
    [
        (Algorithm.CRC64NVME, "ae8b14860a799888"),
        (Algorithm.CRC32C, "e3069283"),
        (Algorithm.CRC32, "cbf43926"),
    ],
)
def test_a_crc_of_the_nine_digits_is_the_one_in_every_catalogue(
    algorithm: Algorithm, of_digits: str
) -> None:
    digits = b"123456789"
    file = RemoteFile("m", len(digits), checksum=Checksum(algorithm, of_digits))
    hashed(file, digits, 4).refuse_difference()


def test_without_a_digest_whatever_comes_is_taken() -> None:
    hashed(RemoteFile("m", 3), b"abc", 1).refuse_difference()
