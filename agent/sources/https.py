"""One file at an https:// URL: a GGUF, say.

The file's ETag, or else its Last-Modified, is the version that was listed; every later answer has
to name the same one. A server that names neither is asked for whole files only: half a file of one
version must not be continued with another. Nothing here knows a digest: the catalog's `digest`, or
what the first fill saw, is the reference.

The Secret's headers go to the host that the Secret names, over the first request alone: no redirect
takes them along.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from agent.planning.values import Listing, RemoteFile
from agent.sources.archives import as_archive
from agent.sources.interface import Body, RangeRefusedError, SourceRequest
from agent.sources.ranges import (
    PLAIN,
    changed,
    checked_body,
    entity_tag,
    range_headers,
    refuse_range,
    whole_size,
)
from agent.sources.refusals import Asked, refusal
from agent.sources.revisions import listing_revision
from agent.sources.secret import HTTPS_HEADERS, HTTPS_HOST, Secret
from agent.sources.web import NO_HEADERS, Answer, Web, origin_of
from larder.contract import FillFailure
from larder.errors import (
    AccessDeniedError,
    ModelNotFoundError,
    PermanentError,
    SourceDriftedError,
    SourceUnavailableError,
)
from larder.manifest import path_fault
from larder.storage_uri import host_of, is_archive, normalise
from runtime.clock import Clock

_RANGE_NOT_SATISFIABLE: Final = 416
_LAST_MODIFIED_MAX_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class HttpsSource:
    """Fetches single files. `mirror`, if any, is asked in place of the URI's scheme and host."""

    mirror: str
    secret: Secret
    clock: Clock
    web: Web

    def list(self, request: SourceRequest) -> Listing:
        """The one file, as its server describes it."""
        uri = normalise(request.storage_uri)
        url, name = self._url(uri), uri.rpartition("/")[2]
        if fault := path_fault(name):
            raise ModelNotFoundError(f"the URL's last part cannot be a file's name: {fault}")
        # Not HEAD: links are often signed for GET alone. Of an empty file there is no first byte.
        room = request.max_size_bytes
        file = self._described(url, name, {**PLAIN, "Range": "bytes=0-0"}, room)
        file = file or self._described(url, name, PLAIN, room)
        if file is None:
            raise SourceUnavailableError(f"{origin_of(url).host} gives no answer for {name!r}")
        file = as_archive(file, room)
        return Listing(uri, listing_revision((file,)), (file,))

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator[Body]:
        """A range of the file."""
        if not (file.etag or file.version):
            if offset:
                raise RangeRefusedError(
                    f"nothing tells whether {file.path!r} is still the same file"
                )
            length = None  # whoever wants more than this goes on reading
        url = self._url(listing.storage_uri)
        headers = {**range_headers(file, offset, length)}
        if file.version and not file.etag:
            headers["If-Unmodified-Since"] = file.version
        with self.web.get(url, headers, self._headers(url)) as answer:
            refuse_range(answer, file)
            if not answer.is_success:
                raise self._refusal(answer, file, self._asked(url, file.path))
            if not file.etag and _last_modified(answer) != file.version:
                raise changed(answer, file)
            yield checked_body(answer, file, offset, length)

    def close(self) -> None:
        """Close the connections."""
        self.web.close()

    def _url(self, uri: str) -> str:
        if not self.mirror:
            return uri
        return self.mirror.rstrip("/") + urlsplit(uri).path

    def _headers(self, url: str) -> Mapping[str, str]:
        """The Secret's headers, for the host that it names."""
        host = self.secret.line(HTTPS_HOST) or ""
        if host.lower() not in {host_of(url), urlsplit(url).netloc.lower()}:
            return NO_HEADERS
        try:
            headers = json.loads(self.secret.data.get(HTTPS_HEADERS, ""))
        except ValueError:
            headers = None
        if not isinstance(headers, dict) or not all(_is_header(*item) for item in headers.items()):
            raise AccessDeniedError(
                f"key {HTTPS_HEADERS} of the credentials is no JSON object of headers"
            )
        return headers

    def _asked(self, url: str, name: str) -> Asked:
        return Asked(origin_of(url), repr(name), bool(self._headers(url)), self.clock)

    def _described(
        self, url: str, name: str, headers: Mapping[str, str], room: int | None
    ) -> RemoteFile | None:
        """The file as the answer to a GET describes it; None if there is no such range."""
        asked = self._asked(url, name)
        with self.web.get(url, headers, self._headers(url)) as answer:
            if answer.status == _RANGE_NOT_SATISFIABLE:
                return None
            if not answer.is_success:
                raise refusal(asked, answer)
            return self._file(answer, name, asked, room)

    def _file(self, answer: Answer, name: str, asked: Asked, room: int | None) -> RemoteFile:
        if (answer.header("Content-Type") or "").startswith("text/html"):
            raise SourceDriftedError(f"{asked.origin.host} gives a web page for {name!r}")
        etag = entity_tag(answer)
        version = None if etag else _last_modified(answer)
        size_bytes = whole_size(answer)
        if size_bytes is not None:
            return RemoteFile(name, size_bytes, etag=etag, version=version)
        # Only where its end is told apart from a connection that breaks.
        if room is None or not answer.response.chunked or is_archive(name):
            raise PermanentError(
                FillFailure.SIZE_UNKNOWN,
                f"{asked.origin.host} does not say how large {name!r} is; accepted: a file with"
                " maxSize in its entry, sent in chunks",
            )
        return RemoteFile(name, 0, etag=etag, version=version, unpacked_bytes=room)

    def _refusal(self, answer: Answer, file: RemoteFile, asked: Asked) -> Exception:
        error = refusal(asked, answer)
        return changed(answer, file) if isinstance(error, ModelNotFoundError) else error


def _is_header(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and name.isascii()
        and name.replace("-", "").replace("_", "").isalnum()
        and value.isascii()
        and value.isprintable()
    )


def _last_modified(answer: Answer) -> str | None:
    text = (answer.header("Last-Modified") or "").strip()
    is_usable = text.isascii() and text.isprintable() and len(text) <= _LAST_MODIFIED_MAX_CHARACTERS
    return text if text and is_usable else None
