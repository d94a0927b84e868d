"""What is done about claims: by table, one step after the other."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from controller.planning.plan import (
    DeleteClaim,
    DeleteVolume,
    MakeClaim,
    MakeVolume,
    MarkClaim,
    Plan,
    Wait,
    make_plan,
)
from controller.planning.wanted import Wanted
from larder.claims import Claim
from larder.layout import Key
from tests.controller.planning.claims_world import RETIRE_AFTER, ClaimsWorld

A, B = Claim("chat", Key("a" * 16)), Claim("chat", Key("b" * 16))
NOTHING = Wanted()


def wanting(*claims: Claim, undecided: Iterable[Key] = ()) -> Wanted:
    return Wanted(frozenset(claims), frozenset(undecided))


def kinds(plan: Plan) -> list[type]:
    return [type(action) for action in plan.actions]


def settled(*claims: Claim) -> ClaimsWorld:
    """A world where these claims are made and Bound."""
    world = ClaimsWorld()
    world.execute(world.plan(wanting(*claims)))
    assert world.plan(wanting(*claims)) == Plan()
    return world


def retired(*claims: Claim) -> ClaimsWorld:
    """A world where these claims are marked, and long enough."""
    world = settled(*claims)
    world.execute(world.plan(NOTHING))
    world.now += RETIRE_AFTER
    return world


def test_a_wanted_claim_is_made_after_its_volume() -> None:
    assert ClaimsWorld().plan(wanting(A)).actions == (MakeVolume(A), MakeClaim(A))


def test_a_claim_that_was_refused_after_its_volume_was_made_is_made_later() -> None:
    world = ClaimsWorld()
    world.execute(Plan((MakeVolume(A),)))
    assert world.plan(wanting(A)).actions == (MakeClaim(A),)


def test_nothing_is_done_while_it_is_unknown_what_is_wanted() -> None:
    assert settled(A).plan(None) == Plan()


def test_nothing_is_made_while_the_policies_are_not_in_force() -> None:
    plan = ClaimsWorld().plan(wanting(A), is_safe=False)
    assert plan == Plan((), {A: Wait.POLICIES_NOT_IN_FORCE})


def test_claims_that_are_there_are_retired_without_the_policies_too() -> None:
    assert kinds(settled(A).plan(NOTHING, is_safe=False)) == [MarkClaim]


def test_a_refused_claim_is_left_alone_for_a_while() -> None:
    assert ClaimsWorld().plan(wanting(A), refused={A}) == Plan((), {A: Wait.REFUSED})


def test_what_the_watches_do_not_show_yet_is_left_alone() -> None:
    assert ClaimsWorld().plan(wanting(A), settling={A}) == Plan((), {A: Wait.SETTLING})
    assert settled(A).plan(NOTHING, settling={A}) == Plan((), {A: Wait.SETTLING})


def test_a_claim_of_a_model_that_nobody_can_decide_about_stays() -> None:
    assert settled(A).plan(wanting(undecided=[A.key])) == Plan()


def test_a_claim_is_marked_first_and_deleted_later() -> None:
    world = settled(A)
    plan = world.plan(NOTHING)
    assert kinds(plan) == [MarkClaim]
    world.execute(plan)
    world.now += RETIRE_AFTER - 1
    assert world.plan(NOTHING) == Plan((), {A: Wait.RETIRING})
    world.now += 1
    plan = world.plan(NOTHING)
    assert kinds(plan) == [DeleteClaim]
    world.execute(plan)
    plan = world.plan(NOTHING)
    assert kinds(plan) == [DeleteVolume]
    world.execute(plan)
    assert world.plan(NOTHING) == Plan()
    assert not world.claims
    assert not world.volumes


def test_a_claim_that_a_pod_has_stays_until_the_last_one_goes() -> None:
    world = retired(A)
    world.use("chat", A.name)
    assert world.plan(NOTHING) == Plan((), {A: Wait.IN_USE})
    world.pods.clear()
    assert kinds(world.plan(NOTHING)) == [DeleteClaim]


def test_pods_of_another_namespace_keep_no_claim() -> None:
    world = retired(A)
    world.use("search", A.name)
    assert kinds(world.plan(NOTHING)) == [DeleteClaim]


def test_a_claim_is_not_deleted_unless_somebody_looked_at_the_pods() -> None:
    seen = retired(A).observe(NOTHING)
    assert seen.used == {"chat": frozenset()}
    assert make_plan(replace(seen, used={})) == Plan((), {A: Wait.IN_USE})


def test_a_model_that_comes_back_in_time_keeps_its_claim() -> None:
    world = retired(A)
    plan = world.plan(wanting(A))
    assert [(type(a), getattr(a, "since", "")) for a in plan.actions] == [(MarkClaim, None)]
    world.execute(plan)
    assert world.plan(wanting(A)) == Plan()


def test_a_mark_stays_while_the_policies_are_not_in_force() -> None:
    plan = retired(A).plan(wanting(A), is_safe=False)
    assert plan == Plan((), {A: Wait.POLICIES_NOT_IN_FORCE})


def test_a_terminating_claim_is_waited_for() -> None:
    world = settled(A)
    world.use("chat", A.name)
    world.delete_claim(A)
    assert world.plan(wanting(A)) == Plan((), {A: Wait.LEAVING})
    assert world.plan(NOTHING) == Plan((), {A: Wait.LEAVING})


def test_a_claim_that_somebody_deleted_is_made_anew_with_a_volume_of_its_own() -> None:
    world = settled(A)
    world.delete_claim(A)
    plan = world.plan(wanting(A))
    assert kinds(plan) == [DeleteVolume]
    world.execute(plan)
    assert world.plan(wanting(A)).actions == (MakeVolume(A), MakeClaim(A))


def test_a_claim_that_lost_its_volume_gets_one_for_its_uid_and_is_bound_again() -> None:
    world = settled(A)
    uid = world.claims[A]["metadata"]["uid"]
    world.volumes.clear()
    world.bind()
    assert world.claims[A]["status"] == {"phase": "Lost"}
    plan = world.plan(wanting(A))
    assert plan.actions == (MakeVolume(A, uid),)
    world.execute(plan)
    assert world.claims[A]["status"] == {"phase": "Bound"}
    assert world.plan(wanting(A)) == Plan()


def test_a_volume_that_is_going_is_waited_for() -> None:
    world = settled(A)
    world.touch(world.volumes[A]["metadata"], deletionTimestamp="now")
    assert world.plan(wanting(A)) == Plan((), {A: Wait.LEAVING})
    world.delete_claim(A)
    assert world.plan(NOTHING) == Plan()


def test_a_volume_for_another_cache_root_is_retired_and_made_anew() -> None:
    world = settled(A)
    elsewhere = PurePosixPath("/mnt/nvme")
    assert kinds(world.plan(wanting(A), cache_root=elsewhere)) == [MarkClaim]


def test_a_claim_that_is_not_ours_is_left_alone_whatever_it_says() -> None:
    world = settled(A)
    world.claims[A]["spec"]["volumeName"] = "pvc-of-a-tenant"
    assert DeleteClaim not in kinds(world.plan(NOTHING))
    assert MarkClaim not in kinds(world.plan(NOTHING))


def test_steps_of_one_claim_stand_together() -> None:
    claims = [step.claim for step in ClaimsWorld().plan(wanting(B, A)).actions]
    assert claims == [A, A, B, B]
