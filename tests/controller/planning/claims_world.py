"""A cluster of claims and volumes in memory: what the API server and its binder do to them."""

import uuid
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from controller.planning.manifests import claim_manifest, mark_patch, volume_manifest
from controller.planning.plan import (
    DeleteClaim,
    DeleteVolume,
    MakeClaim,
    MakeVolume,
    MarkClaim,
    Observation,
    Plan,
    make_plan,
    namespaces_to_look_at,
)
from controller.planning.seen import claims_used, seen_claim, seen_volume
from controller.planning.wanted import Wanted
from larder.claims import RETIRING_ANNOTATION, Claim

ROOT = PurePosixPath("/var/lib/larder")
RETIRE_AFTER = 300.0
Json = dict[str, Any]


@dataclass
class ClaimsWorld:
    """What is there. Names are kept by claim; foreign objects are somebody else's."""

    claims: dict[Claim, Json] = field(default_factory=dict)
    volumes: dict[Claim, Json] = field(default_factory=dict)
    pods: dict[str, list[Json]] = field(default_factory=dict)
    now: float = 1_700_000_000.0
    version: int = 0
    deleted: list[tuple[str, Claim]] = field(default_factory=list)

    def observe(self, wanted: Wanted | None, **more: Any) -> Observation:
        """As the controller's observer does: pods only of namespaces where it matters."""
        claims = [seen_claim(content) for content in self.claims.values()]
        volumes = [seen_volume(content) for content in self.volumes.values()]
        given = {"is_safe": True, "cache_root": ROOT, "retire_after_seconds": RETIRE_AFTER} | more
        seen = Observation(
            wanted=wanted,
            claims={each.claim: each for each in claims if each},
            volumes={each.claim: each for each in volumes if each},
            now=self.now,
            **given,
        )
        used = {n: claims_used(self.pods.get(n, ())) for n in namespaces_to_look_at(seen)}
        return Observation(**{f: getattr(seen, f) for f in Observation.__slots__} | {"used": used})

    def plan(self, wanted: Wanted | None, **more: Any) -> Plan:
        return make_plan(self.observe(wanted, **more))

    def execute(self, plan: Plan) -> None:
        for action in plan.actions:
            claim = action.claim
            match action:
                case MakeVolume(claim, claim_uid):
                    self._make(self.volumes, claim, volume_manifest(claim, ROOT, claim_uid))
                case MakeClaim(claim):
                    self._make(self.claims, claim, claim_manifest(claim))
                case MarkClaim(claim, version, since):
                    patch = mark_patch(version.resource_version, since)
                    metadata = self.claims[claim]["metadata"]
                    assert metadata["resourceVersion"] == version.resource_version
                    text = patch["metadata"]["annotations"][RETIRING_ANNOTATION]
                    self.touch(metadata, annotations={RETIRING_ANNOTATION: text} if text else {})
                case DeleteClaim(claim, version):
                    assert self.claims[claim]["metadata"]["uid"] == version.uid
                    self.deleted.append(("claim", claim))
                    self.delete_claim(claim)
                case DeleteVolume(claim, version, _):
                    assert self.volumes[claim]["metadata"]["uid"] == version.uid
                    self.deleted.append(("volume", claim))
                    del self.volumes[claim]
        self.bind()

    def bind(self) -> None:
        """What kube-controller-manager does."""
        for claim, content in self.claims.items():
            volume = self.volumes.get(claim)
            uid = content["metadata"]["uid"]
            if volume is None or content["spec"].get("volumeName") != volume["metadata"]["name"]:
                is_lost = content.get("status") == {"phase": "Bound"}
                content["status"] = {"phase": "Lost"} if is_lost else content.get("status")
            elif volume["spec"]["claimRef"].setdefault("uid", uid) == uid:
                content["status"] = {"phase": "Bound"}

    def use(self, namespace: str, claim_name: str) -> None:
        volumes = [{"name": "m", "persistentVolumeClaim": {"claimName": claim_name}}, {"name": "e"}]
        self.pods.setdefault(namespace, []).append({"spec": {"volumes": volumes}})

    def touch(self, metadata: Json, **changes: Any) -> None:
        self.version += 1
        metadata |= {**changes, "resourceVersion": str(self.version)}

    def delete_claim(self, claim: Claim) -> None:
        """It stays, Terminating, while a pod has it."""
        if claim.name in claims_used(self.pods.get(claim.namespace, ())):
            self.touch(self.claims[claim]["metadata"], deletionTimestamp="now")
        else:
            del self.claims[claim]

    def finish(self) -> None:
        """Terminating claims that no pod has any more are gone."""
        for claim, content in list(self.claims.items()):
            if "deletionTimestamp" in content["metadata"]:
                self.delete_claim(claim)

    def _make(self, where: dict[Claim, Json], claim: Claim, content: Json) -> None:
        assert claim not in where, "exists already"
        content["metadata"]["uid"] = uuid.uuid4().hex
        self.touch(content["metadata"])
        where[claim] = content
