"""What the policies refuse to somebody with the controller's token, and would not without them."""

from typing import Any

import pytest

from controller.planning.manifests import claim_manifest, mark_patch, volume_manifest
from controller.planning.policies import OWN_CLAIMS_ONLY, OWN_VOLUMES_ONLY
from larder.claims import LABELS, Claim
from larder.layout import DEFAULT_ROOT
from runtime.kube.client import MERGE_PATCH, KubeClient
from tests.cluster.accounts import DRY_RUN, Identity
from tests.cluster.claims import (
    KEY,
    OTHER_KEY,
    VOLUMES,
    Json,
    claims,
    goes_through,
    is_refused,
    taken_away,
)
from tests.controller.conftest import until

pytestmark = pytest.mark.usefixtures("no_other_controller")


def volume_of(namespace: str = "chat", *, metadata: Json | None = None, **spec: Any) -> Json:
    volume = volume_manifest(Claim(namespace, OTHER_KEY), DEFAULT_ROOT)
    return {
        **volume,
        "metadata": volume["metadata"] | (metadata or {}),
        "spec": volume["spec"] | spec,
    }


def host_path(path: str) -> Json:
    return {"path": path, "type": ""}


FOR_ANOTHER = {**volume_of()["spec"]["claimRef"], "namespace": "search"}
BAD_VOLUMES = {
    "the node's disk": volume_of(hostPath=host_path("/")),
    "the cache root": volume_of(hostPath=host_path(str(DEFAULT_ROOT))),
    "all slots": volume_of(hostPath=host_path(f"{DEFAULT_ROOT}/slots")),
    "another slot": volume_of(hostPath=host_path(f"{DEFAULT_ROOT}/slots/{KEY}")),
    "a way out": volume_of(hostPath=host_path(f"{DEFAULT_ROOT}/slots/{OTHER_KEY}/../..")),
    "the blobs": volume_of(hostPath=host_path(f"{DEFAULT_ROOT}/blobs")),
    "a device": volume_of(hostPath={**volume_of()["spec"]["hostPath"], "type": "BlockDevice"}),
    "a volume to write": volume_of(accessModes=["ReadWriteMany"]),
    "another namespace's": volume_of(claimRef=FOR_ANOTHER),
    "anybody's": volume_of(claimRef=None),
    "another name": volume_of(metadata={"name": "pvc-1"}),
    "another label": volume_of(metadata={"labels": {}}),
    "one that deletes": volume_of(persistentVolumeReclaimPolicy="Delete"),
    "a network's": volume_of(hostPath=None, nfs={"server": "evil.example", "path": "/"}),
    "a class": volume_of(storageClassName="fast"),
    "mount options": volume_of(mountOptions=["exec"]),
}
OF_NOBODY = {"a way out", "mount options"}  # an API server makes none of these for anybody


@pytest.mark.parametrize("name", BAD_VOLUMES)
@pytest.mark.usefixtures("policy_holds")
def test_the_controller_may_not_make_a_volume_of(controller: Identity, name: str) -> None:
    answer = controller.ask("POST", f"{VOLUMES}{DRY_RUN}", BAD_VOLUMES[name])
    assert answer.status in {403, 422}, answer.message
    assert "larder:" in answer.message or name in OF_NOBODY


@pytest.mark.usefixtures("policy_holds")
def test_the_controller_may_make_its_own(controller: Identity) -> None:
    for claim in (Claim("chat", OTHER_KEY), Claim("chat", OTHER_KEY, is_content=True)):
        for uid in ("", "11111111-2222-3333-4444-555555555555"):
            volume = volume_manifest(claim, DEFAULT_ROOT, uid)
            answer = controller.ask("POST", f"{VOLUMES}{DRY_RUN}", volume)
            assert answer.status == 201, answer.message


@pytest.mark.usefixtures("policy_holds")
def test_without_its_policy_the_controllers_token_could_have_each_of_these_volumes(
    admin: KubeClient, controller: Identity
) -> None:
    with taken_away(admin, OWN_VOLUMES_ONLY):
        for name in BAD_VOLUMES.keys() - OF_NOBODY:
            volume = BAD_VOLUMES[name]
            goes_through(lambda v=volume: controller.ask("POST", f"{VOLUMES}{DRY_RUN}", v))


