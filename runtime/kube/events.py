"""Kubernetes Events: they tell people what happened, and nothing depends on them.

Rules: an Event is tried once, one that cannot be written is lost; the same fault is said once; a
token bucket keeps what flaps from writing a storm. Events live in the namespace of what they are
about (of a node: `default`, as the kubelet's do), where more people read than may read the catalog.
"""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from larder.contract import EventReason
from runtime.clock import Clock
from runtime.kube.client import KubeClient
from runtime.kube.errors import AlreadyExistsError, KubeError, UnavailableError
from runtime.kube.objects import KubeObject
from runtime.kube.paths import collection_path
from runtime.logs import get_logger

API_VERSION: Final = "events.k8s.io/v1"
NOTE_MAX_BYTES: Final = 1024  # what the API takes
INSTANCE_MAX_CHARACTERS: Final = 128  # likewise
BURST: Final = 25
REFILL_SECONDS: Final = 30.0  # until one more may be written

_NORMAL: Final = frozenset({EventReason.MODEL_READY, EventReason.MODEL_EVICTED})
_CLUSTER_WIDE: Final = "default"  # the namespace of Events about what is in none
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Reference:
    """What an Event is about, an object of the core API. `kubectl describe` looks for the `uid`."""

    kind: str
    name: str
    uid: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to tell. A second one of the same `name` is the same Event, and not written.

    `at` is unix seconds. `note` is for people, and holds nothing that its readers may not know.
    """

    name: str
    reason: EventReason
    regarding: Reference
    note: str
    at: float


class EventWriter:
    """Writes the Events of one program, from any thread. `instance` says which of its replicas."""

    def __init__(self, client: KubeClient, clock: Clock, controller: str, instance: str) -> None:
        self._client = client
        self._clock = clock
        self._controller = controller
        self._instance = instance
        self._lock = threading.Lock()
        self._left = float(BURST)
        self._counted_at = clock.monotonic()
        self._complaint = ""

    def write(self, event: Event) -> bool:
        """Write an Event, or lose it; whether the API server was there to try the next one.

        Never raises. Takes as long as a request may.
        """
        if not self._may_write():
            self._lost(event, "too many Events")
            return True
        about = event.regarding
        namespace = about.namespace or _CLUSTER_WIDE
        try:
            self._client.create(
                collection_path(API_VERSION, "events", namespace=namespace),
                self._content(event, namespace),
            )
        except AlreadyExistsError:
            return True
        except KubeError as error:
            self._lost(event, str(error))
            return not isinstance(error, UnavailableError)
        self._complaint = ""
        return True

    def _may_write(self) -> bool:
        with self._lock:
            now = self._clock.monotonic()
            refilled = self._left + (now - self._counted_at) / REFILL_SECONDS
            self._left, self._counted_at = min(float(BURST), refilled), now
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def _lost(self, event: Event, fault: str) -> None:
        log = _log.debug if fault == self._complaint else _log.warning
        log("event lost", reason=str(event.reason), name=event.name, error=fault)
        self._complaint = fault

    def _content(self, event: Event, namespace: str) -> KubeObject:
        about = event.regarding
        regarding = {"apiVersion": "v1", "kind": about.kind, "name": about.name}
        optional = {"uid": about.uid, "namespace": about.namespace}
        return {
            "apiVersion": API_VERSION,
            "kind": "Event",
            "metadata": {"name": event.name, "namespace": namespace},
            "eventTime": f"{datetime.fromtimestamp(event.at, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "reportingController": self._controller,
            "reportingInstance": self._instance[:INSTANCE_MAX_CHARACTERS],
            "action": event.reason.value,  # the API wants one, and there is no more to say
            "reason": event.reason.value,
            "type": "Normal" if event.reason in _NORMAL else "Warning",
            "note": event.note.encode()[:NOTE_MAX_BYTES].decode(errors="ignore"),
            "regarding": regarding | {name: text for name, text in optional.items() if text},
        }
