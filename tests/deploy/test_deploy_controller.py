"""What is shipped of the controller, read without a cluster."""

import pytest

from controller.lease import LEASE
from controller.settings import PROGRAM, Settings
from runtime.kube.paths import object_path
from runtime.settings import read_settings
from tests.deploy.shipped import only, pod_of

DEPLOYMENT = only("Deployment", PROGRAM)
POD, CONTAINER = pod_of(DEPLOYMENT)
LABELS = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]


def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the controller reads out of its arguments."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LARDER_CONTROLLER_{name.upper()}", raising=False)
    return read_settings(Settings, PROGRAM, CONTAINER["args"])


def test_the_controller_takes_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch)
    (port,) = CONTAINER["ports"]
    assert (port["containerPort"], read.kubeconfig) == (read.port, None)
    assert CONTAINER["command"] == [f"/opt/larder/bin/{PROGRAM}"]
    assert CONTAINER["image"] == "larder-webhook"


def test_controller_policy_and_agent_have_one_cache_root(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = only("ValidatingAdmissionPolicy", "larder-controller-own-volumes-only", None)
    (root,) = [v for v in policy["spec"]["variables"] if v["name"] == "cacheRoot"]
    read = settings(monkeypatch)
    assert root["expression"] == f'"{read.cache_root}"'
    _, agent = pod_of(only("DaemonSet", "larder-agent"))
    assert f"--cache-root={read.cache_root}" in agent["args"]


def test_the_lease_is_shipped_and_held_by_nobody() -> None:
    lease = only("Lease", PROGRAM)
    assert "spec" not in lease
    metadata = lease["metadata"]
    group = "coordination.k8s.io/v1"
    path = object_path(group, "leases", metadata["name"], namespace=metadata["namespace"])
    assert path == LEASE


def test_probes_ask_for_what_the_program_answers() -> None:
    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    assert {probe["port"] for probe in probes.values()} == {CONTAINER["ports"][0]["name"]}


def test_the_controller_has_no_privilege() -> None:
    assert POD["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"volumes", "tolerations", "hostNetwork"} & set(POD)
    assert POD["enableServiceLinks"] is False


def test_two_replicas_stand_on_two_nodes_where_there_are_two() -> None:
    assert DEPLOYMENT["spec"]["replicas"] == 2
    (spread,) = POD["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= LABELS.items()


def test_only_its_port_is_open() -> None:
    policy = only("NetworkPolicy", PROGRAM)["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= LABELS.items()
    port = CONTAINER["ports"][0]["name"]
    assert policy["ingress"] == [{"ports": [{"port": port, "protocol": "TCP"}]}]
