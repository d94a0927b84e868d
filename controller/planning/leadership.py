"""Which replica may act: rules on one Lease, by nobody's clock but one's own.

A leader acts until `RENEW_SECONDS` after it *asked* for its newest renewal; others take a Lease
only when it stood still before their eyes for `LEASE_SECONDS`, or was given up. The former is
shorter by more than a request may take, so that no two replicas ever act at once, whatever the
API server, the network or the wall clocks do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

LEASE_SECONDS: Final = 15.0
RENEW_SECONDS: Final = 10.0
TURN_SECONDS: Final = 4.0  # two renewals may fail before a leader stops
REQUEST_TIMEOUT: Final = (2.0, 2.5)  # of a leader's writes: both together fit between the two above

_MICRO = "%Y-%m-%dT%H:%M:%S.%fZ"


class LeaseStep(Enum):
    """What to do about the Lease."""

    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Lease:
    """The Lease as it was read. `holder` is empty for one that nobody has."""

    resource_version: str
    holder: str = ""
    transitions: int = 0
    seconds: float = LEASE_SECONDS


def read_lease(content: Mapping[str, Any]) -> Lease:
    """A Lease from its JSON."""
    spec = content.get("spec") or {}
    return Lease(
        content["metadata"]["resourceVersion"],
        spec.get("holderIdentity") or "",
        spec.get("leaseTransitions") or 0,
        max(float(spec.get("leaseDurationSeconds") or 0), LEASE_SECONDS),
    )


def lease_step(me: str, lease: Lease, stands_still_seconds: float) -> LeaseStep:
    """What a replica does about a Lease that it has seen unchanged for so long."""
    if lease.holder == me:
        return LeaseStep.RENEW
    if not lease.holder or stands_still_seconds >= lease.seconds:
        return LeaseStep.TAKE
    return LeaseStep.WAIT


def taken(me: str, lease: Lease, now: float) -> dict[str, Any]:
    """A merge patch that takes or renews a Lease, as it was read and no other."""
    is_new = lease.holder != me
    times = {"renewTime": _written(now)} | ({"acquireTime": _written(now)} if is_new else {})
    return {
        "metadata": {"resourceVersion": lease.resource_version},
        "spec": {
            "holderIdentity": me,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "leaseTransitions": lease.transitions + int(is_new),
            **times,
        },
    }


def given_up(lease: Lease) -> dict[str, Any]:
    """A merge patch that lets the next replica take a Lease at once."""
    return {
        "metadata": {"resourceVersion": lease.resource_version},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
    }


def _written(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime(_MICRO)
