"""What the controller sees of services, policies, namespaces, pods, as far as they can be read."""

import threading
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from controller.cluster import Cluster
from controller.observe import LOOK_SECONDS, MAX_LOOKS, Observer, Settled
from controller.planning.manifests import claim_manifest, mark_patch
from controller.policies import FRESH_SECONDS, Policies
from controller.services import LOOK_SECONDS as SERVICES_SECONDS
from larder.claims import Claim
from larder.identity import identity_of
from larder.layout import Key
from runtime.clock import ManualClock
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path
from runtime.kube.watch import Surroundings
from tests.controller.conftest import FakeCluster, claims_path, until
from tests.runtime.kube.api_server import dropping, refusing

ROOT = PurePosixPath("/var/lib/larder")
HUB = "name: hub, storageUri: hf://acme/a, revision: main, namespaces: [chat]"
EVERYBODYS = HUB.replace("[chat]", "['*']")
KEY = identity_of("hf://acme/a", revision="main").key
KSERVE = "/apis/serving.kserve.io"
PODS = collection_path("v1", "pods", namespace="chat")


class Seeing:
    """An observer whose watches run, by a clock that is moved by hand."""

    def __init__(self, client: KubeClient) -> None:
        self.client, self.clock, self.stop = client, ManualClock(), threading.Event()
        around = Surroundings(client, self.clock, self.stop, lambda *_: self.stop.set())
        self.cluster = Cluster(around, client, lambda: None)
        self.policies = Policies(client, self.clock, ROOT)
        told = Settled(ROOT, 0.0)
        self.observer = Observer(self.cluster, client, self.policies, self.clock, told)

    def start(self) -> None:
        self.cluster.start()
        until(lambda: self.cluster.is_known, "everything is listed")


@pytest.fixture
def seeing(client: KubeClient) -> Iterator[Seeing]:
    seeing = Seeing(client)
    yield seeing
    seeing.cluster.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("watch of")]


def serve(cluster: FakeCluster, **plurals: str) -> None:
    """KServe, by what it serves in which version."""
    versions = sorted(set(plurals.values()))
    listed = [{"groupVersion": f"serving.kserve.io/{v}", "version": v} for v in versions]
    cluster.server.discovery[KSERVE] = {"versions": listed}
    for version in versions:
        names = [{"name": plural} for plural, v in plurals.items() if v == version]
        cluster.server.discovery[f"{KSERVE}/{version}"] = {"resources": names}


def test_nothing_is_wanted_before_the_watches_have_listed(
    seeing: Seeing, cluster: FakeCluster
) -> None:
    cluster.catalog(HUB)
    assert seeing.observer.observe().wanted is None


def test_nothing_is_wanted_without_a_catalog(seeing: Seeing) -> None:
    seeing.start()
    assert seeing.observer.observe().wanted is None


