"""Gathers the values that a plan is made from.

Watches tell most of it. Asked for are the policies, every few seconds, and the pods of namespaces
where a claim could be deleted: just now, all of them, from the API server's store.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from controller.cluster import Cluster
from controller.memory import Expectations, Refusals, Shown
from controller.planning.plan import Observation, namespaces_to_look_at
from controller.planning.seen import claims_used
from controller.planning.wanted import Wanted, wanted_claims
from controller.policies import Policies
from larder.claims import Claim
from larder.contract import CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.catalog_source import CatalogReading
from runtime.clock import Clock
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError
from runtime.kube.mirror import Snapshot
from runtime.kube.paths import collection_path
from runtime.logs import get_logger

LOOK_SECONDS: Final = 30.0  # between two looks at the pods of a namespace
MAX_LOOKS: Final = 25  # in one turn
_UNENDED: Final = "status.phase!=Succeeded,status.phase!=Failed"
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Settled:
    """What the controller was told once and for all."""

    cache_root: PurePosixPath
    retire_after_seconds: float


class Observer:
    """Makes observations; `reading` and `faults` are what it saw of catalog and policies last."""

    def __init__(
        self, cluster: Cluster, client: KubeClient, policies: Policies, clock: Clock, told: Settled
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._policies = policies
        self._clock = clock
        self._told = told
        self._wanted: tuple[object, Wanted] | None = None
        self._looked_at: dict[str, float] = {}
        self.refusals = Refusals(clock)
        self.expectations = Expectations(clock)
        self.reading = CatalogReading(None)
        self.faults: tuple[str, ...] = ()

    def observe(self) -> Observation:
        """What there is and what there should be, now."""
        self.faults = self._policies.faults()
        self._cluster.services.look()
        claims, volumes = self._cluster.claims, self._cluster.volumes
        wanted = self._what_is_wanted()
        seen = Observation(
            wanted=wanted,
            claims=_seen(claims),
            volumes=_seen(volumes),
            cache_root=self._told.cache_root,
            now=self._clock.now(),
            retire_after_seconds=self._told.retire_after_seconds,
            is_safe=not self.faults,
            refused=self.refusals.among(wanted.claims if wanted else ()),
            settling=self.expectations.unmet(self.versions),
        )
        return replace(seen, used=self._look(namespaces_to_look_at(seen)))

    def versions(self, claim: Claim) -> Shown:
        """What the watches show of a claim and its volume."""
        return (
            _version(self._cluster.claims, (claim.namespace, claim.name)),
            _version(self._cluster.volumes, ("", claim.volume_name)),
        )

    def _what_is_wanted(self) -> Wanted | None:
        self.reading = self._cluster.catalog.poll()
        catalog, namespaces = self.reading.catalog, self._cluster.namespaces
        if catalog is None or not self._cluster.is_known:
            return None
        services = self._cluster.services
        place = (catalog, namespaces.version, services.versions(), services.uris() is None)
        if self._wanted is None or self._wanted[0] != place:
            there = frozenset(
                name
                for (_, name), content in namespaces.objects.items()
                if "deletionTimestamp" not in content["metadata"]
            ) - {SYSTEM_NAMESPACE, CREDENTIALS_NAMESPACE}
            self._wanted = place, wanted_claims(catalog, there, services.uris())
        return self._wanted[1]

    def _look(self, namespaces: frozenset[str]) -> Mapping[str, frozenset[str]]:
        """The claims that pods have now; of a namespace that cannot be read, nothing is said."""
        now, used = self._clock.monotonic(), {}
        self._looked_at = {n: at for n, at in self._looked_at.items() if now < at + LOOK_SECONDS}
        for namespace in sorted(namespaces - set(self._looked_at))[:MAX_LOOKS]:
            self._looked_at[namespace] = now
            try:
                pods = self._client.list(
                    collection_path("v1", "pods", namespace=namespace),
                    query=[("fieldSelector", _UNENDED)],
                )
            except KubeError as error:
                _log.warning("claims stay: pods unknown", namespace=namespace, error=str(error))
            else:
                used[namespace] = claims_used(pods.items)
        return used


def _seen(snapshot: Snapshot) -> dict[Claim, Any]:
    found = (content["seen"] for content in snapshot.objects.values())
    return {seen.claim: seen for seen in found if seen is not None}


def _version(snapshot: Snapshot, name: tuple[str, str]) -> str | None:
    content = snapshot.objects.get(name)
    return None if content is None else str(content["metadata"]["resourceVersion"])
