"""What overlays and components add, read without a cluster."""

import re
from pathlib import Path

from agent.metrics import AgentMetrics
from controller import metrics as controller
from controller.planning.plan import Wait
from demo.serve import OWNER, make_repos
from larder.catalog import Catalog, read_catalog
from larder.contract import (
    CATALOG_CONFIG_MAP,
    CATALOG_DATA_KEY,
    MODEL_LABEL_PREFIX,
    SYSTEM_NAMESPACE,
    VOLUME_LABEL,
    DecisionReason,
)
from larder.status import ModelState
from tests.deploy.shipped import DEPLOY, Object, documents, kustomization, objects_of, only, pod_of
from webhook.certificates import CONFIGURATION, ENDPOINTS
from webhook.metrics import Metrics

DEMO = DEPLOY / "overlays/demo"
DEMO_OBJECTS = objects_of(DEMO)
DEMO_NAMESPACE = "larder-demo"
PREDICTORS = [
    o for o in DEMO_OBJECTS if o["kind"] == "Deployment" and "initContainers" in pod_of(o)[0]
]


def demo_catalog() -> Catalog:
    config_map = only("ConfigMap", CATALOG_CONFIG_MAP, among=DEMO_OBJECTS)
    return read_catalog(config_map["data"][CATALOG_DATA_KEY].encode(), standalone=False)


def patch_of(kind: str) -> Object:
    paths = [patch["path"] for patch in kustomization(DEMO)["patches"]]
    (found,) = [o for path in paths for o in documents(DEMO / path) if o["kind"] == kind]
    return found


def test_the_overlay_to_copy_has_a_catalog_that_loads() -> None:
    overlay = DEPLOY / "overlays/production"
    (generator,) = kustomization(overlay)["configMapGenerator"]
    assert (generator["namespace"], generator["name"]) == (SYSTEM_NAMESPACE, CATALOG_CONFIG_MAP)
    assert generator["files"] == [CATALOG_DATA_KEY]
    assert generator["options"]["disableNameSuffixHash"] is True
    read_catalog((overlay / CATALOG_DATA_KEY).read_bytes(), standalone=False)


def test_the_demo_has_the_models_of_its_hub_and_a_predictor_for_each() -> None:
    entries = {entry.storage_uri: entry for entry in demo_catalog().models}
    assert set(entries) == {f"hf://{OWNER}/{name}" for name in ("tiny", "llama")}
    assert len(PREDICTORS) == len(entries)
    for deployment in PREDICTORS:
        pod, server = pod_of(deployment)
        (initializer,) = pod["initContainers"]
        entry = entries[initializer["args"][0]]
        assert entry.namespaces == [DEMO_NAMESPACE]
        assert pod["nodeSelector"] == {f"{MODEL_LABEL_PREFIX}{entry.identity.key}": "ready"}
        assert initializer["args"][1:] == [server["volumeMounts"][0]["mountPath"]]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert labels["serving.kserve.io/inferenceservice"] == entry.name


def test_the_demos_catalog_names_commits_that_its_hub_has(tmp_path: Path) -> None:
    repos = make_repos(tmp_path)
    for entry in demo_catalog().models:
        repo = repos[entry.storage_uri.removeprefix("hf://")]
        assert repo.branches["main"] == entry.revision


def test_the_demos_predictors_find_the_hub_without_dns() -> None:
    service = only("Service", "hub", DEMO_NAMESPACE, DEMO_OBJECTS)
    variable = service["metadata"]["name"].upper()
    for deployment in PREDICTORS:
        (initializer,) = pod_of(deployment)[0]["initContainers"]
        (endpoint,) = initializer["env"]
        assert endpoint == {
            "name": "HF_ENDPOINT",
            "value": f"http://$({variable}_SERVICE_HOST):$({variable}_SERVICE_PORT)",
        }


def test_the_demos_agents_have_a_hub_beside_them() -> None:
    agent, hub = patch_of("DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert (agent["name"], hub["command"][-1]) == ("agent", "demo.serve")
    assert {entry.fetch_from for entry in demo_catalog().models} == {"http://127.0.0.1:8080"}


def test_the_demo_is_applied_in_the_order_that_is_written() -> None:
    content = kustomization(DEMO)
    assert content["sortOptions"] == {"order": "fifo"}
    resources = content["resources"]
    places = [resources.index(n) for n in ("../../base", "catalog.yaml", "predictors.yaml")]
    assert places == sorted(places)
    assert not content.keys() & {
        "components",
        "configMapGenerator",
        "generators",
    }  # would come last


def test_only_the_demos_own_pods_cannot_start_without_the_webhook() -> None:
    configuration = patch_of("MutatingWebhookConfiguration")
    assert configuration["metadata"]["name"] == CONFIGURATION
    namespace = only("Namespace", DEMO_NAMESPACE, None, DEMO_OBJECTS)
    assert namespace["metadata"]["labels"][VOLUME_LABEL] == "hostPath"
    assert {w["name"] for w in configuration["webhooks"]} < set(ENDPOINTS)
    assert len(configuration["webhooks"]) == 2
    for webhook in configuration["webhooks"]:
        (expression,) = webhook["namespaceSelector"]["matchExpressions"]
        assert (expression["operator"], expression["values"]) == ("In", [DEMO_NAMESPACE])


def metrics() -> set[str]:
    """The names that the programs' metrics have in Prometheus."""
    families = [
        f for m in (AgentMetrics(), Metrics(), controller.Metrics()) for f in m.registry.collect()
    ]
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


def test_alerts_ask_for_metrics_that_there_are() -> None:
    (rules,) = [
        o for o in objects_of(DEPLOY / "components/prometheus") if o["kind"] == "PrometheusRule"
    ]
    text = " ".join(rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"])
    named = set(re.findall(r"\blarder_\w+", text))
    assert len(named) >= 5
    assert named <= metrics()
    values = {v for text in re.findall(r'=~?"([^"]+)"', text) for v in text.split("|")}
    closed = {*map(str, DecisionReason), *map(str, ModelState), *map(str, Wait)}
    assert {value for value in values if "/" not in value} <= closed


def test_scrapes_find_the_programs() -> None:
    monitors = [
        o for o in objects_of(DEPLOY / "components/prometheus") if o["kind"] == "PodMonitor"
    ]
    for monitor in monitors:
        name = monitor["metadata"]["name"]
        kind = "DaemonSet" if name == "larder-agent" else "Deployment"
        workload = only(kind, name)
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        ports = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        assert ports == {port["name"] for port in pod_of(workload)[1]["ports"]}


def test_openshift_allows_what_the_agent_is_and_no_more() -> None:
    (constraints,) = objects_of(DEPLOY / "components/openshift")
    pod, container = pod_of(only("DaemonSet", "larder-agent"))
    account = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{pod['serviceAccountName']}"
    assert (constraints["users"], constraints["groups"]) == ([account], [])
    assert constraints["runAsUser"]["uid"] == pod["securityContext"]["runAsUser"]
    selinux = constraints["seLinuxContext"]["seLinuxOptions"]
    assert selinux == pod["securityContext"]["seLinuxOptions"]
    dropped = container["securityContext"]["capabilities"]["drop"]
    assert constraints["requiredDropCapabilities"] == dropped
    assert {key for key, value in constraints.items() if key.startswith("allow") and value} == {
        "allowHostDirVolumePlugin"
    }
