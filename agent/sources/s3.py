"""S3, and the stores that speak its protocol.

Objects are listed with ListObjectsV2 and fetched with ranged GETs on the ETag that was listed. What
proves the bytes is the first of these that is known: a SHA-256 that the store was given; a
CRC-64/NVME, which finds every accident that an MD5 finds, and costs next to nothing where that
costs two thirds of a fill's hashing; the ETag where it is an MD5: not of a multipart upload, nor of
an object encrypted with a key of KMS or of the customer; the other checksums that S3 keeps. All are
told of single objects alone, so that the largest ones are asked for one by one; the first fill is
the reference for the others.

A checksum over those of an upload's parts (`COMPOSITE`) is what boto3 and the AWS CLI leave of a
large file. It proves the bytes to whoever knows where parts begin, and a HEAD tells the size of one
part: to ask for all would be thousands of questions a model. So it is compared where the first part
and the last one fit no layout but that of uploaders with one size of parts: as many as such a size
makes, and the last one of just the rest. If any were larger than the first one, the last would be
less than that; if any were smaller, more. What could deceive, and be refused though it is right, is
parts larger and smaller than the first one that even out to the byte: of three parts none can, and
of more we know no uploader that makes them. With any other layout, and a store that does not tell,
the first fill is the reference. (To take no difference for a proof would let every wrong byte
through; GetObjectAttributes tells all sizes, and is one more permission.)
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final
from urllib.parse import unquote_to_bytes

from agent.planning.values import Algorithm, Checksum, RemoteFile
from agent.sources.objects import (
    Page,
    StoredObject,
    base64_checksum,
    hex_of,
    listed_size,
    quoted,
)
from agent.sources.ranges import PLAIN, changed, entity_tag
from agent.sources.refusals import Asked, refusal
from agent.sources.s3_access import S3Access
from agent.sources.web import Answer, Origin, Web, origin_of
from agent.sources.xml_page import MAX_BYTES, read_page
from larder.errors import AccessDeniedError, FillError, SourceDriftedError, SourceUnavailableError
from larder.layout import Digest
from runtime.clock import Clock

_MD5_TAG = re.compile(r'"([0-9a-f]{32})"')
_PARTS_TAG = re.compile(r'"[^"]*-\d+"')
_ERROR_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_ERROR_MAX_BYTES: Final = 64 * 1024
_OF_PARTS = re.compile(r"(.*)-([1-9][0-9]{0,4})")
_SHA256_BYTES: Final = 32
_ELSEWHERE: Final = frozenset({301, 307, 400, 403})
_NO_HEAD: Final = frozenset({403, 405, 501})
_NO_PART: Final = _NO_HEAD | {400, 404, 416}
_TOKEN_FAULTS: Final = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_BEST: Final = (Algorithm.CRC64NVME,)
_OTHERS: Final = (Algorithm.SHA1, Algorithm.CRC32C, Algorithm.CRC32)
_COMPOSITE: Final = (Algorithm.CRC32C, Algorithm.CRC32, Algorithm.SHA1, Algorithm.SHA256)
_WITH_CHECKSUMS: Final = {**PLAIN, "x-amz-checksum-mode": "ENABLED"}


class S3Store:
    """One bucket. `prefix` is what the URI says after it."""

    keeps_empty = False

    def __init__(self, access: S3Access, prefix: str, clock: Clock, web: Web) -> None:
        self.name = f"bucket {access.bucket}"
        self.prefix = prefix
        self._access = access
        self._clock = clock
        self._web = web

    def page(self, prefix: str, page_objects: int, page: str | None) -> Page:
        """The objects whose keys begin so."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(page_objects)}
        query |= {"prefix": prefix, **({"continuation-token": page} if page else {})}
        with self._ask("GET", "", query, PLAIN) as answer:
            if not answer.is_success:
                raise self.refusal(answer, self.name)
            root = read_page(answer.text(MAX_BYTES), answer.origin.host, "ListBucketResult")
        is_encoded = root.findtext("EncodingType") == "url"
        is_last = root.findtext("IsTruncated") != "true"
        next_page = None if is_last else root.findtext("NextContinuationToken")
        if not is_last and not next_page:  # a store that knows only the protocol's first version
            raise SourceUnavailableError(
                f"{answer.origin.host} does not say how its listing goes on; accepted: a store"
                " that knows ListObjectsV2"
            )
        stored = (self._stored(e, is_encoded=is_encoded) for e in root.iter("Contents"))
        return Page(stored, next_page)

    def described(self, file: RemoteFile, key: str) -> RemoteFile:
        """A file with the first digest of it that the store knows."""
        with self._ask("HEAD", key, {}, _WITH_CHECKSUMS) as answer:
            if answer.status in _NO_HEAD:  # a GET may be allowed all the same
                return file
            if not answer.is_success:
                raise self.refusal(answer, repr(file.path))
            if entity_tag(answer) != file.etag:
                raise changed(answer, file)
            if sha256 := hex_of(_of_whole(answer, "sha256"), _SHA256_BYTES):
                return replace(file, sha256=Digest(sha256))
            checksum = _kept(answer, _BEST) or _md5(answer, file) or _kept(answer, _OTHERS)
            told = None if checksum else _told_of_parts(answer)
        if told:
            checksum, count = told
            part_bytes = self._part_bytes(file, key, count)
            checksum = replace(checksum, part_bytes=part_bytes) if part_bytes else None
        return replace(file, checksum=checksum)

    def _part_bytes(self, file: RemoteFile, key: str, count: int) -> int | None:
        """The size of all of a file's parts, but the last one; None for any other layout."""
        part_bytes = self._size_of_part(file, key, 1)
        if not part_bytes or -(-file.size_bytes // part_bytes) != count:
            return None
        rest_bytes = file.size_bytes - (count - 1) * part_bytes
        is_certain = count <= 2 or self._size_of_part(file, key, count) == rest_bytes  # noqa: PLR2004
        return part_bytes if is_certain else None

    def _size_of_part(self, file: RemoteFile, key: str, number: int) -> int | None:
        """The size of one of the parts that a file was uploaded in; None if it is not told."""
        with self._ask("HEAD", key, {"partNumber": str(number)}, PLAIN) as answer:
            if answer.status in _NO_PART:
                return None
            if not answer.is_success:
                raise self.refusal(answer, repr(file.path))
            is_same = entity_tag(answer) == file.etag  # some tell that of the part
            return listed_size(answer.header("Content-Length")) if is_same else None

    @contextmanager
    def get(self, file: RemoteFile, key: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """The answer to a GET of an object."""
        del file  # its version is in the headers
        with self._ask("GET", key, {}, headers) as answer:
            yield answer

    def refusal(self, answer: Answer, what: str) -> FillError:
        """The error that an answer without the bytes means."""
        asked = Asked(self._origin, what, self._access.keys is not None, self._clock)
        code = _error_code(answer)
        if code in _TOKEN_FAULTS:
            return AccessDeniedError(f"{asked.origin.host} refuses the credentials ({code})")
        return refusal(asked, answer, code)

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    @property
    def _origin(self) -> Origin:
        return origin_of(self._access.url(""))

    @contextmanager
    def _ask(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Iterator[Answer]:
        """Ask; once more in another region, if the first answer says that the bucket is there."""
        now = self._clock.now()
        of_amazon = {name: text for name, text in headers.items() if name.startswith("x-amz-")}
        others = {name: text for name, text in headers.items() if name not in of_amazon}
        for is_last in (False, True):
            url = self._access.url(key, query)
            secret = self._access.signed(method, url, of_amazon, now)
            with self._web.ask(method, url, others, secret) as answer:
                region = answer.first_header("x-amz-bucket-region")
                there = self._access.in_region(region) if answer.status in _ELSEWHERE else None
                if is_last or there is None:
                    yield answer
                    return
            self._access = there

    def _stored(self, element: ET.Element, *, is_encoded: bool) -> StoredObject:
        key = element.findtext("Key") or ""
        try:
            key = unquote_to_bytes(key.replace("+", " ")).decode() if is_encoded else key
        except UnicodeDecodeError as error:
            raise SourceDriftedError(f"{self.name} lists a key that is no UTF-8") from error
        size_bytes = listed_size(element.findtext("Size"))
        etag = quoted(element.findtext("ETag"))
        if size_bytes is None or etag is None:
            raise SourceDriftedError(f"{self.name} lists {key[:80]!r} without size or ETag")
        return StoredObject(key, size_bytes, etag)


def _error_code(answer: Answer) -> str:
    """The store's word for a refusal; empty for one in other words, or in none (to a HEAD)."""
    if answer.response.isclosed():
        return ""
    try:
        said = _ERROR_CODE.search(answer.text(_ERROR_MAX_BYTES))
    except SourceUnavailableError:  # of whoever is in between: the status tells enough
        return ""
    return said[1] if said else ""


def _of_whole(answer: Answer, name: str) -> str | None:
    """A checksum of the whole object in base64; none of its parts' checksums."""
    return answer.header(f"x-amz-checksum-{name}") if _kind(answer) == "FULL_OBJECT" else None


def _kind(answer: Answer) -> str:
    """What an object's checksum is of; stores of earlier years do not say it."""
    in_parts = _PARTS_TAG.fullmatch(entity_tag(answer) or "")
    return answer.header("x-amz-checksum-type") or ("COMPOSITE" if in_parts else "FULL_OBJECT")


def _told_of_parts(answer: Answer) -> tuple[Checksum, int] | None:
    """The checksum over those of an object's parts, and how many there are."""
    if _kind(answer) != "COMPOSITE":
        return None
    for algorithm in _COMPOSITE:
        said = _OF_PARTS.fullmatch(answer.header(f"x-amz-checksum-{algorithm}") or "")
        if said and (checksum := base64_checksum(algorithm, said[1])):
            return checksum, int(said[2])
    return None


def _kept(answer: Answer, algorithms: Sequence[Algorithm]) -> Checksum | None:
    """The first checksum of the whole object that is told; headers end in an algorithm's name."""
    said = (base64_checksum(a, _of_whole(answer, a)) for a in algorithms)
    return next((checksum for checksum in said if checksum), None)


def _md5(answer: Answer, file: RemoteFile) -> Checksum | None:
    """The MD5 that an ETag is, unless the object is encrypted with a key that is not S3's own."""
    encryption = answer.header("x-amz-server-side-encryption") or "AES256"
    if encryption != "AES256" or answer.header("x-amz-server-side-encryption-customer-algorithm"):
        return None
    tag = _MD5_TAG.fullmatch(file.etag or "")
    return Checksum(Algorithm.MD5, tag[1]) if tag else None
