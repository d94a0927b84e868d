"""Tokens out of Secrets of the namespace `larder-credentials`, read anew whenever a fill starts.

The agent may read a Secret by its name and watch none, so that a Secret which is mended is noticed
by the next try: what is wrong with one is tried again after seconds, later after minutes.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

from larder.catalog import ModelEntry
from larder.contract import CREDENTIALS_NAMESPACE, FillFailure
from larder.errors import AccessDeniedError, SourceUnavailableError, TransientError
from runtime.kube.client import KubeClient
from runtime.kube.errors import ForbiddenError, KubeError, NotFoundError
from runtime.kube.paths import object_path

TOKEN_KEY: Final = "HF_TOKEN"  # noqa: S105 - the key's name, as KServe's Secrets have it


class SecretTokens:
    """The tokens of entries that name a Secret."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def token_of(self, entry: ModelEntry) -> str | None:
        """The token for an entry, or None if it names no Secret.

        Raises a `TransientError` for a Secret that is missing, forbidden, or holds no token, and
        while the API server is away; `AccessDeniedError` for a name that no Secret can have. No
        sentence holds the token.
        """
        if entry.credentials is None or not entry.credentials.secret_name:
            return None
        name = entry.credentials.secret_name
        where = f"model {entry.name!r}: Secret {CREDENTIALS_NAMESPACE}/{name}"
        try:
            path = object_path("v1", "secrets", name, namespace=CREDENTIALS_NAMESPACE)
            secret = self._client.get(path)
        except ValueError as error:
            raise AccessDeniedError(f"{where} has a name that no Secret can have") from error
        except NotFoundError as error:
            raise _denied(f"{where} is not there") from error
        except ForbiddenError as error:
            raise _denied(f"{where} may not be read") from error
        except KubeError as error:
            raise SourceUnavailableError(f"{where} cannot be read now: {error}") from error
        token = _decoded(secret)
        if token is None:
            raise _denied(f"{where} has no token; accepted: one line in key {TOKEN_KEY}")
        return token


def _denied(sentence: str) -> TransientError:
    return TransientError(FillFailure.ACCESS_DENIED, sentence)


def _decoded(secret: Mapping[str, Any]) -> str | None:
    value = (secret.get("data") or {}).get(TOKEN_KEY)
    try:
        token = base64.b64decode(value or "", validate=True).decode("ascii").strip()
    except (ValueError, TypeError):
        return None
    return token if token and token.isprintable() else None
