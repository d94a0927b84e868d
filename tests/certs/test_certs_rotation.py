import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.authority import Action, Material, Reason, bundle_of, make_authority, write_material
from certs.ca_bundle import Published, patch_of
from runtime.kube.errors import UnavailableError
from tests.certs.certs_cases import DAY, HOUR, MINUTE, NOW, PATH, material
from tests.certs.certs_memory import interleave
from tests.certs.certs_world import ENDPOINTS, MUTATING, SECRET, VALIDATING, Replica, World

PAUSES = st.sampled_from([timedelta(0), timedelta(0), 31 * MINUTE, 3 * HOUR])
STEPS = st.sampled_from([timedelta(0), MINUTE, 10 * MINUTE, 31 * MINUTE, DAY, 3 * DAY])
JUMPS = st.sampled_from(
    [-400 * DAY, -31 * DAY, -2 * HOUR, 2 * HOUR, 31 * DAY, 400 * DAY, 4000 * DAY]
)


def settle(world: World, every: timedelta = 10 * MINUTE) -> int:
    """Rounds until nothing is left to do; a test fails if that never happens."""
    for rounds in range(20):
        before = len(world.memory.writes)
        steps = [replica.turn().step for replica in world.replicas]
        world.watch()
        if len(world.memory.writes) == before and not any(steps) and is_handed_over(world):
            return rounds
        world.now += every
    pytest.fail("the rotation does not come to an end")


def is_handed_over(world: World) -> bool:
    leaf = world.material.leaf
    return leaf is not None and leaf.is_signed_by(world.material.authorities[0])


# --- one replica --------------------------------------------------------------------------------


def test_the_first_turn_makes_everything_and_publishes_it() -> None:
    world = World()
    turn = world.replicas[0].turn()
    assert turn.step is not None
    assert (turn.step.action, turn.patched) == (Action.FOUND, 2)
    assert world.complaints() == []
    service = world.memory.objects[VALIDATING]["webhooks"][0]["clientConfig"]["service"]
    assert service["path"] == f"/{world.material.path}/validate-catalog"


def test_a_turn_with_nothing_to_do_writes_nothing() -> None:
    world = World()
    world.replicas[0].turn()
    written = len(world.memory.writes)
    turn = world.replicas[0].turn()
    assert (turn.step, turn.patched, len(world.memory.writes)) == (None, 0, written)


def test_an_empty_secret_that_was_installed_is_filled() -> None:
    world = World()
    world.store(Material())
    world.memory.objects[SECRET]["data"] = {"of-somebody-else": "a2VlcA=="}
    world.replicas[0].turn()
    assert world.complaints() == []
    assert world.memory.objects[SECRET]["data"]["of-somebody-else"] == "a2VlcA=="


def test_keys_of_a_step_that_are_gone_leave_the_secret() -> None:
    world = World()
    world.store(replace(material(241 * DAY), published_at=NOW))
    world.replicas[0].turn()
    assert "ca.published-at" not in world.memory.objects[SECRET]["data"]


@pytest.mark.parametrize(
    "drifted",
    ["", "bm90IGEgYnVuZGxl", base64.b64encode(bundle_of([make_authority(NOW)])).decode()],
    ids=["emptied", "no PEM", "another authority"],
)
def test_a_bundle_that_drifted_is_repaired(drifted: str) -> None:
    world = World()
    world.replicas[0].turn()
    good = world.memory.objects[MUTATING]["webhooks"]
    content = json.loads(json.dumps(world.memory.objects[MUTATING]))
    content["webhooks"][1]["clientConfig"]["caBundle"] = drifted
    world.memory.put(MUTATING, content)
    assert world.complaints()
    assert world.replicas[0].turn().patched == 1
    assert world.memory.objects[MUTATING]["webhooks"] == good


def test_a_configuration_that_is_gone_hinders_nothing() -> None:
    world = World()
    del world.memory.objects[VALIDATING]
    assert world.replicas[0].turn().patched == 1
    assert world.complaints() == []


def test_a_secret_that_is_deleted_is_made_anew_with_everything_in_it() -> None:
    world = World(replicas=2)
    settle(world)
    before = world.material
    del world.memory.objects[SECRET]
    settle(world)
    after = world.material
    assert world.complaints() == []
    assert before.path != after.path
    assert before.authorities[0].fingerprint != after.authorities[0].fingerprint


def test_a_write_whose_answer_is_lost_is_found_by_the_next_turn() -> None:
    world = World()
    world.memory.lost_answers = 1
    with pytest.raises(UnavailableError):
        world.replicas[0].turn()
    made = world.material
    assert world.replicas[0].served is None
    world.replicas[0].turn()
    assert write_material(world.material) == write_material(made)
    assert world.complaints() == []


def test_a_clock_that_is_behind_is_told_once_and_changes_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    world.replicas[0].turn()
    world.replicas[0].clock.wrong_by = -3 * HOUR
    capsys.readouterr()
    written = len(world.memory.writes)
    for _ in range(3):
        turn = world.replicas[0].turn()
        assert turn.step is not None
        assert turn.step.reason is Reason.CLOCK_BEHIND
    assert len(world.memory.writes) == written
    assert capsys.readouterr().out.count("certificates cannot be renewed") == 1


