"""Two replicas never act at once, whatever fails in between."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.planning.leadership import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    REQUEST_TIMEOUT,
    TURN_SECONDS,
    Lease,
    LeaseStep,
    given_up,
    lease_step,
    read_lease,
    taken,
)

ME, OTHER = "a-1", "b-2"


def content(version: str = "5", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "spec": spec}


@pytest.mark.parametrize(
    ("holder", "still_seconds", "step"),
    [
        pytest.param(ME, 0.0, LeaseStep.RENEW, id="mine"),
        pytest.param(ME, 1000.0, LeaseStep.RENEW, id="mine, and nobody took it"),
        pytest.param("", 0.0, LeaseStep.TAKE, id="nobody's"),
        pytest.param(OTHER, 0.0, LeaseStep.WAIT, id="somebody's"),
        pytest.param(OTHER, LEASE_SECONDS - 0.1, LeaseStep.WAIT, id="not yet too old"),
        pytest.param(OTHER, LEASE_SECONDS, LeaseStep.TAKE, id="too old"),
    ],
)
def test_a_lease_is_taken_when_it_is_free(
    holder: str, still_seconds: float, step: LeaseStep
) -> None:
    assert lease_step(ME, Lease("5", holder), still_seconds) is step


def test_a_holder_that_says_it_takes_longer_is_given_longer() -> None:
    lease = read_lease(content(holderIdentity=OTHER, leaseDurationSeconds=60))
    assert lease_step(ME, lease, 59.0) is LeaseStep.WAIT
    assert lease_step(ME, lease, 60.0) is LeaseStep.TAKE


def test_a_lease_that_was_never_held_can_be_read() -> None:
    assert read_lease({"metadata": {"resourceVersion": "5"}}) == Lease("5")


def test_taking_counts_and_renewing_does_not() -> None:
    first = taken(ME, Lease("5", OTHER, 3), 0.0)
    assert first["metadata"] == {"resourceVersion": "5"}
    assert first["spec"] == {
        "holderIdentity": ME,
        "leaseDurationSeconds": 15,
        "leaseTransitions": 4,
        "renewTime": "1970-01-01T00:00:00.000000Z",
        "acquireTime": "1970-01-01T00:00:00.000000Z",
    }
    again = taken(ME, Lease("6", ME, 4), 1.5)["spec"]
    assert again["leaseTransitions"] == 4
    assert "acquireTime" not in again


def test_a_lease_that_was_given_up_is_free_at_once() -> None:
    spec = given_up(Lease("5", ME))["spec"]
    assert lease_step(OTHER, read_lease(content(**spec)), 0.0) is LeaseStep.TAKE


def test_a_request_in_flight_ends_before_anybody_else_can_begin() -> None:
    assert RENEW_SECONDS + sum(REQUEST_TIMEOUT) < LEASE_SECONDS
    assert TURN_SECONDS * 2 < RENEW_SECONDS


class Replica:
    """What `controller.lease` does, with a network that loses requests or their answers."""

    def __init__(self, name: str) -> None:
        self.name, self.until, self.seen, self.seen_at = name, float("-inf"), Lease(""), 0.0

    def turn(self, server: dict[str, Any], now: float, fate: str) -> None:
        if fate == "lost":
            return
        lease = read_lease(server)
        if lease != self.seen:
            self.seen, self.seen_at = lease, now
        if lease_step(self.name, lease, now - self.seen_at) is LeaseStep.WAIT:
            self.until = float("-inf")
            return
        if fate == "write lost":
            return
        server["spec"] |= taken(self.name, lease, now)["spec"]
        server["metadata"]["resourceVersion"] += "x"
        if fate == "answer lost":
            return
        self.until = now + RENEW_SECONDS


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1]),
            st.floats(0.1, 8.0),
            st.sampled_from(["fine", "lost", "write lost", "answer lost"]),
        ),
        max_size=60,
    )
)
@settings(deadline=None)
def test_at_no_time_do_two_replicas_act(turns: list[tuple[int, float, str]]) -> None:
    server, now = content(), 0.0
    replicas = [Replica(ME), Replica(OTHER)]
    for who, seconds, fate in turns:
        now += seconds
        replicas[who].turn(server, now, fate)
        assert not all(now < replica.until + sum(REQUEST_TIMEOUT) for replica in replicas)
