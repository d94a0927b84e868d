"""The Secret and the webhook configurations, by way of the API server.

Every call may raise a `KubeError`. What is read is as it is now (a consistent read), not a cache's.
A Secret is changed by a merge patch of our keys that holds for the version read alone; keys of
others in it stay.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from certs.authority import OUR_KEYS
from runtime.kube.client import JSON_PATCH, KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.objects import KubeObject
from runtime.kube.paths import collection_path, object_path

_REGISTRATION: Final = "admissionregistration.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A Secret as it was read."""

    data: Mapping[str, bytes] = field(repr=False)
    resource_version: str


class KubeSecret:
    """One Secret of one namespace."""

    def __init__(self, client: KubeClient, namespace: str, name: str) -> None:
        self._client = client
        self._collection = collection_path("v1", "secrets", namespace=namespace)
        self._path = object_path("v1", "secrets", name, namespace=namespace)
        self._name = name

    def read(self) -> StoredSecret | None:
        """The Secret as it is now; None: there is none."""
        try:
            return read_secret(self._client.get(self._path))
        except NotFoundError:
            return None

    def create(self, data: Mapping[str, bytes]) -> None:
        """Make it. Raises `ConflictError` where there is one."""
        content = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self._name},
            "type": "Opaque",
            "data": {key: _encoded(value) for key, value in data.items()},
        }
        self._client.create(self._collection, content)

    def update(self, data: Mapping[str, bytes], resource_version: str) -> None:
        """Bring our keys to this. Raises `ConflictError`, `NotFoundError` if it is another now."""
        values = {key: _encoded(data[key]) if key in data else None for key in OUR_KEYS}
        content = {"metadata": {"resourceVersion": resource_version}, "data": values}
        self._client.patch(self._path, content)


class KubeConfigurations:
    """Our webhook configurations: one of each kind, if they are there."""

    def __init__(self, client: KubeClient, *, mutating: str, validating: str) -> None:
        self._client = client
        self._paths = {
            "MutatingWebhookConfiguration": object_path(
                _REGISTRATION, "mutatingwebhookconfigurations", mutating
            ),
            "ValidatingWebhookConfiguration": object_path(
                _REGISTRATION, "validatingwebhookconfigurations", validating
            ),
        }

    def read(self) -> Sequence[KubeObject]:
        """Those that exist, as they are now."""
        found = []
        for path in self._paths.values():
            with suppress(NotFoundError):
                found.append(self._client.get(path))
        return found

    def patch(self, configuration: KubeObject, patch: Sequence[Mapping[str, Any]]) -> None:
        """Apply a JSON patch. Raises `ConflictError` or `NotFoundError` if it is another now."""
        path = self._paths[configuration["kind"]]
        self._client.patch(path, list(patch), content_type=JSON_PATCH)


def read_secret(content: KubeObject) -> StoredSecret:
    """A Secret's object, read or watched; values that are not base64 count as empty."""
    data = {key: _decoded(value) for key, value in (content.get("data") or {}).items()}
    return StoredSecret(data, content["metadata"]["resourceVersion"])


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""