@pytest.mark.usefixtures("policy_holds")
def test_the_controller_touches_no_volume_of_others(
    admin: KubeClient, controller: Identity, namespace: str
) -> None:
    theirs = volume_of(metadata={"name": f"{namespace}-data"})
    admin.create(VOLUMES, theirs)
    try:
        path = f"{VOLUMES}/{namespace}-data{DRY_RUN}"
        answer = controller.ask("DELETE", path)
        assert is_refused(answer), answer.message
        with taken_away(admin, OWN_VOLUMES_ONLY):
            goes_through(lambda: controller.ask("DELETE", path))
    finally:
        admin.delete(f"{VOLUMES}/{namespace}-data")


def a_claim(namespace: str, *, metadata: Json | None = None, **spec: Any) -> Json:
    claim = claim_manifest(Claim(namespace, OTHER_KEY))
    return {**claim, "metadata": claim["metadata"] | (metadata or {}), "spec": claim["spec"] | spec}


@pytest.mark.usefixtures("policy_holds")
def test_the_controller_makes_claims_of_its_own_and_no_others(
    admin: KubeClient, controller: Identity, namespace: str
) -> None:
    path = f"{claims(namespace)}{DRY_RUN}"
    assert controller.ask("POST", path, a_claim(namespace)).status == 201
    others = (
        a_claim(namespace, metadata={"name": "data"}),
        a_claim(namespace, metadata={"labels": {}}),
        a_claim(namespace, volumeName=f"larder-other-{OTHER_KEY}"),
        a_claim(namespace, volumeName="pvc-1"),
        a_claim(namespace, accessModes=["ReadWriteMany"]),
    )
    for claim in others:
        answer = controller.ask("POST", path, claim)
        assert is_refused(answer), answer.message
    with taken_away(admin, OWN_CLAIMS_ONLY):
        for claim in others:
            goes_through(lambda c=claim: controller.ask("POST", path, c))


CHANGES: tuple[Json, ...] = (
    {"annotations": {"a": "c"}},
    {"annotations": {"a": None}},
    {"annotations": {"volume.kubernetes.io/selected-node": "n"}},
    {"labels": {"team": "x"}},
    {"finalizers": []},
    {"finalizers": ["example.com/held"]},
)


@pytest.mark.usefixtures("policy_holds")
def test_the_controller_changes_nothing_of_a_claim_but_its_mark_and_deletes_no_other(
    admin: KubeClient, controller: Identity, namespace: str
) -> None:
    admin.create(claims(namespace), a_claim(namespace, metadata={"annotations": {"a": "b"}}))
    theirs = a_claim(namespace, metadata={"name": "data", "labels": dict(LABELS)})
    admin.create(claims(namespace), theirs)
    own, data = (f"{claims(namespace)}/{name}" for name in (f"larder-{OTHER_KEY}", "data"))
    version = admin.get(own)["metadata"]["resourceVersion"]
    for since in (60.0, None):
        patch = mark_patch(version, since)
        answer = controller.ask("PATCH", f"{own}{DRY_RUN}", patch, MERGE_PATCH)
        assert answer.status == 200, answer.message
    attacks: list[tuple[str, str, Json | None]] = [
        *(("PATCH", own, {"metadata": change}) for change in CHANGES),
        ("PATCH", data, {}),
        ("DELETE", data, None),
    ]
    for method, path, body in attacks:
        answer = controller.ask(method, f"{path}{DRY_RUN}", body, MERGE_PATCH)
        assert is_refused(answer), (method, body, answer.message)
    with taken_away(admin, OWN_CLAIMS_ONLY):
        for method, path, body in attacks:
            goes_through(
                lambda m=method, p=path, b=body: controller.ask(m, f"{p}{DRY_RUN}", b, MERGE_PATCH)
            )


@pytest.fixture
def policy_holds(controller: Identity, namespace: str) -> None:
    """Both are in force, after whoever took one away brought it back."""
    no_label = a_claim(namespace, metadata={"labels": {}})
    for path, body in ((VOLUMES, BAD_VOLUMES["another label"]), (claims(namespace), no_label)):
        until(
            lambda p=path, b=body: is_refused(controller.ask("POST", f"{p}{DRY_RUN}", b)),
            "the policy is not in force",
        )
