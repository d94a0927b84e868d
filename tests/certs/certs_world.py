"""A cluster as certificates see it: a Secret, two webhook configurations, replicas with clocks."""

import base64
import datetime as dt
from typing import Any

from certs.authority import Leaf, Material, read_material, write_material
from certs.kube_api import KubeConfigurations, KubeSecret, read_secret
from certs.rotation import Rotation, Turn
from certs.secret_store import SecretStore
from runtime.clock import Clock
from tests.certs.certs_cases import NAME, NAMES, NOW, why_refused
from tests.certs.certs_memory import Memory, MemoryClient

NAMESPACE = "larder-system"
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/larder-webhook-certificates"
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
MUTATING = f"{REGISTRATION}/mutatingwebhookconfigurations/larder.dev"
VALIDATING = f"{REGISTRATION}/validatingwebhookconfigurations/larder.dev"
ENDPOINTS = {
    "isvc.pods.larder.dev": "/mutate-pods",
    "llm.pods.larder.dev": "/mutate-pods",
    "catalog.larder.dev": "/validate-catalog",
}


def configuration(kind: str, *webhooks: str, **annotations: str) -> dict[str, Any]:
    """As `deploy/` makes it: without a bundle, with the plain path."""
    service = {"name": "larder-webhook", "namespace": NAMESPACE, "port": 443}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "larder.dev", "annotations": annotations},
        "webhooks": [
            {"name": name, "clientConfig": {"service": {**service, "path": "/"}}}
            for name in webhooks
        ],
    }


class OffsetClock(Clock):
    """The world's time, wrong by an offset."""

    def __init__(self, world: "World") -> None:
        self.wrong_by = dt.timedelta(0)
        self._world = world

    def monotonic(self) -> float:
        return 0.0

    def now(self) -> float:
        return (self._world.now + self.wrong_by).timestamp()


class Replica:
    """One webhook: it takes turns, and serves a leaf."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.clock = OffsetClock(world)
        client = MemoryClient(world.memory)
        self.rotation = Rotation(
            SecretStore(KubeSecret(client, NAMESPACE, SECRET.rsplit("/", 1)[1]), NAMES),
            KubeConfigurations(client, mutating="larder.dev", validating="larder.dev"),
            ENDPOINTS,
            self.clock,
        )
        self.served: Leaf | None = None

    def turn(self) -> Turn:
        turn = self.rotation.take_turn()
        self.load(turn.material)
        return turn

    def load(self, material: Material) -> None:
        self.served = material.leaf or self.served


class World:
    """All of it, and the invariants."""

    def __init__(self, replicas: int = 1, now: dt.datetime = NOW) -> None:
        self.now = now
        self.memory = Memory()
        self.replicas = [Replica(self) for _ in range(replicas)]
        webhooks = configuration("MutatingWebhookConfiguration", *list(ENDPOINTS)[:2])
        self.memory.put(MUTATING, webhooks)
        self.memory.put(
            VALIDATING, configuration("ValidatingWebhookConfiguration", *list(ENDPOINTS)[2:])
        )

    def store(self, material: Material) -> None:
        """Put material into the Secret, past the API."""
        data = {k: base64.b64encode(v).decode() for k, v in write_material(material).items()}
        content = {"kind": "Secret", "metadata": {"name": SECRET.rsplit("/", 1)[1]}, "data": data}
        self.memory.put(SECRET, content)

    @property
    def material(self) -> Material:
        return read_material(read_secret(self.memory.objects[SECRET]).data)

    def watch(self) -> None:
        """What a watch does: every replica sees the Secret as it is."""
        for replica in self.replicas:
            replica.load(self.material)

    def bundles(self) -> list[bytes]:
        """What API servers trust, one each of our webhooks."""
        return [
            base64.b64decode(webhook["clientConfig"].get("caBundle", ""))
            for path in (MUTATING, VALIDATING)
            if path in self.memory.objects
            for webhook in self.memory.objects[path]["webhooks"]
        ]

    def complaints(self) -> list[str]:
        """Everything that an API server has against a leaf that is served now."""
        return [
            why
            for replica in self.replicas
            if replica.served
            for bundle in self.bundles()
            if (why := why_refused(replica.served, bundle, NAME, self.now))
        ]
