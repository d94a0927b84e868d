"""What goes into a decision and what comes out of it: frozen values without behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from larder.contract import DecisionReason
from larder.layout import Key
from larder.matching import CatalogIndex, Match
from webhook.mutation.patch import Operation
from webhook.mutation.raw import Json


class VolumeMode(StrEnum):
    """Where a hostPath volume may be used."""

    HOST_PATH = "HostPath"
    """In every namespace whose Pod Security profile does not forbid it."""
    BY_NAMESPACE = "ByNamespace"
    """Where the namespace's own labels say so."""


@dataclass(frozen=True, slots=True)
class View:
    """What the webhook knows. `index` is None while no good catalog was loaded.

    `namespace_labels` are those of the request's namespace, None if they are not known. `ready` are
    the models that some node says it has, as far as nodes are known. `claims` are the names of
    Larder's claims in that namespace that are Bound and stay, None where nobody makes claims.
    """

    index: CatalogIndex | None
    cache_root: PurePosixPath
    volumes: VolumeMode = VolumeMode.HOST_PATH
    namespace_labels: Mapping[str, str] | None = None
    ready: frozenset[Key] = frozenset()
    claims: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """What a review asks. The namespace is the request's: the pod's own may be empty."""

    pod: Json
    namespace: str
    is_pod_creation: bool = True


@dataclass(frozen=True, slots=True)
class UriOutcome:
    """What the catalog said to one URI of the pod's arguments."""

    uri: str
    outcome: Match | DecisionReason


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a pod. `served` are how many URIs, `keys` the slots it uses then, sorted."""

    served: int
    keys: tuple[Key, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a request.

    `operations` is empty unless the reason is `Cached`; `keys` are the slots that the pod uses, or
    would use (`Observing`), sorted; `detail` is a clause for people who may read the catalog (never
    for tenants), without URIs or values of the pod's environment.
    """

    reason: DecisionReason
    detail: str = ""
    uris: tuple[UriOutcome, ...] = ()
    keys: tuple[Key, ...] = ()
    operations: tuple[Operation, ...] = ()
