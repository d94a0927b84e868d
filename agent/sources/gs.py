"""Google Cloud Storage, by its JSON API.

An object is listed with its generation, which names these very bytes for ever: they are asked for
by it, so that a new upload is not found rather than mixed in. What proves them is the MD5, or the
CRC-32C of an object that was composed from parts.

The Secret has KServe's key `gcloud-application-credentials.json`, a service account's; without it
requests are anonymous, or with the agent's own identity. A service account proves itself with a JWT
that it signs (RFC 7523).
"""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

from agent.planning.values import Algorithm, RemoteFile
from agent.sources.objects import Page, StoredObject, base64_checksum, listed_size
from agent.sources.ranges import PLAIN, changed
from agent.sources.refusals import Asked, refusal
from agent.sources.secret import Secret
from agent.sources.tokens import USUAL_SECONDS, Loan, read_token
from agent.sources.web import NO_HEADERS, Answer, Web, origin_of
from agent.sources.workload_identity import google_token
from larder.errors import AccessDeniedError, FillError, SourceDriftedError, SourceUnavailableError
from runtime.clock import Clock

KEY_FILE: Final = "gcloud-application-credentials.json"
_TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_only"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FIELDS: Final = "nextPageToken,items(name,size,generation,md5Hash,crc32c,contentEncoding)"
_PAGE_MAX_BYTES: Final = 6 * 1024 * 1024  # 1,000 objects


class GcsAccess:
    """What a Secret opens, asked for when it is first needed."""

    def __init__(self, secret: Secret, clock: Clock, web: Web) -> None:
        self.clock = clock
        self._secret = secret
        self._web = web
        self._token: Loan[str] | None = None
        if secret.identity is not None:
            self._token = google_token(secret.identity, web, clock)
        elif KEY_FILE in secret.data:
            self._token = Loan(self._lent_to_account, clock)
        self.has_secret = self._token is not None

    def headers(self) -> Mapping[str, str]:
        """The secret headers of a request. Raises `FillError`s."""
        return {"Authorization": f"Bearer {self._token.taken()}"} if self._token else NO_HEADERS

    def _lent_to_account(self) -> tuple[str, float]:
        """The token that a service account is given for a claim signed with its key."""
        url, fields = self._grant(int(self.clock.now()))
        with self._web.post(url, fields) as answer:
            return read_token(answer, self.clock)

    def _grant(self, now: int) -> tuple[str, Mapping[str, str]]:
        """Where a token is asked for, and with what."""
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - 10 MiB
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

        try:
            account = json.loads(self._secret.data[KEY_FILE])
            url, email = account.get("token_uri") or _TOKEN_URL, account["client_email"]
            key = serialization.load_pem_private_key(account["private_key"].encode(), None)
            _ = origin_of(url)
        except (ValueError, KeyError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
            raise _no_account() from error
        if not isinstance(key, rsa.RSAPrivateKey):
            raise _no_account()
        expiry = {"iat": now, "exp": now + USUAL_SECONDS}
        claim = {"iss": email, "scope": _SCOPE, "aud": url, **expiry}
        words = (_web_safe(json.dumps(w).encode()) for w in ({"alg": "RS256", "typ": "JWT"}, claim))
        signed = b".".join(words)
        signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        assertion = (signed + b"." + _web_safe(signature)).decode()
        return url, {"grant_type": _GRANT, "assertion": assertion}


class GcsStore:
    """One bucket. `prefix` is what the URI says after it."""

    keeps_empty = True

    def __init__(self, url: str, prefix: str, access: "GcsAccess", web: Web) -> None:
        self.name = f"bucket {url.rpartition('/')[2]}"
        self.prefix = prefix
        self._url = url
        self._access = access
        self._web = web

    def page(self, prefix: str, page_objects: int, page: str | None) -> Page:
        """The objects whose names begin so."""
        query = {"prefix": prefix, "maxResults": str(page_objects), "fields": _FIELDS}
        query |= {"pageToken": page} if page else {}
        url = f"{self._url}/o?{urlencode(query, quote_via=quote)}"
        with self._web.get(url, PLAIN, self._access.headers()) as answer:
            if not answer.is_success:
                raise self.refusal(answer, self.name)
            document = _document(answer)
        items = (self._stored(item) for item in document.get("items", ()))
        return Page(items, document.get("nextPageToken"))

    def described(self, file: RemoteFile, key: str) -> RemoteFile:
        """The file: listings tell all there is."""
        del key
        return file

    @contextmanager
    def get(self, file: RemoteFile, key: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """The answer to a GET of an object's generation."""
        query = urlencode({"alt": "media", "generation": file.version or ""})
        url = f"{self._url}/o/{quote(key, safe='')}?{query}"
        with self._web.get(url, headers, self._access.headers()) as answer:
            said = answer.header("x-goog-generation")
            if answer.is_success and said not in {None, file.version}:
                raise changed(answer, file)
            yield answer

    def refusal(self, answer: Answer, what: str) -> FillError:
        """The error that an answer without the bytes means."""
        access = self._access
        return refusal(Asked(origin_of(self._url), what, access.has_secret, access.clock), answer)

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    def _stored(self, item: Any) -> StoredObject:
        said = item if isinstance(item, dict) else {}
        name, size, generation = (str(said.get(k, "")) for k in ("name", "size", "generation"))
        size_bytes = listed_size(size)
        if size_bytes is None or listed_size(generation) is None:
            raise SourceDriftedError(f"{self.name} lists {name[:80]!r} without size or generation")
        if said.get("contentEncoding") == "gzip":
            raise SourceDriftedError(
                f"{self.name} holds {name[:80]!r} compressed, and gives it otherwise"
            )
        checksum = base64_checksum(Algorithm.MD5, said.get("md5Hash"))
        checksum = checksum or base64_checksum(Algorithm.CRC32C, said.get("crc32c"))
        return StoredObject(name, size_bytes, version=generation, checksum=checksum)


def _document(answer: Answer) -> Mapping[str, Any]:
    """A page of a listing. Raises `SourceUnavailableError` for what is none."""
    try:
        page = json.loads(answer.text(_PAGE_MAX_BYTES))
    except (ValueError, RecursionError):
        page = None
    is_page = isinstance(page, dict) and isinstance(page.get("items", []), list)
    if not is_page or not isinstance(page.get("nextPageToken", ""), str):
        raise SourceUnavailableError(f"{answer.origin.host} answers what is no listing")
    listing: Mapping[str, Any] = page
    return listing


def _no_account() -> AccessDeniedError:
    return AccessDeniedError(f"key {KEY_FILE} of the credentials is no service account's key file")


def _web_safe(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
