"""`larder-controller` as a process, against an API server of our own."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controller.lease import LEASE
from larder.claims import LABELS, RETIRING_ANNOTATION
from larder.identity import identity_of
from runtime.kube.client import KubeClient
from tests.controller.conftest import (
    FakeCluster,
    StartController,
    claims_path,
    until,
)
from tests.fakes.kubeconfig import write_kubeconfig
from tests.runtime.kube.api_server import dropping, refusing

HUB = "name: hub, storageUri: hf://acme/a, revision: main, namespaces: [chat, search]"
KEY = identity_of("hf://acme/a", revision="main").key
BOTH_CLAIMS = {f"chat/larder-{KEY}", f"search/larder-{KEY}"}
BOTH_VOLUMES = {f"larder-chat-{KEY}", f"larder-search-{KEY}"}


def test_claims_of_the_catalog_are_made_and_then_nothing_is_written_but_the_lease(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    cluster.catalog(HUB)
    controller = start_controller()
    until(lambda: cluster.names("persistentvolumeclaims") == BOTH_CLAIMS, "claims are made")
    assert cluster.names("persistentvolumes") == BOTH_VOLUMES
    cluster.bind()
    controller.wait_for("claims are as the catalog says")
    before, renewed = cluster.writes, len(cluster.server.seen)
    for _ in range(3):  # something else happens, and the Lease is renewed
        cluster.put("namespaces", "other")
    until(
        lambda: (
            sum((s.method, s.path) == ("PATCH", LEASE) for s in cluster.server.seen[renewed:]) >= 2
        ),
        "the Lease is renewed",
    )
    assert cluster.writes == before
    assert controller.get("/livez") == (200, "ok")
    assert controller.get("/readyz") == (200, "ok")
    figures = controller.get("/metrics")[1]
    for line in (
        "larder_controller_is_leader 1.0",
        "larder_controller_policies_in_force 1.0",
        "larder_controller_claims_wanted 2.0",
        "larder_controller_claims_bound 2.0",
        'larder_controller_writes_total{result="done",step="MakeClaim"} 2.0',
    ):
        assert line in figures


def test_a_claim_that_nobody_should_have_is_marked_then_deleted_when_its_last_pod_is_gone(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    cluster.catalog(HUB)
    volumes = [{"name": "m", "persistentVolumeClaim": {"claimName": f"larder-{KEY}"}}]
    cluster.put("pods", "p", "chat", spec={"volumes": volumes}, status={"phase": "Running"})
    start_controller("--retire-after", "0")
    until(lambda: cluster.names("persistentvolumeclaims") == BOTH_CLAIMS, "claims are made")
    cluster.bind()
    cluster.catalog()
    until(
        lambda: cluster.names("persistentvolumes") == {f"larder-chat-{KEY}"},
        "what no pod has is retired",
    )
    assert cluster.names("persistentvolumeclaims") == {f"chat/larder-{KEY}"}
    marks = [path for method, path in cluster.writes if method == "PATCH"]
    # each once; in which order is open, for several claims are written at once
    assert sorted(marks) == [f"{claims_path(n)}/larder-{KEY}" for n in ("chat", "search")]


def test_a_namespace_that_refuses_is_told_of_once_and_keeps_no_other_from_its_claim(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    cluster.server.standing["POST", claims_path("chat")] = refusing(403, "Forbidden")
    cluster.catalog(HUB)
    controller = start_controller()
    line = controller.wait_for("claim refused")
    assert (line["namespace"], line["claim"]) == ("chat", f"larder-{KEY}")
    until(
        lambda: cluster.names("persistentvolumeclaims") == {f"search/larder-{KEY}"},
        "the other namespace has its claim",
    )
    until(lambda: cluster.names("events"), "an Event says so")
    (event,) = cluster.names("events")
    assert event == f"larder-system/larder-catalog.chat.larder-{KEY}"
    assert cluster.writes.count(("POST", claims_path("chat"))) == 1


def test_no_claim_is_made_while_a_policy_is_not_in_force(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    name = "larder-claims-read-only"
    bindings = "validatingadmissionpolicybindings"
    shipped = cluster.server.world.objects[bindings, "", name]["spec"]
    cluster.put(bindings, name, spec={**shipped, "validationActions": ["Audit"]})
    cluster.catalog(HUB)
    controller = start_controller()
    line = controller.wait_for("no claims are made: admission policies not in force")
    assert line["faults"] == [f"the binding of policy {name} does not deny everywhere"]
    assert not cluster.names("persistentvolumes")
    until(
        lambda: "larder_controller_policies_in_force 0.0" in controller.get("/metrics")[1],
        "a metric says so",
    )
    cluster.put(bindings, name, spec=shipped)
    controller.wait_for("admission policies in force")
    until(lambda: cluster.names("persistentvolumeclaims") == BOTH_CLAIMS, "claims are made")


def test_a_claim_of_somebody_else_is_left_as_it_is(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    theirs = cluster.put(
        "persistentvolumeclaims", f"larder-{KEY}", "chat", spec={"volumeName": "pvc-1"}
    )
    cluster.catalog(HUB)
    controller = start_controller()
    controller.wait_for("claim refused")
    until(lambda: len(cluster.names("persistentvolumeclaims")) == 2, "the other one is made")
    key = ("persistentvolumeclaims", "chat", f"larder-{KEY}")
    assert cluster.server.world.objects[key] == theirs


def test_everybodys_model_gets_a_claim_where_a_service_asks_for_it(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    version = {"groupVersion": "serving.kserve.io/v1beta1", "version": "v1beta1"}
    cluster.server.discovery["/apis/serving.kserve.io"] = {"versions": [version]}
    resources = [{"name": "inferenceservices"}, {"name": "inferenceservices/status"}]
    cluster.server.discovery["/apis/serving.kserve.io/v1beta1"] = {"resources": resources}
    cluster.catalog(HUB.replace("[chat, search]", "['*']"))
    spec = {"predictor": {"model": {"storageUri": "hf://acme/a"}}}
    cluster.put("inferenceservices", "llm", "search", spec=spec)
    start_controller()
    until(lambda: cluster.names("persistentvolumeclaims"), "a claim is made")
    assert cluster.names("persistentvolumeclaims") == {f"search/larder-{KEY}"}
    cluster.put("inferenceservices", "llm", "chat", spec=spec)
    until(lambda: cluster.names("persistentvolumeclaims") == BOTH_CLAIMS, "another one is made")


def test_a_second_replica_waits_and_takes_over_when_the_first_is_asked_to_stop(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    cluster.catalog(HUB)
    first = start_controller("--instance", "first")
    until(lambda: cluster.names("persistentvolumeclaims") == BOTH_CLAIMS, "claims are made")
    second = start_controller("--instance", "second")
    until(lambda: second.get("/readyz") == (200, "ok"), "the second one knows the cluster")
    assert "larder_controller_is_leader 0.0" in second.get("/metrics")[1]
    assert first.stop() == 0
    second.wait_for("leading")
    assert cluster.holder.startswith("second-")
    cluster.catalog()
    until(lambda: any(method == "PATCH" for method, _ in cluster.writes), "the second one goes on")


def test_a_leader_that_loses_the_api_server_stops_leading_by_its_own_clock(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    cluster.catalog(HUB)
    controller = start_controller()
    controller.wait_for("leading")
    cluster.server.standing["GET", LEASE] = dropping
    controller.wait_for("not leading any more")
    before = cluster.writes
    cluster.catalog()
    cluster.put("namespaces", "other")
    assert "larder_controller_is_leader 0.0" in controller.get("/metrics")[1]
    del cluster.server.standing["GET", LEASE]
    assert cluster.writes == before
    controller.wait_for("leading")
    until(lambda: cluster.writes != before, "it goes on")


def test_without_its_lease_nobody_acts(
    cluster: FakeCluster, start_controller: StartController, client: KubeClient
) -> None:
    client.delete(LEASE)
    cluster.catalog(HUB)
    controller = start_controller()
    assert "not found" in controller.wait_for("lease not looked after")["error"]
    until(lambda: controller.get("/readyz") == (200, "ok"), "it knows the cluster")
    assert not cluster.names("persistentvolumes")


def test_a_bad_catalog_takes_no_claim_away(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    cluster.catalog(HUB)
    controller = start_controller("--retire-after", "0")
    until(lambda: cluster.names("persistentvolumeclaims") == BOTH_CLAIMS, "claims are made")
    cluster.bind()
    controller.wait_for("claims are as the catalog says")
    cluster.catalog("name: 5")
    controller.wait_for("catalog refused")
    assert cluster.names("persistentvolumeclaims") == BOTH_CLAIMS
    assert not [path for method, path in cluster.writes if method in {"PATCH", "DELETE"}]


def test_an_api_server_that_goes_away_is_waited_for(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    cluster.catalog(HUB)
    controller = start_controller()
    until(lambda: cluster.names("persistentvolumeclaims") == BOTH_CLAIMS, "claims are made")
    cluster.server.stop()
    controller.wait_for("not leading any more")
    cluster.server.restart()
    controller.wait_for("leading")
    cluster.catalog(HUB.replace("acme/a", "acme/b"))
    until(lambda: len(cluster.names("persistentvolumeclaims")) == 4, "it goes on")
    assert controller.stop() == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--cache-root", "slots"], "--cache-root 'slots' is not accepted; accepted: an absolute"),
        (["--kubeconfig", "/none"], "/none: cannot be used to reach an API server"),
        (["--port", "70000"], "--port should be less than or equal to 65535"),
    ],
)
def test_wrong_use_ends_with_one_sentence(flags: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "controller", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - ours
    assert done.returncode == 2
    assert done.stderr.startswith(f"larder-controller: {sentence}")
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_said_in_one_sentence(cluster: FakeCluster, tmp_path: Path) -> None:
    to = {"server": cluster.server.host}
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", to)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = ["--host", "127.0.0.1", "--port", str(taken.getsockname()[1])]
        command = [sys.executable, "-m", "controller", "--kubeconfig", str(kubeconfig), *place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - ours
    assert (done.returncode, "probes cannot be served on 127.0.0.1 port" in done.stderr) == (
        2,
        True,
    )


def test_a_defect_ends_the_program_and_gives_the_lease_up(
    cluster: FakeCluster, start_controller: StartController
) -> None:
    controller = start_controller()
    controller.wait_for("leading")
    cluster.put("pods", "odd", "chat", spec={"volumes": 5})  # no API server has such a pod
    retiring = {
        "metadata": {
            "name": f"larder-{KEY}",
            "namespace": "chat",
            "labels": dict(LABELS),
            "annotations": {RETIRING_ANNOTATION: "2020-01-01T00:00:00Z"},
        },
        "spec": {"accessModes": ["ReadOnlyMany"], "volumeName": f"larder-chat-{KEY}"},
    }
    with cluster.server.world.changed:
        cluster.server.world.put("persistentvolumeclaims", retiring, "ADDED")
    cluster.catalog()
    line = controller.wait_for("a part ended, and so does the controller")
    assert line["part"] == "loop"
    assert controller.process.wait(60) == 1
    assert cluster.holder == ""
