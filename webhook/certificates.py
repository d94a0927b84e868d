"""The webhook's own certificates: every replica takes its turn, and shows what the Secret holds.

    Secret larder-webhook-certificates ─▶ certificate, admission path
                                       ─▶ caBundle and path of the configurations `larder.dev`

Nothing is watched: a turn is three reads by name. While the API server is away, what is in force
stays; a certificate is renewed ten days before it ends.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from certs.authority import Action, Material, Reason, Step, write_material
from certs.kube_api import KubeConfigurations, KubeSecret
from certs.rotation import Rotation, Turn
from certs.secret_store import SecretStore
from certs.serving import ServingCertificate, UnfitCertificateError
from larder.contract import SYSTEM_NAMESPACE
from runtime.clock import Clock
from runtime.kube.backoff import Backoff
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError, UnavailableError
from runtime.logs import get_logger
from webhook.app import MUTATE_PODS, VALIDATE_CATALOG
from webhook.metrics import Metrics
from webhook.state import State
from webhook.turns import take_turns

SECRET: Final = "larder-webhook-certificates"  # noqa: S105 - its name
SERVICE: Final = "larder-webhook"
CONFIGURATION: Final = (
    "larder.dev"  # of both kinds; sorts after KServe's, which goes first (fact T1)
)
ENDPOINTS: Final[Mapping[str, str]] = {
    "inferenceservices.larder.dev": MUTATE_PODS,
    "llminferenceservices.larder.dev": MUTATE_PODS,
    "catalog.larder.dev": VALIDATE_CATALOG,
}
TURN_SECONDS: Final = 30.0
_log = get_logger()


def rotation_of(client: KubeClient, clock: Clock) -> Rotation:
    """The turns of a cluster's webhook."""
    names = [f"{SERVICE}.{SYSTEM_NAMESPACE}.svc"]
    return Rotation(
        SecretStore(KubeSecret(client, SYSTEM_NAMESPACE, SECRET), names),
        KubeConfigurations(client, mutating=CONFIGURATION, validating=CONFIGURATION),
        ENDPOINTS,
        clock,
    )


class OwnCertificates:
    """Takes turns. `certificate` None: another one is shown, and the path alone is ours.

    `tell_clock_behind` is called once when the clock turns out to be, with Secret and sentence.
    """

    def __init__(
        self,
        rotation: Rotation,
        certificate: ServingCertificate | None,
        state: State,
        metrics: Metrics,
        tell_clock_behind: Callable[[str, str], object],
    ) -> None:
        self._rotation = rotation
        self._certificate = certificate
        self._state = state
        self._metrics = metrics
        self._tell_clock_behind = tell_clock_behind
        self._backoff = Backoff()
        self._complaint = ""
        self._is_behind = False

    async def run(self, stop: asyncio.Event) -> None:
        """Take a turn at once and every `TURN_SECONDS`, until asked to stop."""
        await take_turns(self._take_turn, stop)

    async def _take_turn(self) -> float:
        try:
            turn = await asyncio.to_thread(self._rotation.take_turn)
            self._show(turn.material)
        except (KubeError, UnfitCertificateError) as error:
            self._tell(str(error))
            after = error.retry_after_seconds if isinstance(error, UnavailableError) else None
            return self._backoff.next_seconds(after)
        self._backoff.reset()
        self._tell("")
        self._count(turn)
        await self._watch_clock(turn.step)
        return TURN_SECONDS

    async def _watch_clock(self, step: Step | None) -> None:
        was_behind = self._is_behind
        self._is_behind = step is not None and step.reason is Reason.CLOCK_BEHIND
        if step and self._is_behind and not was_behind:
            await asyncio.to_thread(self._tell_clock_behind, SECRET, step.message)

    def _show(self, material: Material) -> None:
        if self._certificate and material.leaf:
            data = write_material(material)
            self._certificate.load(data["tls.crt"], data["tls.key"])
            self._metrics.certificate_expires.set(
                material.leaf.certificate.not_valid_after_utc.timestamp()
            )
        if material.path and material.path != self._state.admission_path:
            self._state.admission_path = material.path
            _log.info("admission path known")  # never which

    def _count(self, turn: Turn) -> None:
        step = turn.step
        self._metrics.certificates_healthy.set(not _waits(step))
        if step:
            self._metrics.certificate_steps.labels(step.reason.value).inc()

    def _tell(self, complaint: str) -> None:
        """Say what went wrong, the same thing once."""
        if complaint:
            self._metrics.certificates_healthy.set(0)
        if complaint and complaint != self._complaint:
            _log.warning("certificates not looked after", error=complaint)
        self._complaint = complaint


def _waits(step: Step | None) -> bool:
    return step is not None and step.action is Action.WAIT
