"""Whatever happens to claims, volumes and pods: what a plan never does, and where plans end."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.planning.plan import (
    DeleteClaim,
    DeleteVolume,
    MakeClaim,
    MakeVolume,
    MarkClaim,
    Plan,
)
from controller.planning.seen import claims_used
from controller.planning.wanted import Wanted
from larder.claims import Claim
from larder.layout import Key
from tests.controller.planning.claims_world import RETIRE_AFTER, ClaimsWorld

CLAIMS = [
    Claim(namespace, Key(digit * 16), is_content)
    for namespace in ("chat", "search")
    for digit in "ab"
    for is_content in (False, True)
]
FOREIGN = [Claim("chat", Key("c" * 16)), Claim("search", Key("c" * 16))]
some_claims = st.frozensets(st.sampled_from(CLAIMS))
happenings = st.lists(
    st.tuples(
        st.sampled_from(["want", "use", "end", "delete", "lose", "wait", "finish", "unlabel"]),
        st.sampled_from(CLAIMS),
        some_claims,
        st.booleans(),
    ),
    max_size=25,
)


def with_strangers() -> ClaimsWorld:
    """A world with objects of our names that are not ours."""
    world = ClaimsWorld()
    for claim in FOREIGN:
        for where, name in ((world.claims, claim.name), (world.volumes, claim.volume_name)):
            metadata: dict[str, Any] = {"name": name, "uid": f"tenant-{name}"}
            metadata["namespace"] = claim.namespace
            world.touch(metadata)
            spec = {"claimRef": {"name": "data"}, "accessModes": ["ReadWriteMany"]}
            where[claim] = {"metadata": metadata, "spec": spec}
    return world


def happen(world: ClaimsWorld, what: str, claim: Claim) -> None:
    there = world.claims.get(claim)
    if what == "use":
        world.use(claim.namespace, claim.name)
    elif what == "end":
        world.pods.pop(claim.namespace, None)
    elif what == "delete" and there:
        world.delete_claim(claim)
    elif what == "lose":
        world.volumes.pop(claim, None)
        world.bind()
    elif what == "wait":
        world.now += RETIRE_AFTER
    elif what == "finish":
        world.finish()
    elif what == "unlabel" and there:
        world.touch(there["metadata"], labels={})


@given(happenings)
@settings(max_examples=300, deadline=None)
def test_no_plan_touches_what_is_used_or_not_ours_and_plans_come_to_rest(steps: Any) -> None:
    world, wanted = with_strangers(), Wanted()
    strangers = {claim: dict(world.claims[claim]["metadata"]) for claim in FOREIGN}
    for what, claim, claims, is_safe in steps:
        if what == "want":
            wanted = Wanted(claims)
        happen(world, what, claim)
        unlabelled = {c for c, o in world.claims.items() if not o["metadata"].get("labels")}
        plan = world.plan(wanted, is_safe=is_safe, refused=unlabelled)
        for action in plan.actions:
            used = claims_used(world.pods.get(action.claim.namespace, ()))
            assert action.claim not in FOREIGN
            if isinstance(action, DeleteClaim):
                assert action.claim.name not in used
            if isinstance(action, DeleteClaim | MarkClaim):
                assert action.claim not in unlabelled
            if isinstance(action, MakeClaim | MakeVolume):
                assert is_safe
        world.execute(without_bound(plan, world))
    assert {c: world.claims[c]["metadata"] for c in FOREIGN} == strangers
    come_to_rest(world, wanted)


def without_bound(plan: Plan, world: ClaimsWorld) -> Plan:
    """Less what the executor finds out: a volume stays with its claim, ours or unlabelled."""
    return Plan(
        tuple(
            action
            for action in plan.actions
            if not (isinstance(action, DeleteVolume) and action.claim in world.claims)
        )
    )


def come_to_rest(world: ClaimsWorld, wanted: Wanted) -> None:
    """Once nothing happens any more, a few plans make it as it is wanted, and the next is empty."""
    world.pods.clear()
    for claim in [c for c, o in world.claims.items() if c not in FOREIGN]:
        if not world.claims[claim]["metadata"].get("labels"):
            del world.claims[claim]
    for _ in range(8):
        world.finish()
        world.now += RETIRE_AFTER
        world.execute(world.plan(wanted))
    assert world.plan(wanted) == Plan()
    ours = set(world.claims) - set(FOREIGN)
    assert ours == set(world.volumes) - set(FOREIGN) == wanted.claims
    assert all(world.claims[claim]["status"] == {"phase": "Bound"} for claim in ours)