def test_a_namespace_that_is_going_gets_no_claim(seeing: Seeing, cluster: FakeCluster) -> None:
    cluster.catalog(HUB)
    namespace = cluster.server.world.objects["namespaces", "", "chat"]
    namespace["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    seeing.start()
    wanted = seeing.observer.observe().wanted
    assert wanted is not None
    assert not wanted.claims


def test_larders_own_namespaces_get_none(seeing: Seeing, cluster: FakeCluster) -> None:
    cluster.catalog(HUB.replace("[chat]", "[larder-system, larder-credentials]"))
    cluster.put("namespaces", "larder-credentials")
    seeing.start()
    wanted = seeing.observer.observe().wanted
    assert wanted is not None
    assert not wanted.claims


def test_without_kserve_there_are_no_services(seeing: Seeing, cluster: FakeCluster) -> None:
    cluster.catalog(EVERYBODYS)
    seeing.start()
    wanted = seeing.observer.observe().wanted
    assert wanted is not None
    assert (wanted.claims, wanted.undecided) == (frozenset(), frozenset())


def test_services_that_cannot_be_asked_for_are_unknown(
    seeing: Seeing, cluster: FakeCluster
) -> None:
    cluster.catalog(EVERYBODYS)
    cluster.server.standing["GET", KSERVE] = refusing(503)
    seeing.start()
    wanted = seeing.observer.observe().wanted
    assert wanted is not None
    assert wanted.undecided == {KEY}


def test_kserve_that_comes_later_is_found(seeing: Seeing, cluster: FakeCluster) -> None:
    cluster.catalog(EVERYBODYS)
    seeing.start()
    seeing.observer.observe()
    serve(cluster, inferenceservices="v1beta1")
    spec = {"predictor": {"model": {"storageUri": "hf://acme/a"}}}
    cluster.put("inferenceservices", "llm", "chat", spec=spec)
    seeing.observer.observe()
    assert seeing.cluster.services.versions() == ()
    seeing.clock.advance(SERVICES_SECONDS)
    seeing.observer.observe()
    until(lambda: seeing.cluster.services.uris() is not None, "the services are listed")
    wanted = seeing.observer.observe().wanted
    assert wanted is not None
    assert wanted.claims == {Claim("chat", KEY)}


def test_discovery_is_asked_now_and_then_only(seeing: Seeing, cluster: FakeCluster) -> None:
    seeing.start()
    for _ in range(10):
        seeing.observer.observe()
    assert [s.path for s in cluster.server.seen].count(KSERVE) == 1


def test_policies_are_read_anew_every_few_seconds(seeing: Seeing, cluster: FakeCluster) -> None:
    assert seeing.policies.faults() == ()
    name = "larder-claims-read-only"
    del cluster.server.world.objects["validatingadmissionpolicies", "", name]
    assert seeing.policies.faults() == ()
    seeing.clock.advance(FRESH_SECONDS)
    assert seeing.policies.faults() == (f"policy {name} is not there",)


def test_policies_that_cannot_be_read_are_not_in_force(
    seeing: Seeing, cluster: FakeCluster
) -> None:
    cluster.catalog(HUB)
    path = collection_path("admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
    cluster.server.standing["GET", f"{path}/larder-claims-read-only"] = dropping
    seeing.start()
    assert not seeing.observer.observe().is_safe


def retiring(client: KubeClient, claim: Claim) -> None:
    """A claim that was marked long ago."""
    made = client.create(claims_path(claim.namespace), claim_manifest(claim))
    patch = mark_patch(made["metadata"]["resourceVersion"], 60.0)
    client.patch(f"{claims_path(claim.namespace)}/{claim.name}", patch)


def test_pods_are_asked_for_where_a_claim_could_go(
    seeing: Seeing, cluster: FakeCluster, client: KubeClient
) -> None:
    retiring(client, Claim("chat", KEY))
    cluster.catalog()
    volumes = [{"persistentVolumeClaim": {"claimName": f"larder-{KEY}"}}]
    ended = {"spec": {"volumes": volumes}, "status": {"phase": "Succeeded"}}
    cluster.put("pods", "ended", "chat", **ended)
    seeing.start()
    assert seeing.observer.observe().used == {"chat": frozenset()}
    assert seeing.observer.observe().used == {}  # not again so soon
    cluster.put("pods", "runs", "chat", spec={"volumes": volumes}, status={"phase": "Running"})
    seeing.clock.advance(LOOK_SECONDS)
    assert seeing.observer.observe().used == {"chat": {f"larder-{KEY}"}}


def test_of_pods_that_cannot_be_read_nothing_is_said(
    seeing: Seeing, cluster: FakeCluster, client: KubeClient
) -> None:
    retiring(client, Claim("chat", KEY))
    cluster.catalog()
    cluster.server.standing["GET", PODS] = refusing(503)
    seeing.start()
    assert seeing.observer.observe().used == {}


def test_not_all_namespaces_are_looked_at_in_one_turn(
    seeing: Seeing, cluster: FakeCluster, client: KubeClient
) -> None:
    for n in range(MAX_LOOKS + 5):
        retiring(client, Claim(f"team-{n:02}", Key(KEY)))
    cluster.catalog()
    seeing.start()
    assert [len(seeing.observer.observe().used) for _ in range(3)] == [MAX_LOOKS, 5, 0]
