"""Volumes and claims as the API takes them. The admission policies allow these and no others."""

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

from larder.claims import LABELS, READ_ONLY_MANY, RETIRING_ANNOTATION, Claim

SIZE: Final = "1Mi"  # what quotas count; a hostPath has no size

Manifest = dict[str, Any]


def volume_manifest(claim: Claim, cache_root: PurePosixPath, claim_uid: str = "") -> Manifest:
    """The PersistentVolume of a claim, for that claim alone.

    The content of a slot is there or the pod waits; the slot itself may be made by the kubelet, for
    a node without an agent. `claim_uid` binds it to the one claim that lost its volume.
    """
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": claim.namespace,
        "name": claim.name,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": claim.volume_name, "labels": dict(LABELS)},
        "spec": {
            "accessModes": [READ_ONLY_MANY],
            "capacity": {"storage": SIZE},
            "claimRef": reference | ({"uid": claim_uid} if claim_uid else {}),
            "hostPath": {
                "path": str(claim.path(cache_root)),
                "type": "Directory" if claim.is_content else "DirectoryOrCreate",
            },
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "volumeMode": "Filesystem",
        },
    }


def claim_manifest(claim: Claim) -> Manifest:
    """The PersistentVolumeClaim, bound beforehand."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim.name, "namespace": claim.namespace, "labels": dict(LABELS)},
        "spec": {
            "accessModes": [READ_ONLY_MANY],
            "resources": {"requests": {"storage": SIZE}},
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "volumeName": claim.volume_name,
        },
    }


def mark_patch(resource_version: str, since: float | None) -> Manifest:
    """A merge patch that marks a claim as retiring, or takes the mark away."""
    text = None if since is None else f"{datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "metadata": {
            "resourceVersion": resource_version,
            "annotations": {RETIRING_ANNOTATION: text},
        }
    }
