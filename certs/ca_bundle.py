"""What a webhook configuration must trust and call, and the patch that brings it there. Pure.

Only webhooks that are ours by name and reached through a Service are looked at. Where somebody else
injects the bundle (cert-manager, OpenShift), it is theirs; the path is ours all the same.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from certs.authority import Fingerprint, fingerprints
from runtime.kube.objects import KubeObject

_INJECTORS: Final = ("cert-manager.io/inject-", "service.beta.openshift.io/inject-cabundle")


@dataclass(frozen=True, slots=True)
class Published:
    """What our webhooks are to say. `endpoints`: a webhook's name → its path in the program."""

    bundle: bytes
    path: str = field(repr=False)
    endpoints: Mapping[str, str]


def admission_path(path: str, endpoint: str) -> str:
    """Where an endpoint is reached: under the unguessable path."""
    return f"/{path}{endpoint}"


def published_authorities(
    configuration: KubeObject, endpoints: Mapping[str, str]
) -> tuple[frozenset[Fingerprint], ...]:
    """The authorities that each of our webhooks trusts; nothing where bundles are injected."""
    if is_injected(configuration):
        return ()
    return tuple(fingerprints(_bundle(webhook)) for _, webhook in _ours(configuration, endpoints))


def patch_of(configuration: KubeObject, wanted: Published) -> list[dict[str, Any]]:
    """The JSON patch that repairs what differs; empty if nothing does.

    It holds for the version that was read alone: with another, the API server says conflict.
    """
    changes = []
    keeps_bundle = is_injected(configuration)
    for index, webhook in _ours(configuration, wanted.endpoints):
        at = f"/webhooks/{index}/clientConfig"
        if not keeps_bundle and _bundle(webhook) != wanted.bundle:
            value = base64.b64encode(wanted.bundle).decode()
            changes.append({"op": "add", "path": f"{at}/caBundle", "value": value})
        path = admission_path(wanted.path, wanted.endpoints[webhook["name"]])
        if webhook["clientConfig"]["service"].get("path") != path:
            changes.append({"op": "add", "path": f"{at}/service/path", "value": path})
    if not changes:
        return []
    version = configuration["metadata"]["resourceVersion"]
    return [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}, *changes]


def is_injected(configuration: KubeObject) -> bool:
    """Whether somebody else looks after its bundles."""
    metadata = configuration["metadata"]
    return any(name.startswith(_INJECTORS) for name in metadata.get("annotations") or {})


def _ours(
    configuration: KubeObject, endpoints: Mapping[str, str]
) -> Iterator[tuple[int, KubeObject]]:
    for index, webhook in enumerate(configuration.get("webhooks") or []):
        if webhook["name"] in endpoints and webhook["clientConfig"].get("service"):
            yield index, webhook


def _bundle(webhook: KubeObject) -> bytes:
    try:
        return base64.b64decode(webhook["clientConfig"].get("caBundle") or "", validate=True)
    except (binascii.Error, ValueError):
        return b""
