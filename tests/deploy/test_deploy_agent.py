"""What is shipped for a cluster, read without one: complete, and with no more rights than meant."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.settings import AgentSettings
from larder.catalog import read_catalog
from larder.contract import (
    CATALOG_CONFIG_MAP,
    CATALOG_DATA_KEY,
    CREDENTIALS_NAMESPACE,
    MODEL_LABEL_PREFIX,
    SYSTEM_NAMESPACE,
)
from larder.node_report import config_map_name
from runtime.settings import read_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
KUSTOMIZATIONS = sorted(DEPLOY.rglob("kustomization.yaml"))
FILES = sorted(set(DEPLOY.rglob("*.yaml")) - set(KUSTOMIZATIONS))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


OBJECTS = [content for path in FILES for content in documents(path)]


def only(kind: str, namespace: str | None = None) -> dict[str, Any]:
    (found,) = [
        o for o in OBJECTS if o["kind"] == kind and o["metadata"].get("namespace") == namespace
    ]
    return found


DAEMON_SET = only("DaemonSet", SYSTEM_NAMESPACE)
POD = DAEMON_SET["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def rules() -> list[dict[str, Any]]:
    return [rule for o in OBJECTS if o["kind"] in {"Role", "ClusterRole"} for rule in o["rules"]]


def settings(monkeypatch: pytest.MonkeyPatch) -> AgentSettings:
    """What the agent reads out of the arguments, as the kubelet hands them over."""
    for name in AgentSettings.model_fields:
        monkeypatch.delenv(f"LARDER_AGENT_{name.upper()}", raising=False)
    arguments = [a.replace("$(NODE_NAME)", "gpu-7") for a in CONTAINER["args"]]
    return read_settings(AgentSettings, "larder-agent", arguments)


def test_every_object_says_what_it_is_and_is_there_once() -> None:
    names = [(o["apiVersion"], o["kind"], str(o["metadata"])) for o in OBJECTS]
    assert len(names) > 10
    keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in OBJECTS]
    assert len(keys) == len(set(keys))


def test_every_file_is_in_a_kustomization_and_every_resource_exists() -> None:
    listed = []
    for path in KUSTOMIZATIONS:
        (content,) = documents(path)
        listed += [(path.parent / name).resolve() for name in content["resources"]]
    assert sorted(p for p in listed if p.is_file()) == FILES
    assert all(p.is_file() or (p / "kustomization.yaml") in KUSTOMIZATIONS for p in listed)


def test_the_namespaces_are_those_of_the_programs() -> None:
    levels = {
        o["metadata"]["name"]: o["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for o in OBJECTS
        if o["kind"] == "Namespace"
    }
    assert levels == {SYSTEM_NAMESPACE: "privileged", CREDENTIALS_NAMESPACE: "restricted"}
    used = {o["metadata"]["namespace"] for o in OBJECTS if "namespace" in o["metadata"]}
    assert used == set(levels)


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


def test_no_other_pod_is_shipped_and_no_other_host_path() -> None:
    assert [o["kind"] for o in OBJECTS if "template" in o.get("spec", {})] == ["DaemonSet"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(POD)


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


def test_the_image_has_no_registry_and_a_tag_from_the_base() -> None:
    (content,) = documents(DEPLOY / "base/kustomization.yaml")
    (image,) = content["images"]
    assert CONTAINER["image"] == image["name"] == "larder-agent"
    assert image["newTag"]


def test_selectors_find_the_agents_pods() -> None:
    labels = DAEMON_SET["spec"]["template"]["metadata"]["labels"].items()
    policy = only("NetworkPolicy", SYSTEM_NAMESPACE)["spec"]
    assert DAEMON_SET["spec"]["selector"]["matchLabels"].items() <= labels
    assert policy["podSelector"]["matchLabels"].items() <= labels
    (ingress,) = policy["ingress"]
    assert [p["port"] for p in ingress["ports"]] == [p["name"] for p in CONTAINER["ports"]]


def test_no_right_has_a_wildcard() -> None:
    assert rules()
    assert all("*" not in item for rule in rules() for field in rule.values() for item in field), (
        rules()
    )


def test_no_right_to_secrets_but_reading_those_of_the_credentials() -> None:
    holders = [
        (o["kind"], o["metadata"].get("namespace"), rule["verbs"])
        for o in OBJECTS
        if o["kind"] in {"Role", "ClusterRole"}
        for rule in o["rules"]
        if "secrets" in rule["resources"]
    ]
    assert holders == [("Role", CREDENTIALS_NAMESPACE, ["get"])]


def test_every_right_is_the_agents_and_only_its() -> None:
    subject = {"kind": "ServiceAccount", "name": "larder-agent", "namespace": SYSTEM_NAMESPACE}
    bindings = [o for o in OBJECTS if o["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
    assert all(o["subjects"] == [subject] for o in bindings)
    roles = {
        (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"])
        for o in OBJECTS
        if o["kind"] in {"Role", "ClusterRole"}
    }
    bound = {
        (o["roleRef"]["kind"], o["metadata"].get("namespace"), o["roleRef"]["name"])
        for o in bindings
    }
    assert bound == roles
    assert POD["serviceAccountName"] == only("ServiceAccount", SYSTEM_NAMESPACE)["metadata"]["name"]


def test_the_policy_denies_when_it_cannot_decide_and_speaks_of_the_right_names() -> None:
    policy = only("ValidatingAdmissionPolicy")
    binding = only("ValidatingAdmissionPolicyBinding")["spec"]
    text = str(policy["spec"])
    assert {v["reason"] for v in policy["spec"]["validations"]} == {"Forbidden"}
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding == {
        "policyName": policy["metadata"]["name"],
        "validationActions": ["Deny"],
    }
    assert f"system:serviceaccount:{SYSTEM_NAMESPACE}:larder-agent" in text
    assert f"'{MODEL_LABEL_PREFIX}'" in text
    assert f"'{config_map_name('n').removesuffix('n')}' + variables.node" in text


def test_the_demos_catalog_loads() -> None:
    config_map = only("ConfigMap", SYSTEM_NAMESPACE)
    assert config_map["metadata"]["name"] == CATALOG_CONFIG_MAP
    read_catalog(config_map["data"][CATALOG_DATA_KEY].encode(), standalone=False)