def test_no_key_and_no_path_leave_the_secret(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(replicas=2)
    world.store(material(241 * DAY))
    settle(world)
    world.now += 20 * DAY
    settle(world)
    said = capsys.readouterr()
    others = json.dumps([world.memory.objects[path] for path in (MUTATING, VALIDATING)])
    assert all(b"PRIVATE" not in bundle for bundle in world.bundles())
    assert "PRIVATE" not in others + said.out + said.err
    assert PATH in others
    assert PATH not in said.out + said.err
    for replica in world.replicas:
        assert replica.served is not None
        served = replica.served.certificate_pem + replica.served.key_pem
        keys = write_material(world.material)["ca.key"]
        assert keys not in served
        assert served.count(b"PRIVATE KEY") == 2


# --- several replicas, all interleavings ----------------------------------------------------------


@given(st.data())
@settings(max_examples=40)
def test_racing_replicas_end_with_one_authority(data: st.DataObject) -> None:
    world = World(replicas=3)
    world.memory.lost_answers = data.draw(st.integers(0, 2))

    def check() -> None:  # a key that lost the race is never used
        stored = world.material.leaf if SECRET in world.memory.objects else None
        served = [replica.served for replica in world.replicas if replica.served]
        assert all(stored and leaf.key_pem == stored.key_pem for leaf in served)

    for _ in range(2):
        plays = [replica.turn for replica in world.replicas]
        interleave(world.memory, plays, lambda n: data.draw(st.integers(0, n - 1)), check)
    settle(world)
    assert world.memory.writes.count(SECRET) == 1
    assert len(world.material.authorities) == 1
    assert world.complaints() == []


@given(st.data())
@settings(max_examples=40)
def test_what_is_served_verifies_at_every_moment_of_a_rotation(data: st.DataObject) -> None:
    """A replica may stand still for days in the middle of a turn, while the others go on."""
    world = World(replicas=data.draw(st.integers(2, 3), label="replicas"))
    age = data.draw(st.sampled_from([0, 241, 330]), label="authority's age in days") * DAY
    leaf_age = min(age, data.draw(st.sampled_from([0, 21]), label="leaf's age in days") * DAY)
    world.store(material(age, leaf_age))
    settle_bundles(world)
    world.memory.lost_answers = data.draw(st.integers(0, 2), label="lost answers")
    end = NOW + 8 * DAY

    def turns(replica: Replica) -> None:
        for _ in range(6):
            with suppress(UnavailableError):
                replica.load(world.material)  # what its watch tells
                replica.turn()

    def check() -> None:
        assert world.complaints() == []

    def pass_time() -> None:
        world.now = min(end, world.now + data.draw(PAUSES, label="time passes"))
        check()

    plays = [partial(turns, replica) for replica in world.replicas]
    interleave(world.memory, plays, in_runs(data, pass_time), check)
    world.memory.lost_answers = 0
    settle(world)
    assert world.complaints() == []


@given(st.data())
@settings(max_examples=40)
def test_one_replica_with_whatever_clock_breaks_nothing(data: st.DataObject) -> None:
    world = World(replicas=2)
    age = data.draw(st.sampled_from([0, 5, 239, 241, 330]), label="age") * DAY
    world.store(material(age, min(age, data.draw(st.sampled_from([0, 18, 21])) * DAY)))
    settle_bundles(world)
    sick, healthy = world.replicas

    def check() -> None:
        assert world.complaints() == []

    for _ in range(data.draw(st.integers(1, 8), label="rounds")):
        world.watch()
        world.now += data.draw(st.sampled_from([MINUTE, 31 * MINUTE, DAY]), label="time passes")
        sick.clock.wrong_by = data.draw(JUMPS, label="the clock is wrong by")
        healthy.clock.wrong_by = data.draw(st.sampled_from([-10, 0, 10])) * MINUTE
        plays = [replica.turn for replica in world.replicas]
        interleave(world.memory, plays, lambda n: data.draw(st.integers(0, n - 1)), check)
    sick.clock.wrong_by = timedelta(0)
    check()


@given(st.data())
@settings(max_examples=40)
def test_after_any_jump_of_all_clocks_the_rotation_ends_and_what_is_served_verifies(
    data: st.DataObject,
) -> None:
    world = World(replicas=2)
    settle(world)
    for _ in range(data.draw(st.integers(1, 3), label="jumps")):
        world.now += data.draw(JUMPS, label="all clocks jump by")
        world.now = max(world.now, NOW)  # behind the founding, nothing is done: see the policy
        for _ in range(data.draw(st.integers(0, 4), label="rounds")):
            world.watch()
            world.now += data.draw(STEPS, label="time passes")
            plays = [replica.turn for replica in world.replicas]
            interleave(
                world.memory, plays, lambda n: data.draw(st.integers(0, n - 1)), lambda: None
            )
    settle(world)
    assert world.complaints() == []


def in_runs(data: st.DataObject, before_each: Callable[[], object]) -> Callable[[int], int]:
    """Who goes on: one for a run of requests, then another, so that some stand still for long."""
    run: list[int] = []

    def choose(left: int) -> int:
        if not run:
            before_each()
            who = data.draw(st.integers(0, left - 1), label="goes on")
            run.extend([who] * data.draw(st.sampled_from([1, 2, 3, 5, 10, 25]), label="for"))
        return min(run.pop(), left - 1)

    return choose


def settle_bundles(world: World) -> None:
    """Publish what is stored, without a step: the state that a rotation begins from."""
    wanted = Published(bundle_of(world.material.authorities), PATH, ENDPOINTS)
    for path in (MUTATING, VALIDATING):
        content = world.memory.objects[path]
        world.memory.put(path, jsonpatch.apply_patch(content, patch_of(content, wanted)))
    world.watch()
