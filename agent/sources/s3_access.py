"""Where a bucket is and how requests for it are signed, from the catalog and a Secret of KServe's.

The Secret's keys are `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (or `awsAccessKeyID` and
`awsSecretAccessKey`), and `AWS_SESSION_TOKEN`; its annotations `s3-endpoint`, `s3-usehttps`,
`s3-region`, `s3-useanoncredential`, `s3-usevirtualbucket`, `s3-verifyssl`. An endpoint that the
catalog names goes before the Secret's. Without keys, neither the Secret's nor lent ones, requests
are not signed.

Signatures are AWS's version 4, in the Authorization header, of a body that is empty
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
"""

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote, urlsplit

from agent.sources.secret import Secret
from agent.sources.tokens import Loan
from agent.sources.web import origin_of
from larder.errors import AccessDeniedError
from larder.storage_uri import DEFAULT_ENDPOINTS, endpoint_fault

DEFAULT_REGION: Final = "us-east-1"
_NO_BODY: Final = hashlib.sha256(b"").hexdigest()
_KEY_SAFE: Final = "/-_.~"
_QUERY_SAFE: Final = "-_.~"
_REGION = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True, slots=True)
class Keys:
    """An access key of AWS's kind."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class S3Access:
    """One bucket. An empty `endpoint` is AWS's own, in the region."""

    bucket: str
    endpoint: str
    region: str
    is_virtual: bool
    keys: Keys | Loan[Keys] | None = None

    def url(self, key: str, query: Mapping[str, str] | None = None) -> str:
        """The URL of an object, or of the bucket for an empty key; its query is in order."""
        path = quote(key, safe=_KEY_SAFE)
        endpoint = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        if self.is_virtual:
            scheme, _, host = endpoint.partition("://")
            url = f"{scheme}://{self.bucket}.{host}/{path}"
        else:
            url = f"{endpoint}/{self.bucket}/{path}"
        if not query:
            return url
        words = sorted((quote(n, _QUERY_SAFE), quote(v, _QUERY_SAFE)) for n, v in query.items())
        return url + "?" + "&".join(f"{name}={value}" for name, value in words)

    def in_region(self, region: str | None) -> "S3Access | None":
        """The same bucket where its answer says that it is; None if that is no other place."""
        if not region or region == self.region or not _REGION.fullmatch(region):
            return None
        return replace(self, region=region)

    def signed(
        self, method: str, url: str, headers: Mapping[str, str], now: float
    ) -> Mapping[str, str]:
        """The headers that make a request ours: those given, and the signature over them."""
        keys = self.keys.taken() if isinstance(self.keys, Loan) else self.keys
        if keys is None:
            return headers
        date = f"{dt.datetime.fromtimestamp(now, dt.UTC):%Y%m%dT%H%M%SZ}"
        sent = {**headers, "x-amz-content-sha256": _NO_BODY, "x-amz-date": date}
        if keys.session_token:
            sent["x-amz-security-token"] = keys.session_token
        canonical = {"host": origin_of(url).netloc, **{n.lower(): v for n, v in sent.items()}}
        names = sorted(canonical)
        parts = urlsplit(url)
        request = [method, parts.path, parts.query]
        request += [f"{name}:{canonical[name].strip()}" for name in names]
        request += ["", ";".join(names), _NO_BODY]
        scope = f"{date[:8]}/{self.region}/s3/aws4_request"
        hashed = hashlib.sha256("\n".join(request).encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}"
        key = f"AWS4{keys.secret_key}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        sent["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope},"
            f"SignedHeaders={';'.join(names)},Signature={signature}"
        )
        return sent


def s3_access(
    bucket: str, endpoint: str, secret: Secret, lent: Loan[Keys] | None = None
) -> S3Access:
    """How a bucket is reached, with the Secret's keys, or those that are lent to the agent.

    Raises `AccessDeniedError` for a Secret that cannot be used.
    """
    said = secret.annotations
    if endpoint in {"", DEFAULT_ENDPOINTS["s3"]}:
        endpoint = _endpoint(said)
    region = said.get("s3-region") or secret.line("AWS_DEFAULT_REGION", "AWS_REGION")
    region = region or (secret.identity or {}).get("AWS_REGION")
    if region and not _REGION.fullmatch(region):
        raise AccessDeniedError("the credentials' annotation s3-region names no region")
    # A wildcard certificate holds for one label, so that a bucket with dots stays in the path.
    is_virtual = "." not in bucket if not endpoint else _is_on(said.get("s3-usevirtualbucket"))
    keys = None if _is_on(said.get("s3-useanoncredential")) else lent or _keys(secret)
    return S3Access(bucket, endpoint.rstrip("/"), region or DEFAULT_REGION, is_virtual, keys)


def verifies_tls(secret: Secret) -> bool:
    """Whether the Secret leaves the check of certificates on."""
    return secret.annotations.get("s3-verifyssl", "1").lower() not in {"0", "false"}


def _endpoint(said: Mapping[str, str]) -> str:
    """The Secret's endpoint, empty for AWS's own."""
    host = said.get("s3-endpoint", "").strip()
    if not host or f"https://{host}" == DEFAULT_ENDPOINTS["s3"]:
        return ""
    endpoint = f"{'http' if said.get('s3-usehttps') == '0' else 'https'}://{host}"
    if endpoint_fault(endpoint):
        raise AccessDeniedError(
            "the credentials' annotation s3-endpoint names no host; accepted: HOST or HOST:PORT"
        )
    return endpoint


def _keys(secret: Secret) -> Keys | None:
    access_key = secret.line("AWS_ACCESS_KEY_ID", "awsAccessKeyID")
    secret_key = secret.line("AWS_SECRET_ACCESS_KEY", "awsSecretAccessKey")
    if not access_key and not secret_key:
        return None
    if not access_key or not secret_key:
        raise AccessDeniedError(
            "the credentials hold one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;"
            " accepted: both, or none"
        )
    return Keys(access_key, secret_key, secret.line("AWS_SESSION_TOKEN"))


def _is_on(text: str | None) -> bool:
    return (text or "").lower() in {"1", "true"}
