"""Looks at the admission policies that make claims safe: read by name, anew every few seconds."""

from pathlib import PurePosixPath
from typing import Final

from controller.planning.policies import FINGERPRINTS, binding_fault, policy_fault
from runtime.clock import Clock
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError, NotFoundError
from runtime.kube.objects import KubeObject
from runtime.kube.paths import object_path

FRESH_SECONDS: Final = 5.0
_API: Final = "admissionregistration.k8s.io/v1"


class Policies:
    """Whether the policies are in force; while that cannot be read, they are not."""

    def __init__(self, client: KubeClient, clock: Clock, cache_root: PurePosixPath) -> None:
        self._client = client
        self._clock = clock
        self._cache_root = cache_root
        self._faults: tuple[str, ...] = ()
        self._read_at = float("-inf")

    def faults(self) -> tuple[str, ...]:
        """Why claims would not be safe, one clause each; none: they are."""
        if self._clock.monotonic() >= self._read_at + FRESH_SECONDS:
            try:
                self._faults = tuple(self._read())
            except KubeError as error:
                self._faults = (f"the admission policies cannot be read: {error}",)
            self._read_at = self._clock.monotonic()
        return self._faults

    def _read(self) -> list[str]:
        found = []
        for name in FINGERPRINTS:
            policy = self._get("validatingadmissionpolicies", name)
            binding = self._get("validatingadmissionpolicybindings", name)
            found += [policy_fault(name, policy, self._cache_root), binding_fault(name, binding)]
        return [fault for fault in found if fault]

    def _get(self, plural: str, name: str) -> KubeObject | None:
        try:
            return self._client.get(object_path(_API, plural, name))
        except NotFoundError:
            return None
