"""The answer to a GET of a range of a file, held against what was listed.

Every source over HTTP asks with `range_headers` and takes only what `checked_body` lets through:
bytes of the very version that was listed, unencoded, from the byte that was asked for or from the
first one. A strong ETag goes along as `If-Match` (RFC 9110 13.1.1), so that a server does not even
begin to send other bytes; what it says of its answer is compared all the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.planning.values import RemoteFile
from agent.sources.interface import RangeRefusedError
from agent.sources.web import Answer
from larder.errors import SourceDriftedError, SourceUnavailableError

PLAIN: Final = {"Accept-Encoding": "identity", "User-Agent": "larder"}
_LENGTH = re.compile(r"[0-9]{1,19}")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19})")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,254}"')
_PARTIAL_CONTENT: Final = 206
_PRECONDITION_FAILED: Final = 412
_RANGE_NOT_SATISFIABLE: Final = 416


@dataclass(frozen=True, slots=True)
class RangeBody:
    """The body of a checked answer."""

    start: int
    answer: Answer

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as bytes come."""
        return self.answer.readinto(buffer)

    def abort(self) -> None:
        """End the connection."""
        self.answer.abort()


def range_headers(file: RemoteFile, offset: int, length: int | None = None) -> Mapping[str, str]:
    """What to ask for a range of a file, in the version that was listed."""
    headers = dict(PLAIN)
    if length is not None:
        headers["Range"] = f"bytes={offset}-{offset + length - 1}"
    elif offset:
        headers["Range"] = f"bytes={offset}-"
    if file.etag and not file.etag.startswith("W/"):
        headers["If-Match"] = file.etag
    return headers


def checked_body(
    answer: Answer, file: RemoteFile, offset: int, length: int | None = None
) -> RangeBody:
    """A successful answer's body. Raises for one that is not of the file as it was listed."""
    host = answer.origin.host
    encoding = answer.header("Content-Encoding") or "identity"
    if encoding != "identity" and whole_size(answer) != file.size_bytes:  # else it is stored so
        raise SourceUnavailableError(f"{host} sends {file.path!r} encoded as {encoding!r}, unasked")
    if file.etag and (etag := entity_tag(answer)) != file.etag:
        if etag is None:
            raise SourceUnavailableError(f"{host} does not say which {file.path!r} it sends")
        raise changed(answer, file)
    if answer.status != _PARTIAL_CONTENT:
        _refuse_longer(answer, file)
        return RangeBody(0, answer)
    said = answer.header("Content-Range") or ""
    end = file.size_bytes if length is None else offset + length
    wanted = f"bytes {offset}-{end - 1}/{file.size_bytes}"
    if said != wanted:
        _refuse_other_size(answer, file)
        raise SourceUnavailableError(
            f"{host} answers {said!r} for {file.path!r} where {wanted!r} was asked"
        )
    return RangeBody(offset, answer)


def refuse_range(answer: Answer, file: RemoteFile) -> None:
    """Raise what 412 and 416 mean; other statuses are the source's to tell."""
    if answer.status == _PRECONDITION_FAILED:
        raise changed(answer, file)
    if answer.status == _RANGE_NOT_SATISFIABLE:
        _refuse_other_size(answer, file)
        raise RangeRefusedError(f"{answer.origin.host} does not continue {file.path!r}")


def changed(answer: Answer, file: RemoteFile) -> SourceDriftedError:
    """The error for a file that is another one by now."""
    return SourceDriftedError(f"{answer.origin.host} has another {file.path!r} than it listed")


def entity_tag(answer: Answer) -> str | None:
    """The answer's ETag as it is sent back, or None if there is none that could be."""
    text = (answer.header("ETag") or "").strip()
    return text if is_entity_tag(text) else None


def is_entity_tag(text: str) -> bool:
    """Whether a text is an ETag that can be sent back."""
    return _ENTITY_TAG.fullmatch(text) is not None


def whole_size(answer: Answer) -> int | None:
    """The size of the whole file, as an answer to a range or to none says it."""
    if said := _CONTENT_RANGE.fullmatch(answer.header("Content-Range") or ""):
        return int(said[3])
    return _length(answer) if answer.is_success else None


def _length(answer: Answer) -> int | None:
    """How many bytes the answer says that it has; None for nothing, or for what no file has."""
    length = answer.header("Content-Length") or ""
    return int(length) if _LENGTH.fullmatch(length) else None


def _refuse_longer(answer: Answer, file: RemoteFile) -> None:
    # A shorter body is a connection that breaks early: what is missing is asked for again.
    length = _length(answer)
    if length is not None and length > file.size_bytes:
        raise SourceDriftedError(
            f"{file.path!r} has {length} bytes and was listed with {file.size_bytes}"
        )


def _refuse_other_size(answer: Answer, file: RemoteFile) -> None:
    said = _CONTENT_RANGE.fullmatch(answer.header("Content-Range") or "")
    if said and int(said[3]) != file.size_bytes:
        raise SourceDriftedError(
            f"{file.path!r} has {int(said[3])} bytes and was listed with {file.size_bytes}"
        )
