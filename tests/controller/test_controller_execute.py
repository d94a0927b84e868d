"""Plans carried out against an API server of our own, which says no, lags and goes away."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest

from controller.cluster import VOLUMES
from controller.execute import MAX_CLAIMS, Executor, Tools
from controller.memory import Expectations, Refusals
from controller.metrics import Metrics
from controller.planning.manifests import claim_manifest, volume_manifest
from controller.planning.plan import (
    Action,
    DeleteClaim,
    DeleteVolume,
    MakeClaim,
    MakeVolume,
    MarkClaim,
    Plan,
)
from controller.planning.seen import Version
from larder.claims import Claim
from larder.layout import Key
from runtime.clock import ManualClock
from runtime.kube.client import KubeClient
from tests.controller.conftest import FakeCluster, claims_path
from tests.runtime.kube.api_server import dropping, refusing

ROOT = PurePosixPath("/var/lib/larder")
A, B = Claim("chat", Key("a" * 16)), Claim("chat", Key("b" * 16))
C = Claim("search", Key("a" * 16))
STALE = Version("u0", "1")


class Around:
    """An executor, and what it is told and tells."""

    def __init__(self, client: KubeClient) -> None:
        self.client, self.clock, self.metrics = client, ManualClock(), Metrics()
        self.refusals, self.expectations = Refusals(self.clock), Expectations(self.clock)
        self.told: list[Claim] = []
        self.may_write: Callable[[], bool] = lambda: True
        self.shown: tuple[str | None, str | None] = (None, None)

    def execute(self, *actions: Action) -> bool:
        tools = Tools(
            client=self.client,
            cache_root=ROOT,
            writers=2,
            may_write=self.may_write,
            versions=lambda _: self.shown,
            refusals=self.refusals,
            expectations=self.expectations,
            metrics=self.metrics,
            on_refusal=lambda claim, _: self.told.append(claim),
        )
        return Executor(tools).execute(Plan(actions))

    def count(self, step: str, result: str) -> float:
        name = "larder_controller_writes_total"
        return self.metrics.registry.get_sample_value(name, {"step": step, "result": result}) or 0

    def make(self, path: str, content: dict[str, Any]) -> Version:
        metadata = self.client.create(path, content)["metadata"]
        return Version(metadata["uid"], metadata["resourceVersion"])

    def settling(self) -> frozenset[Claim]:
        return self.expectations.unmet(lambda _: self.shown)


@pytest.fixture
def around(client: KubeClient) -> Around:
    return Around(client)


def test_a_volume_and_its_claim_are_made_and_awaited(around: Around, cluster: FakeCluster) -> None:
    assert around.execute(MakeVolume(A), MakeClaim(A))
    assert cluster.names("persistentvolumes") == {A.volume_name}
    assert cluster.names("persistentvolumeclaims") == {f"chat/{A.name}"}
    assert around.settling() == {A}
    around.shown = ("5", None)  # the watch of volumes is behind that of claims
    assert around.settling() == {A}
    around.shown = ("5", "4")
    assert around.settling() == frozenset()


def test_what_the_watches_never_show_is_not_awaited_for_ever(around: Around) -> None:
    around.execute(MakeVolume(A), MakeClaim(A))
    around.clock.advance(60)
    assert around.settling() == frozenset()


def test_an_empty_plan_asks_for_nothing(around: Around, cluster: FakeCluster) -> None:
    assert around.execute()
    assert cluster.server.seen == []


def test_nothing_is_written_by_who_does_not_lead(around: Around, cluster: FakeCluster) -> None:
    left = [True, False]
    around.may_write = lambda: left.pop(0) if left else False
    around.execute(MakeVolume(A), MakeClaim(A), MakeVolume(C), MakeClaim(C))
    assert len(cluster.writes) == 1


def test_a_refusal_ends_the_steps_of_its_namespace_and_of_no_other(
    around: Around, cluster: FakeCluster
) -> None:
    cluster.server.standing["POST", claims_path("chat")] = refusing(403, "Forbidden")
    for _ in range(2):
        assert around.execute(MakeVolume(A), MakeClaim(A))
        assert around.execute(MakeVolume(B), MakeClaim(B), MakeVolume(C), MakeClaim(C))
    assert cluster.writes.count(("POST", claims_path("chat"))) == 1
    assert cluster.names("persistentvolumeclaims") == {f"search/{C.name}"}
    assert around.told == [A]
    assert around.refusals.among([A, B, C]) == {A, B}


def test_a_refused_namespace_is_tried_again_later_and_told_of_once(
    around: Around, cluster: FakeCluster
) -> None:
    path = claims_path("chat")
    cluster.server.standing["POST", path] = refusing(422, "Invalid")
    waits = []
    for _ in range(7):
        around.execute(MakeClaim(A))
        retry_at = around.refusals.next_retry()
        assert retry_at is not None
        waits.append(retry_at - around.clock.monotonic())
        around.clock.advance(waits[-1])
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    assert around.told == [A]
    del cluster.server.standing["POST", path]
    around.execute(MakeClaim(A))
    assert around.refusals.next_retry() is None
    assert not around.refusals.holds(A)


def test_what_is_there_already_and_ours_is_no_refusal(around: Around) -> None:
    around.make(VOLUMES, volume_manifest(A, ROOT))
    around.make(claims_path("chat"), claim_manifest(A))
    assert around.execute(MakeVolume(A), MakeClaim(A))
    assert around.execute(MakeClaim(A))
    assert around.told == []
    assert around.settling() == {A}


@pytest.mark.parametrize("action", [MakeVolume(A), MakeClaim(A)])
def test_a_name_that_somebody_else_has_is_told_of(
    around: Around, cluster: FakeCluster, action: Action
) -> None:
    cluster.put("persistentvolumes", A.volume_name, spec={"nfs": {}})
    cluster.put("persistentvolumeclaims", A.name, "chat", spec={})
    around.execute(action)
    assert around.told == [A]
    assert around.refusals.among([A, B]) == {A}
    assert around.count(type(action).__name__, "refused") == 1


def test_what_goes_while_it_is_looked_at_is_no_refusal(
    around: Around, cluster: FakeCluster
) -> None:
    cluster.server.standing["POST", VOLUMES] = refusing(409, "AlreadyExists")
    around.execute(MakeVolume(A))
    assert around.told == []


def test_a_mark_is_for_the_claim_as_it_was_seen(around: Around, cluster: FakeCluster) -> None:
    version = around.make(claims_path("chat"), claim_manifest(A))
    around.execute(MarkClaim(A, STALE, 60.0))
    around.execute(MarkClaim(A, version, 60.0))
    assert around.count("MarkClaim", "failed") == 1
    assert around.count("MarkClaim", "done") == 1
    around.execute(DeleteClaim(A, version))  # it was changed since
    assert cluster.names("persistentvolumeclaims") == {f"chat/{A.name}"}


def test_a_claim_is_deleted_as_it_was_seen(around: Around, cluster: FakeCluster) -> None:
    version = around.make(claims_path("chat"), claim_manifest(A))
    around.execute(DeleteClaim(A, version))
    assert not cluster.names("persistentvolumeclaims")


def test_a_volume_stays_while_the_claim_is_there_after_all(
    around: Around, cluster: FakeCluster
) -> None:
    claim = around.make(claims_path("chat"), claim_manifest(A))
    volume = around.make(VOLUMES, volume_manifest(A, ROOT, claim.uid))
    around.execute(DeleteVolume(A, volume, claim.uid))
    around.execute(DeleteVolume(A, volume, ""))
    assert cluster.names("persistentvolumes") == {A.volume_name}
    around.execute(DeleteVolume(A, volume, "u-of-an-earlier-claim"))
    assert not cluster.names("persistentvolumes")


def test_a_volume_goes_beside_somebody_elses_claim(around: Around, cluster: FakeCluster) -> None:
    cluster.put("persistentvolumeclaims", A.name, "chat", spec={})
    volume = around.make(VOLUMES, volume_manifest(A, ROOT))
    around.execute(DeleteVolume(A, volume, ""))
    assert not cluster.names("persistentvolumes")


def test_an_api_server_that_does_not_answer_ends_the_plan(
    around: Around, cluster: FakeCluster
) -> None:
    cluster.server.standing["POST", VOLUMES] = dropping
    many = [MakeVolume(Claim("chat", Key(f"{n:016x}"))) for n in range(50)]
    assert not around.execute(*many)
    assert len(cluster.writes) <= 2
    assert around.told == []


def test_a_large_plan_is_carried_out_in_parts(around: Around, cluster: FakeCluster) -> None:
    many = [MakeVolume(Claim("chat", Key(f"{n:016x}"))) for n in range(MAX_CLAIMS + 1)]
    assert around.execute(*many)
    assert len(cluster.names("persistentvolumes")) == MAX_CLAIMS
