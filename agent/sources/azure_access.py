"""How requests to an Azure storage account are signed, from a Secret of KServe's.

Its keys are `AZURE_STORAGE_ACCESS_KEY`, or a service principal's `AZ_TENANT_ID`, `AZ_CLIENT_ID` and
`AZ_CLIENT_SECRET` (or the same with `AZURE_`); `AZURE_AUTHORITY_HOST` names another cloud's login.
Without any, requests are anonymous, or with the agent's own identity. With a key, each is signed
(https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key).
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from agent.sources.secret import Secret
from agent.sources.tokens import Loan, read_token
from agent.sources.web import Web
from agent.sources.workload_identity import azure_assertion
from larder.errors import AccessDeniedError
from larder.storage_uri import endpoint_fault
from runtime.clock import Clock

API_VERSION: Final = "2021-12-02"
_LOGIN: Final = "https://login.microsoftonline.com"
_SCOPE: Final = "https://storage.azure.com/.default"
_TENANT = re.compile(r"[A-Za-z0-9.-]{1,128}")
_SIGNED: Final = (
    *("Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type"),
    *("Date", "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"),
)

_Proof = Callable[[], Mapping[str, str]]


class AzureAccess:
    """What a Secret opens of one account; a token is asked for when it is first needed."""

    def __init__(self, account: str, secret: Secret, clock: Clock, web: Web) -> None:
        self._account = account
        self.clock = clock
        self._web = web
        self._key = _key(secret)
        login = None if self._key else _login(secret)
        self._token = Loan(lambda: self._lent(*login), clock) if login else None
        self.has_secret = bool(self._key or login)

    def headers(self, method: str, url: str, public: Mapping[str, str]) -> Mapping[str, str]:
        """The secret headers of a request whose others are `public`. Raises `FillError`s."""
        headers = {
            "x-ms-date": formatdate(self.clock.now(), usegmt=True),
            "x-ms-version": API_VERSION,
        }
        if self._key:
            text = "\n".join([method, *(public.get(name, "") for name in _SIGNED)])
            text += "".join(f"\n{name}:{headers[name]}" for name in sorted(headers))
            text += "\n" + self._resource(url)
            signature = base64.b64encode(hmac.digest(self._key, text.encode(), "sha256")).decode()
            headers["Authorization"] = f"SharedKey {self._account}:{signature}"
        elif self._token:
            headers["Authorization"] = f"Bearer {self._token.taken()}"
        return headers

    def _lent(self, url: str, proof: _Proof, client: str) -> tuple[str, float]:
        form = {"grant_type": "client_credentials", "client_id": client, "scope": _SCOPE}
        with self._web.post(url, {**form, **proof()}) as answer:
            return read_token(answer, self.clock)

    def _resource(self, url: str) -> str:
        parts = urlsplit(url)
        words = sorted((n.lower(), v) for n, v in parse_qsl(parts.query, keep_blank_values=True))
        return f"/{self._account}{parts.path}" + "".join(f"\n{n}:{v}" for n, v in words)


def _key(secret: Secret) -> bytes | None:
    text = secret.line("AZURE_STORAGE_ACCESS_KEY")
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise AccessDeniedError(
            "key AZURE_STORAGE_ACCESS_KEY of the credentials is no account key"
        ) from error


def _login(secret: Secret) -> tuple[str, _Proof, str] | None:
    """Where a principal logs in, how it proves itself, and who it is."""
    names = ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET")
    tenant, client, password = (secret.line(f"AZ_{name}", f"AZURE_{name}") for name in names)
    login = secret.line("AZURE_AUTHORITY_HOST")
    proof: _Proof | None = (lambda: {"client_secret": password}) if password else None
    if secret.identity is not None:
        tenant, client = (secret.identity.get(f"AZURE_{name}") for name in names[:2])
        login = secret.identity.get("AZURE_AUTHORITY_HOST")
        proof = azure_assertion(secret.identity)
    if not client:
        return None
    login = (login or _LOGIN).rstrip("/")
    login = login if "://" in login else f"https://{login}"
    if not proof or not tenant or not _TENANT.fullmatch(tenant) or endpoint_fault(login):
        raise AccessDeniedError(
            "the credentials name a client and not how it logs in;"
            " accepted: AZ_TENANT_ID, AZ_CLIENT_ID and AZ_CLIENT_SECRET"
        )
    return f"{login}/{tenant}/oauth2/v2.0/token", proof, client
