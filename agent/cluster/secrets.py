"""Secrets of the namespace `larder-credentials`, read anew whenever a fill starts.

The agent may read a Secret by its name and watch none, so that a Secret which is mended is noticed
by the next try: what is wrong with one is tried again after seconds, later after minutes.
"""

import base64
import os
from collections.abc import Mapping
from typing import Any

from agent.credentials import agent_identity
from agent.sources.secret import ANNOTATIONS, NO_SECRET, Secret
from larder.catalog import ModelEntry
from larder.contract import CREDENTIALS_NAMESPACE, FillFailure
from larder.errors import AccessDeniedError, SourceUnavailableError, TransientError
from runtime.kube.client import KubeClient
from runtime.kube.errors import ForbiddenError, KubeError, NotFoundError
from runtime.kube.paths import object_path


class ClusterSecrets:
    """The secrets of entries that name one."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def secret_of(self, entry: ModelEntry) -> Secret:
        """What the Secret of an entry holds; the agent's identity, if it wants that; or nothing.

        Raises a `TransientError` for a Secret that is missing, forbidden, or lacks a key, and
        while the API server is away; `AccessDeniedError` for a name that no Secret can have and
        an identity that the agent lacks. No sentence holds a secret.
        """
        if entry.credentials is not None and entry.credentials.workload_identity:
            return agent_identity(entry, os.environ)
        if entry.credentials is None or not entry.credentials.secret_name:
            return NO_SECRET
        name = entry.credentials.secret_name
        where = f"model {entry.name!r}: Secret {CREDENTIALS_NAMESPACE}/{name}"
        try:
            path = object_path("v1", "secrets", name, namespace=CREDENTIALS_NAMESPACE)
            read = self._client.get(path)
        except ValueError as error:
            raise AccessDeniedError(f"{where} has a name that no Secret can have") from error
        except NotFoundError as error:
            raise _denied(f"{where} is not there") from error
        except ForbiddenError as error:
            raise _denied(f"{where} may not be read") from error
        except KubeError as error:
            raise SourceUnavailableError(f"{where} cannot be read now: {error}") from error
        secret = _secret(read)
        if missing := secret.missing_key(entry.storage_uri):
            raise _denied(f"{where} has no {missing}; accepted: one line in key {missing}")
        return secret


def _denied(sentence: str) -> TransientError:
    return TransientError(FillFailure.ACCESS_DENIED, sentence)


def _secret(read: Mapping[str, Any]) -> Secret:
    """What was read; what is no text in it is left out."""
    annotations = (read.get("metadata") or {}).get("annotations") or {}
    texts = ((name, _decoded(value)) for name, value in (read.get("data") or {}).items())
    return Secret(
        {name: text for name, text in texts if text is not None},
        {
            name.removeprefix(ANNOTATIONS): str(value)
            for name, value in annotations.items()
            if name.startswith(ANNOTATIONS)
        },
    )


def _decoded(value: object) -> str | None:
    try:
        return base64.b64decode(str(value or ""), validate=True).decode()
    except ValueError:
        return None
