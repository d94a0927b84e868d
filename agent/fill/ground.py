"""What a fill stands on: the job, the world around it, and what all its threads share."""

from dataclasses import dataclass, field
from threading import Lock

from agent.fill.job import Job
from agent.fill.meter import Meter
from agent.fill.parts import Parts
from agent.fill.throttle import Throttle
from agent.fill.workplace import Workplace
from agent.planning.values import Listing


@dataclass(frozen=True, slots=True)
class Ground:
    """One run of a fill. `lock` guards who fetches what of which file."""

    job: Job
    place: Workplace
    listing: Listing
    parts: Parts
    partial_fd: int
    meter: Meter
    throttle: Throttle
    lock: Lock = field(default_factory=Lock)
