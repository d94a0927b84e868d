"""One Secret holds everything, and is only ever changed from the version that was read.

So of several replicas that want the same change one wins; the others find a conflict, read again
and take what is there. What is returned was in the Secret: a key that never got there is never
used. Errors of the API server come through as they are; the next turn begins by reading.
"""

import datetime as dt
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from certs.authority import (
    Action,
    Fingerprint,
    Material,
    Step,
    View,
    next_step,
    read_material,
    take_step,
    write_material,
)
from certs.kube_api import KubeSecret, StoredSecret
from runtime.kube.errors import ConflictError, NotFoundError

_PATH_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Advance:
    """What the Secret holds, and what was done to get there; a step of `WAIT` was not taken."""

    material: Material
    step: Step | None


class SecretStore:
    """What the Secret holds, and how it goes on. `names` are the DNS names of the Service."""

    def __init__(self, api: KubeSecret, names: Sequence[str]) -> None:
        self._api = api
        self._names = tuple(names)

    def read(self) -> Material:
        """What the Secret holds now."""
        return _material(self._api.read())

    def advance(self, published: Sequence[frozenset[Fingerprint]], now: dt.datetime) -> Advance:
        """Take at most one step. `published` was read before this call; `now` is aware.

        Where another replica was first, the answer is what it made, with no step.
        """
        stored = self._api.read()
        view = View(_material(stored), tuple(published), self._names, now)
        step = next_step(view)
        if step is None or step.action is Action.WAIT:
            return Advance(view.material, step)
        material = take_step(view, step, secrets.token_hex(_PATH_BYTES))
        try:
            self._write(material, stored)
        except (ConflictError, NotFoundError):
            return Advance(self.read(), None)
        return Advance(material, step)

    def _write(self, material: Material, stored: StoredSecret | None) -> None:
        data = write_material(material)
        if stored is None:
            self._api.create(data)
        else:
            self._api.update(data, stored.resource_version)


def _material(stored: StoredSecret | None) -> Material:
    return read_material(stored.data if stored else {})
