"""The Lease of the one replica that acts: kept, watched or given up, in a thread of its own.

Our own, since the library's ends without a word when the API server is away, and its leader goes
on. The Lease is there from the install on; without it nobody acts, and the log says so.
"""

import threading
from collections.abc import Callable
from typing import Final

from controller.planning.leadership import (
    RENEW_SECONDS,
    REQUEST_TIMEOUT,
    TURN_SECONDS,
    Lease,
    LeaseStep,
    given_up,
    lease_step,
    read_lease,
    taken,
)
from larder.contract import SYSTEM_NAMESPACE
from runtime.clock import Clock
from runtime.kube.client import MERGE_PATCH, KubeClient
from runtime.kube.errors import ConflictError, KubeError
from runtime.kube.paths import object_path
from runtime.logs import get_logger

LEASE: Final = object_path(
    "coordination.k8s.io/v1", "leases", "larder-controller", namespace=SYSTEM_NAMESPACE
)
_RETRY_SECONDS: Final = 1.0
_log = get_logger()


class Leadership:
    """Whether this replica, `me`, may act. `on_change` is called when it begins or ends to."""

    def __init__(
        self, client: KubeClient, clock: Clock, me: str, on_change: Callable[[], object]
    ) -> None:
        self._client = client
        self._clock = clock
        self._me = me
        self._on_change = on_change
        self._until = float("-inf")
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._was_leader = False
        self._complaint = ""

    def is_leader(self) -> bool:
        """Whether this replica may send a request that changes something, now."""
        return self._clock.monotonic() < self._until

    def run(self, stop: threading.Event) -> None:
        """Take turns until asked to stop. Giving up is another step, after the last write."""
        while not stop.is_set():
            stop.wait(self.turn())

    def turn(self) -> float:
        """Look at the Lease and do what follows; how long to wait for the next turn, in seconds."""
        try:
            self._step(read_lease(self._client.get(LEASE, timeout=REQUEST_TIMEOUT)))
            self._complaint = ""
        except ConflictError:  # somebody was faster
            pass
        except KubeError as error:
            self._complain(str(error))
            self._tell()
            return _RETRY_SECONDS
        self._tell()
        return TURN_SECONDS

    def give_up(self) -> None:
        """Let another replica take the Lease at once, if it is ours."""
        self._until = float("-inf")
        try:
            lease = read_lease(self._client.get(LEASE, timeout=REQUEST_TIMEOUT))
            if lease.holder == self._me:
                self._patch(given_up(lease))
        except KubeError as error:
            _log.warning("lease not given up; it ends by itself", error=str(error))
        self._tell()

    def _step(self, lease: Lease) -> None:
        now = self._clock.monotonic()
        if lease != self._seen:
            self._seen, self._seen_at = lease, now
        match lease_step(self._me, lease, now - self._seen_at):
            case LeaseStep.TAKE | LeaseStep.RENEW:
                asked_at = self._clock.monotonic()
                self._patch(taken(self._me, lease, self._clock.now()))
                self._until = asked_at + RENEW_SECONDS
            case LeaseStep.WAIT:
                self._until = float("-inf")

    def _patch(self, patch: dict[str, object]) -> None:
        self._client.request(
            "PATCH", LEASE, body=patch, content_type=MERGE_PATCH, timeout=REQUEST_TIMEOUT
        )

    def _tell(self) -> None:
        if self.is_leader() != self._was_leader:
            self._was_leader = not self._was_leader
            _log.info("leading" if self._was_leader else "not leading any more", instance=self._me)
            self._on_change()

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            _log.warning("lease not looked after", error=complaint)
        self._complaint = complaint
