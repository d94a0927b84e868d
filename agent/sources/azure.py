"""Azure Blob Storage: `https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX`.

Blobs are listed with ETag and Content-MD5, where whoever wrote one gave it, and fetched with ranged
GETs on the ETag.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlencode

from agent.planning.values import Algorithm, RemoteFile
from agent.sources.azure_access import AzureAccess
from agent.sources.objects import Page, StoredObject, base64_checksum, listed_size, quoted
from agent.sources.ranges import PLAIN
from agent.sources.refusals import Asked, refusal
from agent.sources.web import Answer, Web, origin_of
from agent.sources.xml_page import MAX_BYTES, read_page
from larder.errors import AccessDeniedError, FillError, SourceDriftedError

_ERROR_CODE = re.compile(r"[A-Za-z]{1,64}")
_NO_PUBLIC_ACCESS: Final = "PublicAccessNotPermitted"


class AzureStore:
    """One container, at its URL. `prefix` is what the URI says after it."""

    keeps_empty = False

    def __init__(self, url: str, prefix: str, access: AzureAccess, web: Web) -> None:
        self.name = f"container {url.rpartition('/')[2]}"
        self.prefix = prefix
        self._url = url
        self._access = access
        self._web = web

    def page(self, prefix: str, page_objects: int, page: str | None) -> Page:
        """The blobs whose names begin so."""
        query = {"restype": "container", "comp": "list", "maxresults": str(page_objects)}
        query |= {"prefix": prefix, **({"marker": page} if page else {})}
        url = f"{self._url}?{urlencode(query, quote_via=quote, safe='-_.~')}"
        with self._ask(url, PLAIN) as answer:
            if not answer.is_success:
                raise self.refusal(answer, self.name)
            text = answer.text(MAX_BYTES).removeprefix("\ufeff")
            root = read_page(text, answer.origin.host, "EnumerationResults")
        blobs = (self._stored(blob) for blob in root.iter("Blob"))
        return Page(blobs, root.findtext("NextMarker"))

    def described(self, file: RemoteFile, key: str) -> RemoteFile:
        """The file: listings tell all there is."""
        del key
        return file

    @contextmanager
    def get(self, file: RemoteFile, key: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """The answer to a GET of a blob."""
        del file  # its version is in the headers
        with self._ask(f"{self._url}/{quote(key, safe='/-_.~')}", headers) as answer:
            yield answer

    def refusal(self, answer: Answer, what: str) -> FillError:
        """The error that an answer without the bytes means."""
        access = self._access
        asked = Asked(origin_of(self._url), what, access.has_secret, access.clock)
        said = answer.header("x-ms-error-code") or ""
        code = said if _ERROR_CODE.fullmatch(said) else ""
        if code == _NO_PUBLIC_ACCESS:
            return AccessDeniedError(f"{asked.origin.host} wants credentials for {what} ({code})")
        return refusal(asked, answer, code)

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    @contextmanager
    def _ask(self, url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        secret = self._access.headers("GET", url, headers)
        with self._web.get(url, headers, secret) as answer:
            yield answer

    def _stored(self, blob: ET.Element) -> StoredObject:
        name = blob.findtext("Name") or ""
        element = blob.find("Name")
        if element is not None and element.get("Encoded") == "true":
            try:
                name = unquote_to_bytes(name).decode()
            except UnicodeDecodeError as error:
                raise SourceDriftedError(f"{self.name} lists a name that is no UTF-8") from error
        size_bytes = listed_size(blob.findtext("Properties/Content-Length"))
        etag = quoted(blob.findtext("Properties/Etag"))
        if size_bytes is None or etag is None:
            raise SourceDriftedError(f"{self.name} lists {name[:80]!r} without size or ETag")
        md5 = base64_checksum(Algorithm.MD5, blob.findtext("Properties/Content-MD5"))
        return StoredObject(name, size_bytes, etag, checksum=md5)
