"""`deploy/` against a real API server: every overlay with every component is taken.

No image is needed and no node. The kinds of cert-manager and others are made for these tests, as
loose as can be.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.errors import AlreadyExistsError, ForbiddenError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.kustomize import DEPLOY, ROOT, Object, applied, rendered
from tests.cluster.test_cluster_agent import until
from webhook.certificates import CONFIGURATION

CRDS = collection_path("apiextensions.k8s.io/v1", "customresourcedefinitions")
OPTIONAL = ("cert-manager", "prometheus", "openshift")
COMBINATIONS = [some for n in range(4) for some in itertools.combinations(OPTIONAL, n)]
FOREIGN_KINDS = {  # by group: plural, kind, version, scope
    "cert-manager.io": [
        ("certificates", "Certificate", "v1", "Namespaced"),
        ("issuers", "Issuer", "v1", "Namespaced"),
    ],
    "monitoring.coreos.com": [
        ("podmonitors", "PodMonitor", "v1", "Namespaced"),
        ("prometheusrules", "PrometheusRule", "v1", "Namespaced"),
    ],
    "security.openshift.io": [
        ("securitycontextconstraints", "SecurityContextConstraints", "v1", "Cluster")
    ],
}


def overlay_of(directory: Path, base: Path, components: tuple[str, ...]) -> Path:
    """An overlay made of a base and components."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(base, directory)],
        "components": [
            os.path.relpath(DEPLOY / "components" / name, directory) for name in components
        ],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return directory


@pytest.fixture(scope="module")
def foreign_kinds(admin: KubeClient) -> Iterator[None]:
    """The kinds that components are made of, unless the cluster has them."""
    made = []
    for group, kinds in FOREIGN_KINDS.items():
        for plural, kind, version, scope in kinds:
            schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            spec = {
                "group": group,
                "scope": scope,
                "names": {"plural": plural, "kind": kind, "singular": kind.lower()},
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            }
            name = f"{plural}.{group}"
            with suppress(AlreadyExistsError):
                admin.create(CRDS, {"metadata": {"name": name}, "spec": spec})
                made.append(name)

    def is_served(name: str) -> bool:
        conditions = admin.get(f"{CRDS}/{name}").get("status", {}).get("conditions", [])
        return any((c["type"], c["status"]) == ("Established", "True") for c in conditions)

    until(lambda: all(map(is_served, made)), "the kinds are not served")
    yield
    for name in made:
        admin.delete(f"{CRDS}/{name}")


def is_whole(text: list[str], objects: list[Object]) -> bool:
    return len(text) == len(objects) and all("(server dry run)" in line for line in text)


DRY = ("--dry-run=server", "--field-manager=larder-test", "--force-conflicts")


@pytest.mark.usefixtures("accounts", "foreign_kinds")
@pytest.mark.parametrize("components", COMBINATIONS, ids="+".join)
def test_the_base_with_any_components_is_taken(tmp_path: Path, components: tuple[str, ...]) -> None:
    overlay = overlay_of(tmp_path, DEPLOY / "base", components)
    assert is_whole(applied(*DRY, "-k", str(overlay)), rendered(overlay))


@pytest.mark.usefixtures("accounts")
def test_the_programs_without_their_rights_are_taken() -> None:
    programs = DEPLOY / "base/programs"
    objects = rendered(programs)
    assert not {"Role", "ClusterRole"} & {o["kind"] for o in objects}
    assert is_whole(applied(*DRY, "-k", str(programs)), objects)


@pytest.mark.usefixtures("accounts", "demo_namespace")
@pytest.mark.parametrize("name", sorted(path.name for path in (DEPLOY / "overlays").iterdir()))
def test_an_overlay_is_taken(name: str) -> None:
    overlay = DEPLOY / "overlays" / name
    assert is_whole(applied(*DRY, "-k", str(overlay)), rendered(overlay))


def test_cert_manager_gives_both_configurations_their_bundle(tmp_path: Path) -> None:
    objects = rendered(overlay_of(tmp_path, DEPLOY / "base", ("cert-manager",)))
    annotated = [
        o["kind"]
        for o in objects
        if "cert-manager.io/inject-ca-from" in o["metadata"].get("annotations", {})
    ]
    assert sorted(annotated) == ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
    named = {(o["kind"], o["metadata"]["name"]): o for o in objects}
    pod = named["Deployment", "larder-webhook"]["spec"]["template"]["spec"]
    assert [v["name"] for v in pod["volumes"]] == ["tls"]


def test_the_demos_predictors_come_after_configuration_and_catalog() -> None:
    kinds = [(o["kind"], o["metadata"]["name"]) for o in rendered(DEPLOY / "overlays/demo")]
    asked = kinds.index(("MutatingWebhookConfiguration", CONFIGURATION))
    catalog = kinds.index(("ConfigMap", CATALOG_CONFIG_MAP))
    predictors = [n for n, (_, name) in enumerate(kinds) if name.endswith("-predictor")]
    assert predictors
    assert asked < min(predictors) - 10  # an API server takes a moment to know of it
    assert catalog < min(predictors)


def pods_of(folder: Path) -> dict[str, Object]:
    """The pods that the workloads would make, by their names."""
    return {
        o["metadata"]["name"]: {
            "metadata": {
                "generateName": "larder-test-",
                "labels": o["spec"]["template"]["metadata"]["labels"],
            },
            "spec": o["spec"]["template"]["spec"],
        }
        for o in rendered(folder)
        if "template" in o.get("spec", {}) and o["metadata"]["namespace"] == SYSTEM_NAMESPACE
    }


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("overlay", ["base", "overlays/demo", "overlays/production"])
def test_pods_of_all_programs_are_admitted(admin: KubeClient, overlay: str) -> None:
    pods = pods_of(DEPLOY / overlay)
    assert set(pods) == {"larder-agent", "larder-controller", "larder-webhook"}
    path = collection_path("v1", "pods", namespace=SYSTEM_NAMESPACE)
    for name, pod in pods.items():
        made = admin.create(f"{path}?dryRun=All", pod)
        tokens = [v["name"] for v in made["spec"]["volumes"] if v["name"].startswith("kube-api")]
        assert (name, len(tokens)) == (name, 1)
        is_critical = made["spec"]["priority"] >= 2_000_000_000
        assert is_critical == (name != "larder-controller")  # nothing waits for it


def test_restricted_takes_all_pods_but_the_agents(admin: KubeClient, namespace: str) -> None:
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    admin.patch(object_path("v1", "namespaces", namespace), level)
    accounts = collection_path("v1", "serviceaccounts", namespace=namespace)
    pods = pods_of(DEPLOY / "base")
    path = collection_path("v1", "pods", namespace=namespace)
    for name in pods:
        with suppress(AlreadyExistsError):
            admin.create(accounts, {"metadata": {"name": name}})
    for name in ("larder-controller", "larder-webhook"):
        admin.create(f"{path}?dryRun=All", pods[name])
    with pytest.raises(ForbiddenError):
        admin.create(f"{path}?dryRun=All", pods["larder-agent"])


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("name", ["critical-pods.yaml", "drop-bytes.yaml"])
def test_an_example_is_taken(name: str) -> None:
    path = ROOT / "examples" / name
    assert is_whole(applied(*DRY, "-f", str(path)), list(yaml.safe_load_all(path.read_text())))
