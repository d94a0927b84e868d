"""What is shipped of the webhook, read without a cluster."""

import re
from typing import Any

import pytest
import yaml

from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.settings import read_settings
from tests.deploy.shipped import DEPLOY, Object, documents, kustomization, only, pod_of
from webhook.certificates import CONFIGURATION, ENDPOINTS, SECRET, SERVICE
from webhook.serving import GRACE_SECONDS
from webhook.settings import Settings

DEPLOYMENT = only("Deployment", "larder-webhook")
POD, CONTAINER = pod_of(DEPLOYMENT)
LABELS = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
MUTATING = only("MutatingWebhookConfiguration", CONFIGURATION, None)
VALIDATING = only("ValidatingWebhookConfiguration", CONFIGURATION, None)
WEBHOOKS: dict[str, Object] = {
    webhook["name"]: webhook for o in (MUTATING, VALIDATING) for webhook in o["webhooks"]
}
OF_PODS = [webhook for name, webhook in WEBHOOKS.items() if "inferenceservices" in name]
CERT_MANAGER = DEPLOY / "components/cert-manager"


def settings(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> Settings:
    """What the webhook reads out of the arguments."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LARDER_WEBHOOK_{name.upper()}", raising=False)
    return read_settings(Settings, "larder-webhook", arguments)


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    found: dict[str, Any] = {"key": key, "operator": operator}
    return found | ({"values": list(values)} if values else {})


def test_the_webhook_takes_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(monkeypatch, CONTAINER["args"])
    (port,) = CONTAINER["ports"]
    assert (read.catalog, read.tls_cert, read.kubeconfig) == (None, None, None)
    assert port["containerPort"] == read.port
    assert "env" not in CONTAINER


def test_a_webhook_that_stops_has_the_time_to(monkeypatch: pytest.MonkeyPatch) -> None:
    delay = settings(monkeypatch, CONTAINER["args"]).stop_delay
    assert delay >= 5  # until kube-proxies know
    assert POD["terminationGracePeriodSeconds"] >= delay + GRACE_SECONDS + 5


def test_a_new_webhook_is_ready_before_an_old_one_goes() -> None:
    spec = DEPLOYMENT["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    budget = only("PodDisruptionBudget", "larder-webhook")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= LABELS.items()
    (spread,) = POD["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"]["matchLabels"].items() <= LABELS.items()


def test_probes_ask_for_what_the_program_answers() -> None:
    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    assert {(p["scheme"], p["port"]) for p in probes.values()} == {("HTTPS", "https")}


def test_the_webhook_has_no_privilege() -> None:
    assert POD["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"volumes", "tolerations"} & set(POD)
    assert set(CONTAINER["resources"]["limits"]) == {"memory"}
    assert POD["priorityClassName"] == "system-cluster-critical"


def test_a_service_cannot_set_the_webhooks_variables() -> None:
    assert POD["enableServiceLinks"] is False


def test_the_service_leads_to_the_port_and_has_the_certificates_name() -> None:
    service = only("Service", SERVICE)["spec"]
    (port,) = service["ports"]
    (named,) = CONTAINER["ports"]
    assert service["selector"].items() <= LABELS.items()
    assert (port["port"], port["targetPort"]) == (443, named["name"])
    policy = only("NetworkPolicy", "larder-webhook")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= LABELS.items()
    assert policy["ingress"] == [{"ports": [{"port": named["name"], "protocol": "TCP"}]}]


def test_the_secret_is_shipped_empty() -> None:
    secret = only("Secret", SECRET)
    assert not {"data", "stringData", "immutable"} & set(secret)


def test_webhooks_are_those_that_the_program_publishes() -> None:
    assert set(WEBHOOKS) == set(ENDPOINTS)
    for webhook in WEBHOOKS.values():
        service = {"name": SERVICE, "namespace": SYSTEM_NAMESPACE}
        assert webhook["clientConfig"] == {"service": service}  # the rest is written by the program
        assert webhook["admissionReviewVersions"] == ["v1"]
        assert (webhook["failurePolicy"], webhook["sideEffects"]) == ("Ignore", "None")


@pytest.mark.parametrize("webhook", OF_PODS, ids=lambda webhook: webhook["name"])
def test_pods_are_reviewed_when_they_are_made(webhook: Object) -> None:
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
        "scope": "Namespaced",
    }
    assert webhook["rules"] == [rule]
    assert (webhook["reinvocationPolicy"], webhook["timeoutSeconds"]) == ("IfNeeded", 3)
    assert webhook["namespaceSelector"]["matchExpressions"] == [
        expression("control-plane", "DoesNotExist"),
        expression("kubernetes.io/metadata.name", "NotIn", SYSTEM_NAMESPACE, CREDENTIALS_NAMESPACE),
    ]


def test_pods_of_both_kinds_of_services_are_reviewed_and_no_others() -> None:
    selectors = {w["name"]: w["objectSelector"]["matchExpressions"] for w in OF_PODS}
    assert selectors == {
        "inferenceservices.larder.dev": [
            expression("serving.kserve.io/inferenceservice", "Exists")
        ],
        "llminferenceservices.larder.dev": [
            expression("app.kubernetes.io/part-of", "In", "llminferenceservice")
        ],
    }


def test_the_configuration_sorts_after_kserves() -> None:
    assert CONFIGURATION > "inferenceservice.serving.kserve.io"


def test_edits_of_the_catalog_are_reviewed_and_of_nothing_else() -> None:
    webhook = WEBHOOKS["catalog.larder.dev"]
    (rule,) = webhook["rules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE", "UPDATE"], ["configmaps"])
    assert webhook["namespaceSelector"]["matchExpressions"] == [
        expression("kubernetes.io/metadata.name", "In", SYSTEM_NAMESPACE)
    ]
    (condition,) = webhook["matchConditions"]
    assert condition["expression"] == f"request.name == '{CATALOG_CONFIG_MAP}'"


def test_with_cert_manager_the_certificate_comes_from_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (patch,) = documents(CERT_MANAGER / "deployment.yaml")
    pod, container = pod_of(patch)
    read = settings(monkeypatch, container["args"])
    assert set(CONTAINER["args"]) < set(container["args"])
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert {str(read.tls_cert), str(read.tls_key)} == {
        f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]
    }
    (leaf,) = [
        o
        for o in documents(CERT_MANAGER / "certificates.yaml")
        if o["spec"].get("secretName") == volume["secret"]["secretName"]
    ]
    assert leaf["spec"]["dnsNames"] == [f"{SERVICE}.{SYSTEM_NAMESPACE}.svc"]
    (annotate,) = [p for p in kustomization(CERT_MANAGER)["patches"] if "target" in p]
    (operation,) = yaml.safe_load(annotate["patch"])
    name = f"{SYSTEM_NAMESPACE}/{leaf['metadata']['name']}"
    assert operation["value"] == {"cert-manager.io/inject-ca-from": name}


def test_the_policy_denies_when_it_cannot_decide_and_holds_every_field_but_two() -> None:
    name = "larder-webhook-bundle-and-path-only"
    policy = only("ValidatingAdmissionPolicy", name, None)["spec"]
    binding = only("ValidatingAdmissionPolicyBinding", name, None)["spec"]
    assert binding == {"policyName": name, "validationActions": ["Deny"]}
    assert policy["failurePolicy"] == "Fail"
    assert {v["reason"] for v in policy["validations"]} == {"Forbidden"}
    account = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{POD['serviceAccountName']}"
    assert account in policy["matchConditions"][0]["expression"]
    text = policy["validations"][-1]["expression"]
    fields = {field for webhook in WEBHOOKS.values() for field in webhook} - {"clientConfig"}
    assert {field for field in fields if field not in text} == set()
    assert not {"caBundle", "path"} & set(re.findall(r"\w+", text))
