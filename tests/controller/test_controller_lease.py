"""The Lease of a replica, by a clock that is moved by hand."""

from typing import Any

import pytest

from controller.lease import LEASE, Leadership
from controller.planning.leadership import LEASE_SECONDS, RENEW_SECONDS, TURN_SECONDS
from runtime.clock import ManualClock
from runtime.kube.client import KubeClient
from tests.controller.conftest import FakeCluster
from tests.runtime.kube.api_server import dropping, refusing


class Replicas:
    def __init__(self, client: KubeClient) -> None:
        self.clock = ManualClock()
        self.changes: list[str] = []
        self.first, self.second = (
            Leadership(client, self.clock, name, lambda name=name: self.changes.append(name))
            for name in ("first", "second")
        )


@pytest.fixture
def replicas(client: KubeClient) -> Replicas:
    return Replicas(client)


def lease(cluster: FakeCluster) -> Any:
    return cluster.server.world.objects["leases", "larder-system", "larder-controller"]["spec"]


def test_who_comes_first_leads_and_the_other_waits(
    replicas: Replicas, cluster: FakeCluster
) -> None:
    assert replicas.first.turn() == TURN_SECONDS
    replicas.second.turn()
    assert (replicas.first.is_leader(), replicas.second.is_leader()) == (True, False)
    assert replicas.changes == ["first"]
    assert lease(cluster)["holderIdentity"] == "first"


def test_a_leader_that_renews_goes_on_leading(replicas: Replicas, cluster: FakeCluster) -> None:
    for _ in range(10):
        replicas.first.turn()
        replicas.second.turn()
        replicas.clock.advance(TURN_SECONDS)
    assert replicas.first.is_leader()
    assert lease(cluster)["leaseTransitions"] == 1


def test_a_leader_that_cannot_renew_stops_before_another_one_begins(
    replicas: Replicas, cluster: FakeCluster
) -> None:
    replicas.first.turn()
    replicas.second.turn()
    cluster.server.standing["PATCH", LEASE] = dropping
    replicas.clock.advance(RENEW_SECONDS)
    assert not replicas.first.is_leader()
    replicas.first.turn()
    del cluster.server.standing["PATCH", LEASE]
    replicas.second.turn()
    assert not replicas.second.is_leader()
    replicas.clock.advance(LEASE_SECONDS - RENEW_SECONDS)
    replicas.second.turn()
    assert replicas.second.is_leader()
    replicas.first.turn()
    assert not replicas.first.is_leader()
    assert replicas.changes == ["first", "first", "second"]


def test_a_lease_that_somebody_was_faster_to_take_is_not_ours(
    replicas: Replicas, cluster: FakeCluster
) -> None:
    cluster.server.standing["PATCH", LEASE] = refusing(409, "Conflict")
    assert replicas.first.turn() == TURN_SECONDS
    assert not replicas.first.is_leader()


def test_giving_up_lets_the_next_one_begin_at_once(
    replicas: Replicas, cluster: FakeCluster
) -> None:
    replicas.first.turn()
    replicas.second.turn()
    replicas.second.give_up()  # it has nothing to give
    assert lease(cluster)["holderIdentity"] == "first"
    replicas.first.give_up()
    assert not replicas.first.is_leader()
    replicas.second.turn()
    assert replicas.second.is_leader()


def test_a_lease_that_cannot_be_given_up_ends_by_itself(
    replicas: Replicas, cluster: FakeCluster
) -> None:
    replicas.first.turn()
    cluster.server.standing["GET", LEASE] = dropping
    replicas.first.give_up()
    assert not replicas.first.is_leader()
