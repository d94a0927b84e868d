"""What is read of claims, volumes and pods; what is not ours is not seen."""

from pathlib import PurePosixPath
from typing import Any

import pytest

from controller.planning.manifests import claim_manifest, mark_patch, volume_manifest
from controller.planning.seen import SeenVolume, Version, claims_used, seen_claim, seen_volume
from larder.claims import Claim, retiring_since
from larder.layout import Key

ROOT = PurePosixPath("/var/lib/larder")
SLOT = Claim("chat", Key("0123456789abcdef"))
CONTENT = Claim("chat", SLOT.key, is_content=True)
MADE = {"uid": "u1", "resourceVersion": "7"}


def there(manifest: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], **MADE, **metadata}}


@pytest.mark.parametrize("claim", [SLOT, CONTENT])
def test_what_is_made_is_seen_as_ours(claim: Claim) -> None:
    volume = seen_volume(there(volume_manifest(claim, ROOT)))
    assert volume == SeenVolume(claim, Version("u1", "7"), claim.path(ROOT))
    seen = seen_claim(there(claim_manifest(claim)))
    assert seen is not None
    assert (seen.claim, seen.version, seen.is_bound) == (claim, Version("u1", "7"), False)


def test_a_claim_that_is_bound_or_leaving_is_seen_so() -> None:
    leaving = there(claim_manifest(SLOT), deletionTimestamp="2026-01-01T00:00:00Z")
    seen = seen_claim({**leaving, "status": {"phase": "Bound"}})
    assert seen is not None
    assert (seen.is_bound, seen.version.is_leaving) == (True, True)


def test_a_volume_says_which_claim_it_is_bound_to() -> None:
    seen = seen_volume(there(volume_manifest(SLOT, ROOT, "u9")))
    assert seen is not None
    assert seen.claim_uid == "u9"


def test_content_must_be_there_and_a_slot_may_be_made() -> None:
    types = [volume_manifest(c, ROOT)["spec"]["hostPath"]["type"] for c in (SLOT, CONTENT)]
    assert types == ["DirectoryOrCreate", "Directory"]


def test_volumes_are_on_every_node_for_one_claim_and_retained() -> None:
    spec = volume_manifest(SLOT, ROOT)["spec"]
    assert "nodeAffinity" not in spec
    assert (spec["claimRef"]["namespace"], spec["claimRef"]["name"]) == ("chat", SLOT.name)
    assert (spec["accessModes"], spec["persistentVolumeReclaimPolicy"]) == (
        ["ReadOnlyMany"],
        "Retain",
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"claimRef": None}, id="for no claim"),
        pytest.param({"claimRef": {"namespace": "x", "name": SLOT.name}}, id="of elsewhere"),
        pytest.param({"hostPath": None}, id="no directory"),
        pytest.param({"accessModes": ["ReadWriteMany"]}, id="writable"),
    ],
)
def test_a_volume_that_differs_is_not_ours(changes: dict[str, Any]) -> None:
    content = there(volume_manifest(SLOT, ROOT))
    assert seen_volume({**content, "spec": content["spec"] | changes}) is None


def test_names_and_labels_of_others_are_not_ours() -> None:
    assert seen_volume(there(volume_manifest(SLOT, ROOT), labels=None)) is None
    assert seen_volume(there(volume_manifest(SLOT, ROOT), name="pvc-1")) is None
    assert seen_claim(there(claim_manifest(SLOT), labels={})) is None
    assert seen_claim(there(claim_manifest(SLOT), name="data")) is None


def test_a_mark_can_be_read_back_and_taken_away() -> None:
    patch = mark_patch("7", 1_700_000_000.0)
    assert retiring_since({"metadata": patch["metadata"]}) == 1_700_000_000.0
    assert patch["metadata"]["resourceVersion"] == "7"
    assert retiring_since({"metadata": mark_patch("7", None)["metadata"]}) is None


def test_claims_of_pods_are_found_among_their_volumes() -> None:
    volumes = [{"name": "e", "emptyDir": {}}, {"persistentVolumeClaim": {"claimName": "larder-x"}}]
    pods: list[dict[str, Any]] = [{"spec": {"volumes": volumes}}, {"spec": {}}, {}]
    assert claims_used(pods) == {"larder-x"}
