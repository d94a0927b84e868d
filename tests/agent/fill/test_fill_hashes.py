"""What a file's bytes come to is compared with every digest that was listed."""

import hashlib

import google_crc32c
import pytest

from agent.fill.hashes import Hashes
from agent.planning.values import Algorithm, Checksum, RemoteFile
from larder.errors import IntegrityError
from larder.layout import Digest

CONTENT = b"0123456789" * 1000
SHA256 = Digest(hashlib.sha256(CONTENT).hexdigest())
GIT_BLOB = hashlib.sha1(b"blob 10000\0" + CONTENT, usedforsecurity=False).hexdigest()
CHECKSUMS = {
    Algorithm.GIT_BLOB: GIT_BLOB,
    Algorithm.MD5: hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
    Algorithm.CRC32C: f"{google_crc32c.value(CONTENT):08x}",
}


def hashed(file: RemoteFile, content: bytes) -> Hashes:
    """Half of it goes through a copy, as when a part is read again."""
    before = Hashes(file)
    before.update(memoryview(content[:5000]))
    after = before.copy()
    before.update(memoryview(b"what is thrown away"))
    after.update(memoryview(content[5000:]))
    return after


@pytest.mark.parametrize("algorithm", [None, *Algorithm])
def test_the_digest_that_was_listed_is_accepted_and_no_other_byte(
    algorithm: Algorithm | None,
) -> None:
    file = RemoteFile("m", len(CONTENT), SHA256)
    if algorithm:
        checksum = Checksum(algorithm, CHECKSUMS[algorithm])
        file = RemoteFile("m", len(CONTENT), checksum=checksum)
    hashed(file, CONTENT).refuse_difference()
    with pytest.raises(IntegrityError) as refused:
        hashed(file, CONTENT[:-1] + b"x").refuse_difference()
    assert refused.value.expected == (CHECKSUMS[algorithm] if algorithm else SHA256)


def test_without_a_digest_whatever_comes_is_taken() -> None:
    hashed(RemoteFile("m", 3), b"abc").refuse_difference()
