"""What is there, as far as plans depend on it: read once, when a watch tells of it.

Raw JSON in, small frozen values out: a cluster has ten thousand of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from larder.claims import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    READ_ONLY_MANY,
    Claim,
    claim_named,
    claim_of_volume,
    is_ours,
    retiring_since,
)

KubeObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """One object as it was at one moment; what is done to it is done to this one alone."""

    uid: str
    resource_version: str
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class SeenClaim:
    """A PersistentVolumeClaim of ours. `retiring_since` is in Unix seconds."""

    claim: Claim
    version: Version
    is_bound: bool = False
    retiring_since: float | None = None


@dataclass(frozen=True, slots=True)
class SeenVolume:
    """A PersistentVolume of ours. `claim_uid` is that of the claim it is bound to, or empty."""

    claim: Claim
    version: Version
    path: PurePosixPath
    claim_uid: str = ""


def seen_claim(content: KubeObject) -> SeenClaim | None:
    """A PersistentVolumeClaim; None for one that is not ours, whatever it says."""
    metadata = content["metadata"]
    claim = claim_named(metadata.get("namespace") or "", metadata["name"])
    if claim is None or not is_ours(content):
        return None
    is_bound = (content.get("status") or {}).get("phase") == "Bound"
    return SeenClaim(claim, _version(metadata), is_bound, retiring_since(content))


def seen_volume(content: KubeObject) -> SeenVolume | None:
    """A PersistentVolume; None for one that is not ours, whatever it says."""
    metadata, spec = content["metadata"], content.get("spec") or {}
    claim = claim_of_volume(metadata["name"])
    if claim is None or (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) != MANAGED_BY:
        return None
    reference, path = spec.get("claimRef") or {}, (spec.get("hostPath") or {}).get("path")
    is_for_it = (reference.get("namespace"), reference.get("name")) == (claim.namespace, claim.name)
    if not is_for_it or not path or spec.get("accessModes") != [READ_ONLY_MANY]:
        return None
    return SeenVolume(claim, _version(metadata), PurePosixPath(path), reference.get("uid") or "")


def claims_used(pods: Iterable[KubeObject]) -> frozenset[str]:
    """The names of the claims that pods of one namespace have as volumes."""
    volumes = [v for pod in pods for v in (pod.get("spec") or {}).get("volumes") or ()]
    return frozenset(
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes
        if volume.get("persistentVolumeClaim")
    )


def _version(metadata: KubeObject) -> Version:
    return Version(
        metadata["uid"], metadata["resourceVersion"], bool(metadata.get("deletionTimestamp"))
    )
