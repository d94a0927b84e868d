"""The webhook's certificates against a real API server: races are decided by it."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from certs.authority import bundle_of, fingerprints
from certs.ca_bundle import published_authorities
from certs.kube_api import KubeConfigurations, KubeSecret
from certs.rotation import Rotation
from certs.secret_store import SecretStore
from runtime.clock import SystemClock
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path, object_path
from tests.certs.kube_api_contract import ConfigurationsContract, SecretContract

REGISTRATION = "admissionregistration.k8s.io/v1"
PLURALS = {
    "MutatingWebhookConfiguration": "mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
}
WEBHOOK = "test.larder.dev"


def configuration(kind: str, name: str) -> dict[str, Any]:
    """A configuration without a bundle that is never called: its selector matches no namespace."""
    service = {"name": "larder-webhook", "namespace": "larder-system", "path": "/"}
    webhook = {
        "name": WEBHOOK,
        "clientConfig": {"service": service},
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"larder.dev/never": name}},
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {
        "apiVersion": REGISTRATION,
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


@pytest.fixture
def configurations(admin: KubeClient) -> Iterator[KubeConfigurations]:
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    for kind, plural in PLURALS.items():
        admin.create(collection_path(REGISTRATION, plural), configuration(kind, name))
    yield KubeConfigurations(admin, mutating=name, validating=name)
    for plural in PLURALS.values():
        admin.delete(object_path(REGISTRATION, plural, name))


@pytest.fixture
def secret(admin: KubeClient, namespace: str) -> KubeSecret:
    return KubeSecret(admin, namespace, "larder-webhook-certificates")


class TestSecret(SecretContract):
    pass


class TestConfigurations(ConfigurationsContract):
    pass


def test_two_replicas_end_with_one_authority_that_every_configuration_publishes(
    secret: KubeSecret, configurations: KubeConfigurations
) -> None:
    names = ("larder-webhook.larder-system.svc",)
    endpoints = {WEBHOOK: "/mutate-pods"}
    stores = [SecretStore(secret, names) for _ in range(2)]
    rotations = [Rotation(store, configurations, endpoints, SystemClock()) for store in stores]
    first, second = [rotation.take_turn() for rotation in rotations]
    assert (first.patched, second.patched, second.step) == (2, 0, None)
    assert bundle_of(first.material.authorities) == bundle_of(second.material.authorities)
    trusted = fingerprints(bundle_of(first.material.authorities))
    found = configurations.read()
    assert [published_authorities(content, endpoints) for content in found] == [(trusted,)] * 2
