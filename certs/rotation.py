"""One turn of looking after the certificates: look, take one step, publish.

Any replica may take a turn at any time; each should, about once a minute. The order matters: the
configurations are read *before* the Secret, so that what is published from the Secret is never
older than what stands in a configuration. A turn that lost a race leaves the rest to the next one.
Showing the certificate is not part of it: every replica loads what the Secret holds as soon as it
sees it.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certs.authority import Action, Material, Step, bundle_of
from certs.ca_bundle import Published, patch_of, published_authorities
from certs.kube_api import KubeConfigurations
from certs.secret_store import Advance, SecretStore
from runtime.clock import Clock
from runtime.kube.errors import ConflictError, NotFoundError
from runtime.kube.objects import KubeObject
from runtime.logs import get_logger

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn came to: what the Secret holds, the step that led there, bundles repaired."""

    material: Material
    step: Step | None
    patched: int


class Rotation:
    """Takes turns. `endpoints`: a webhook's name → its path in the program."""

    def __init__(
        self,
        store: SecretStore,
        configurations: KubeConfigurations,
        endpoints: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._store = store
        self._configurations = configurations
        self._endpoints = endpoints
        self._clock = clock
        self._complaint = ""

    def take_turn(self) -> Turn:
        """Look, take at most one step, publish. A `KubeError` it raises is for the next turn."""
        found = self._configurations.read()
        published = [p for each in found for p in published_authorities(each, self._endpoints)]
        now = dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)
        advance = self._store.advance(published, now)
        self._tell(advance)
        return Turn(advance.material, advance.step, self._publish(found, advance.material))

    def _publish(self, found: Sequence[KubeObject], material: Material) -> int:
        if not material.authorities or not material.path:
            return 0
        wanted = Published(bundle_of(material.authorities), material.path, self._endpoints)
        return sum(self._patch(configuration, wanted) for configuration in found)

    def _patch(self, configuration: KubeObject, wanted: Published) -> bool:
        patch = patch_of(configuration, wanted)
        if not patch:
            return False
        name = configuration["metadata"]["name"]
        try:
            self._configurations.patch(configuration, patch)
        except (ConflictError, NotFoundError):
            return False  # somebody was faster; the next turn looks again
        _log.info("webhook configuration repaired", configuration=name, changes=len(patch) - 1)
        return True

    def _tell(self, advance: Advance) -> None:
        step = advance.step
        complaint = step.message if step and step.action is Action.WAIT else ""
        if step and not complaint:
            _log.info("certificates changed", reason=step.reason, message=step.message)
        elif step and complaint != self._complaint:
            _log.warning("certificates cannot be renewed", reason=step.reason, message=complaint)
        self._complaint = complaint
