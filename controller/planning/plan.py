"""What to do about claims and volumes. Pure: the same values give the same plan.

Rules: nothing is touched but what is ours; nothing is made while the policies that hold pods and
volumes are not in force; a claim goes in two steps, marked first and deleted later, and only if a
look at the pods just now found none that has it; a volume goes after its claim. What a watch has
not shown yet of our own writes is left alone. Planning again after executing gives nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath

from controller.planning.seen import SeenClaim, SeenVolume, Version
from controller.planning.wanted import Wanted
from larder.claims import Claim


class Wait(StrEnum):
    """Why nothing is done about a claim for now. Closed: a label of metrics."""

    POLICIES_NOT_IN_FORCE = "PoliciesNotInForce"
    REFUSED = "Refused"
    RETIRING = "Retiring"
    IN_USE = "InUse"
    LEAVING = "Leaving"
    SETTLING = "Settling"


@dataclass(frozen=True, slots=True)
class MakeVolume:
    """Make a volume; `claim_uid` is that of a claim which lost its own, or empty."""

    claim: Claim
    claim_uid: str = ""


@dataclass(frozen=True, slots=True)
class MakeClaim:
    """Make a claim for a volume that is there."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class MarkClaim:
    """Say that no pod may be given a claim any more (`since`), or that it may be again (None)."""

    claim: Claim
    version: Version
    since: float | None


@dataclass(frozen=True, slots=True)
class DeleteClaim:
    """Take a claim away that was marked long enough and that no pod has."""

    claim: Claim
    version: Version


@dataclass(frozen=True, slots=True)
class DeleteVolume:
    """Take a volume away; `claim_uid` is that of the claim that must be gone."""

    claim: Claim
    version: Version
    claim_uid: str


Action = MakeVolume | MakeClaim | MarkClaim | DeleteClaim | DeleteVolume


@dataclass(frozen=True, slots=True)
class Observation:
    """What a plan is made from. `now` is in Unix seconds.

    `used` are the names of the claims that pods have, by namespace, for namespaces whose pods were
    looked at just now. `refused` and `settling` are left alone: the API server said no a while ago;
    the watches do not show yet what we did.
    """

    wanted: Wanted | None
    claims: Mapping[Claim, SeenClaim]
    volumes: Mapping[Claim, SeenVolume]
    cache_root: PurePosixPath
    now: float
    retire_after_seconds: float
    is_safe: bool
    used: Mapping[str, frozenset[str]] = field(default_factory=dict)
    refused: frozenset[Claim] = frozenset()
    settling: frozenset[Claim] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order for each claim, and what waits for something."""

    actions: tuple[Action, ...] = ()
    waiting: Mapping[Claim, Wait] = field(default_factory=dict)


Step = Action | Wait


def make_plan(seen: Observation) -> Plan:
    """The next step of every claim. Nothing at all while it is unknown what is wanted."""
    if seen.wanted is None:
        return Plan()
    actions, waiting = list[Action](), dict[Claim, Wait]()
    for claim in sorted(seen.wanted.claims.union(seen.claims, seen.volumes)):
        for step in _steps(claim, seen.wanted, seen):
            if isinstance(step, Wait):
                waiting[claim] = step
            else:
                actions.append(step)
    return Plan(tuple(actions), waiting)


def namespaces_to_look_at(seen: Observation) -> frozenset[str]:
    """Where claims could be deleted, if no pod has them."""
    if all(there.retiring_since is None for there in seen.claims.values()):
        return frozenset()  # the usual case, and a plan of ten thousand claims takes a while
    due = (claim for claim, wait in make_plan(seen).waiting.items() if wait is Wait.IN_USE)
    return frozenset(claim.namespace for claim in due)


def _steps(claim: Claim, wanted: Wanted, seen: Observation) -> Iterator[Step]:
    if claim in seen.settling:
        yield Wait.SETTLING
    elif claim in wanted.claims:
        yield from _keep(claim, seen)
    elif claim.key not in wanted.undecided:
        yield from _retire(claim, seen)


def _keep(claim: Claim, seen: Observation) -> Iterator[Step]:
    """Volume and claim are there, fit, and may be used."""
    there, volume = seen.claims.get(claim), seen.volumes.get(claim)
    if (there and there.version.is_leaving) or (volume and volume.version.is_leaving):
        yield Wait.LEAVING
    elif volume and volume.path != claim.path(seen.cache_root):
        yield from _retire(claim, seen)  # made for another root; where a volume leads never changes
    elif volume and volume.claim_uid and (there is None or there.version.uid != volume.claim_uid):
        yield DeleteVolume(claim, volume.version, volume.claim_uid)  # bound to one that is gone
    elif volume is None or there is None:
        yield from _make(claim, there, volume, seen)
    elif there.retiring_since is not None:
        yield MarkClaim(claim, there.version, None) if seen.is_safe else Wait.POLICIES_NOT_IN_FORCE


def _make(
    claim: Claim, there: SeenClaim | None, volume: SeenVolume | None, seen: Observation
) -> Iterator[Step]:
    if claim in seen.refused:
        yield Wait.REFUSED
    elif not seen.is_safe:
        yield Wait.POLICIES_NOT_IN_FORCE
    else:
        if volume is None:  # by its uid, a claim that was bound and lost its volume is Bound again
            yield MakeVolume(claim, there.version.uid if there else "")
        if there is None:
            yield MakeClaim(claim)


def _retire(claim: Claim, seen: Observation) -> Iterator[Step]:
    there, volume = seen.claims.get(claim), seen.volumes.get(claim)
    if there is None:
        if volume and not volume.version.is_leaving:
            yield DeleteVolume(claim, volume.version, volume.claim_uid)
    elif there.version.is_leaving:
        yield Wait.LEAVING
    elif there.retiring_since is None:
        yield MarkClaim(claim, there.version, seen.now)
    elif seen.now < there.retiring_since + seen.retire_after_seconds:
        yield Wait.RETIRING
    elif claim.name in seen.used.get(claim.namespace, {claim.name}):
        yield Wait.IN_USE  # or nobody looked yet
    else:
        yield DeleteClaim(claim, there.version)
