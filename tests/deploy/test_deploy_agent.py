"""What is shipped of the agent, read without a cluster."""

import pytest

from agent.settings import AgentSettings
from larder.contract import MODEL_LABEL_PREFIX, SYSTEM_NAMESPACE
from larder.node_report import config_map_name
from runtime.settings import read_settings
from tests.deploy.shipped import INSTALLED, only, pod_of

DAEMON_SET = only("DaemonSet", "larder-agent")
POD, CONTAINER = pod_of(DAEMON_SET)


def settings(monkeypatch: pytest.MonkeyPatch) -> AgentSettings:
    """What the agent reads out of the arguments, as the kubelet hands them over."""
    for name in AgentSettings.model_fields:
        monkeypatch.delenv(f"LARDER_AGENT_{name.upper()}", raising=False)
    arguments = [a.replace("$(NODE_NAME)", "gpu-7") for a in CONTAINER["args"]]
    return read_settings(AgentSettings, "larder-agent", arguments)


def test_the_agent_takes_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch)
    (port,) = CONTAINER["ports"]
    assert read.node_name == "gpu-7"
    assert read.catalog is None
    assert (read.metrics_host, read.metrics_port) == ("0.0.0.0", port["containerPort"])  # noqa: S104 - in a pod
    assert CONTAINER["env"] == [
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    ]


def test_the_cache_root_is_the_one_mount_and_has_its_path_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = str(settings(monkeypatch).cache_root)
    (volume,) = POD["volumes"]
    assert volume["hostPath"] == {"path": root, "type": "DirectoryOrCreate"}
    assert CONTAINER["volumeMounts"] == [{"name": volume["name"], "mountPath": root}]


def test_the_agent_is_uid_0_without_any_privilege() -> None:
    assert POD["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
        "seLinuxOptions": {"level": "s0"},
    }
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_agent_has_requests_and_no_memory_limit() -> None:
    assert set(CONTAINER["resources"]) == {"requests"}
    assert set(CONTAINER["resources"]["requests"]) == {"cpu", "memory"}


def test_the_agent_runs_where_models_are_kept_and_is_not_pushed_out() -> None:
    assert POD["nodeSelector"] == {"kserve/localmodel": "worker"}
    assert {t["key"] for t in POD["tolerations"]} == {"nvidia.com/gpu", "amd.com/gpu"}
    assert all(t["operator"] == "Exists" and "effect" not in t for t in POD["tolerations"])
    assert POD["priorityClassName"] == "system-node-critical"


def test_a_service_cannot_set_the_agents_variables() -> None:
    assert POD["enableServiceLinks"] is False


def test_selectors_find_the_agents_pods() -> None:
    labels = DAEMON_SET["spec"]["template"]["metadata"]["labels"].items()
    policy = only("NetworkPolicy", "larder-agent")["spec"]
    assert DAEMON_SET["spec"]["selector"]["matchLabels"].items() <= labels
    assert policy["podSelector"]["matchLabels"].items() <= labels
    (ingress,) = policy["ingress"]
    assert [p["port"] for p in ingress["ports"]] == [p["name"] for p in CONTAINER["ports"]]


def test_the_policy_denies_when_it_cannot_decide_and_speaks_of_the_right_names() -> None:
    name = "larder-agent-own-node-only"
    policy = only("ValidatingAdmissionPolicy", name, None)
    binding = only("ValidatingAdmissionPolicyBinding", name, None)["spec"]
    text = str(policy["spec"])
    assert {v["reason"] for v in policy["spec"]["validations"]} == {"Forbidden"}
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding == {"policyName": name, "validationActions": ["Deny"]}
    assert f"system:serviceaccount:{SYSTEM_NAMESPACE}:larder-agent" in text
    assert f"'{MODEL_LABEL_PREFIX}'" in text
    assert f"'{config_map_name('n').removesuffix('n')}' + variables.node" in text


def test_the_policy_sees_every_object_that_the_agent_may_write() -> None:
    spec = only("ValidatingAdmissionPolicy", "larder-agent-own-node-only", None)["spec"]
    seen = {
        (group, resource)
        for rule in spec["matchConstraints"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    written = {
        (group, resource)
        for o in INSTALLED
        if o["kind"] in {"Role", "ClusterRole"} and o["metadata"]["name"] == "larder-agent"
        for rule in o["rules"]
        if set(rule["verbs"]) - {"get", "list", "watch"}
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert written == {("", "nodes"), ("", "configmaps"), ("events.k8s.io", "events")}
    assert written <= seen
