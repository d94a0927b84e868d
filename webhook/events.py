"""What the webhook tells the cluster with Events, in its own namespace.

An Event's name is made of what it is about, so that several replicas which see the same thing write
one Event between them.
"""

from collections.abc import Sequence
from typing import Final

from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE, EventReason
from runtime.clock import Clock
from runtime.kube.client import KubeClient
from runtime.kube.events import Event, EventWriter, Reference
from runtime.kube.objects import KubeObject
from webhook.catalog_review import report_of

REPORTING_CONTROLLER: Final = "larder.dev/webhook"


class WebhookEvents:
    """The Events of one replica, `instance`. Each call is a request, and never raises."""

    def __init__(self, client: KubeClient, clock: Clock, instance: str) -> None:
        self._clock = clock
        self._instance = instance.lower()
        self._writer = EventWriter(client, clock, REPORTING_CONTROLLER, instance)

    def catalog_invalid(self, config_map: KubeObject | None, problems: Sequence[str]) -> None:
        """The catalog cannot be used: one Event a version.

        None: it is gone, which is one Event until the API server forgets it, after an hour.
        """
        metadata = config_map["metadata"] if config_map else {}
        version = metadata.get("resourceVersion", "gone")
        self._write(
            f"{CATALOG_CONFIG_MAP}.{version}",
            EventReason.CATALOG_INVALID,
            Reference("ConfigMap", CATALOG_CONFIG_MAP, metadata.get("uid", ""), SYSTEM_NAMESPACE),
            report_of(problems),
        )

    def clock_behind(self, secret: str, sentence: str) -> None:
        """Certificates are not looked after, by the clock of this replica: one Event, likewise."""
        self._write(
            f"{secret}.{self._instance}",
            EventReason.CLOCK_BEHIND,
            Reference("Secret", secret, namespace=SYSTEM_NAMESPACE),
            sentence,
        )

    def _write(self, name: str, reason: EventReason, about: Reference, note: str) -> None:
        self._writer.write(Event(name, reason, about, note, self._clock.now()))
