"""What stays of the install when it is applied again, when no webhook answers, and at its end.

What a webhook writes after the install is written here by the test, as it would: no image is needed
and no node.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.clock import SystemClock
from runtime.kube.client import JSON_PATCH, KubeClient
from runtime.kube.errors import AlreadyExistsError, NotFoundError, UnavailableError
from runtime.kube.paths import collection_path
from tests.cluster.accounts import SECRETS, Accounts
from tests.cluster.kustomize import DEPLOY, Object, applied, rendered, run_typed, typed
from tests.cluster.test_cluster_agent import until
from webhook.certificates import CONFIGURATION, SECRET, rotation_of

REGISTRATION = "admissionregistration.k8s.io/v1"
MUTATING = collection_path(REGISTRATION, "mutatingwebhookconfigurations")
VALIDATING = collection_path(REGISTRATION, "validatingwebhookconfigurations")


OURS = [("labelSelector", "app.kubernetes.io/part-of=larder")]


def published(admin: KubeClient) -> list[tuple[str, str]]:
    """Bundle and path of every webhook of ours."""
    return [
        (webhook["clientConfig"].get("caBundle", ""), webhook["clientConfig"]["service"]["path"])
        for collection in (MUTATING, VALIDATING)
        for webhook in admin.get(f"{collection}/{CONFIGURATION}")["webhooks"]
        if webhook["clientConfig"]["service"].get("path")
    ]


def held(admin: KubeClient) -> Object:
    data = admin.get(f"{SECRETS}/{SECRET}").get("data")
    return dict(data or {})


@pytest.fixture
def settled(accounts: Accounts) -> Callable[[], None]:
    """Takes turns, as a webhook does, until Secret and configurations agree."""
    admin = accounts.admin
    rotation = rotation_of(admin, SystemClock())

    def settle() -> None:
        until(
            lambda: rotation.take_turn().patched == 0 and len(published(admin)) == 3,
            "certificates never settle",
        )

    return settle


def test_applying_again_takes_nothing_from_the_webhook(
    admin: KubeClient, settled: Callable[[], None]
) -> None:
    settled()
    before = published(admin), held(admin)
    assert all(bundle and path for bundle, path in before[0])
    assert "tls.key" in before[1]
    applied("-k", str(DEPLOY / "base"))
    assert (published(admin), held(admin)) == before


def test_an_emptied_secret_is_made_anew(admin: KubeClient, settled: Callable[[], None]) -> None:
    settled()
    before = published(admin), held(admin)
    (command,) = typed("When a key has leaked")
    run_typed(command)
    settled()
    assert held(admin).keys() == before[1].keys()
    assert held(admin)["tls.key"] != before[1]["tls.key"]
    assert not set(published(admin)) & set(before[0])


# --- without a webhook ---------------------------------------------------------------------------


def shipped_webhooks(overlay: str, kind: str) -> list[Object]:
    (content,) = [o for o in rendered(DEPLOY / overlay) if o["kind"] == kind]
    return list(content["webhooks"])


@pytest.fixture
def copy_of(admin: KubeClient) -> Iterator[Callable[[str, str], Object]]:
    """Makes a copy of an overlay's configuration whose Service nobody is behind."""
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    made: list[str] = []

    def make(overlay: str, kind: str, **changed: str) -> Object:
        webhooks = shipped_webhooks(overlay, kind)
        content = {"metadata": {"name": name}, "webhooks": webhooks}
        for webhook in webhooks:
            webhook["clientConfig"]["service"] = {"name": "nobody", "namespace": "default"}
            webhook.update(changed)
        collection = MUTATING if kind.startswith("Mutating") else VALIDATING
        made.append(f"{collection}/{name}")
        return admin.create(collection, content)

    yield make
    for path in made:
        with suppress(NotFoundError):
            admin.delete(path)


def is_made(admin: KubeClient, namespace: str, plural: str, content: Object) -> bool:
    """Whether the API server would make an object, as far as its webhooks go."""
    path = collection_path("v1", plural, namespace=namespace)
    try:
        admin.create(f"{path}?dryRun=All", content)
    except UnavailableError:  # 500: a webhook that must be asked does not answer
        return False
    except AlreadyExistsError:
        return True
    return True


def is_predictor_made(admin: KubeClient, namespace: str) -> bool:
    metadata = {
        "generateName": "larder-test-",
        "labels": {"serving.kserve.io/inferenceservice": "x"},
    }
    spec = {"containers": [{"name": "kserve-container", "image": "none"}]}
    return is_made(admin, namespace, "pods", {"metadata": metadata, "spec": spec})


def is_config_map_made(admin: KubeClient, name: str, namespace: str = SYSTEM_NAMESPACE) -> bool:
    return is_made(admin, namespace, "configmaps", {"metadata": {"name": name}})


def test_pods_are_made_while_no_webhook_answers(
    admin: KubeClient, namespace: str, copy_of: Callable[..., Object]
) -> None:
    made = copy_of("base", "MutatingWebhookConfiguration", failurePolicy="Fail")
    until(lambda: not is_predictor_made(admin, namespace), "nobody was asked")
    patch = [
        {"op": "replace", "path": f"/webhooks/{n}/failurePolicy", "value": shipped["failurePolicy"]}
        for n, shipped in enumerate(shipped_webhooks("base", "MutatingWebhookConfiguration"))
    ]
    path = f"{MUTATING}/{made['metadata']['name']}"
    admin.patch(path, patch, content_type=JSON_PATCH)
    until(lambda: is_predictor_made(admin, namespace), "pods wait for a webhook")


def test_only_the_demos_pods_wait_for_the_webhook(
    admin: KubeClient, namespace: str, demo_namespace: str, copy_of: Callable[..., Object]
) -> None:
    made = copy_of("overlays/demo", "MutatingWebhookConfiguration")
    until(lambda: not is_predictor_made(admin, demo_namespace), "nobody was asked")
    assert is_predictor_made(admin, namespace)
    admin.delete(f"{MUTATING}/{made['metadata']['name']}")
    until(lambda: is_predictor_made(admin, demo_namespace), "the webhook is asked still")


@pytest.mark.usefixtures("accounts")
def test_the_catalog_alone_is_asked_about(
    admin: KubeClient, copy_of: Callable[..., Object]
) -> None:
    copy_of("base", "ValidatingWebhookConfiguration", failurePolicy="Fail")

    until(lambda: not is_config_map_made(admin, CATALOG_CONFIG_MAP), "nobody was asked")
    assert is_config_map_made(admin, "larder-node-x")
    assert is_config_map_made(admin, CATALOG_CONFIG_MAP, "default")


def test_the_uninstall_begins_with_what_is_asked_about_pods(
    admin: KubeClient, namespace: str, settled: Callable[[], None]
) -> None:
    settled()
    configurations, deployment, *_ = typed("Uninstalling")
    run_typed(configurations)
    rotation_of(admin, SystemClock()).take_turn()  # a replica that is there still
    assert admin.list(MUTATING, query=OURS).items == ()
    assert admin.list(VALIDATING, query=OURS).items == ()
    assert is_predictor_made(admin, namespace)
    run_typed(deployment)
    assert is_predictor_made(admin, namespace)
    applied("-k", str(DEPLOY / "base"))
    settled()
