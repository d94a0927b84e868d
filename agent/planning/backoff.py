"""When a failed fill is tried again: later each time, never all nodes at once.

A transient fault is soon tried again, a permanent one rarely (its cure is a change of catalog,
credential or source, which also clears it). What the source asked for (`Retry-After`) is a floor.
"""

from typing import Final

from agent.planning.values import Failure
from larder.contract import FillFailure
from larder.errors import FillError, PermanentError, TransientError

TRANSIENT_FIRST_SECONDS: Final = 5.0
TRANSIENT_LAST_SECONDS: Final = 600.0
PERMANENT_FIRST_SECONDS: Final = 300.0
PERMANENT_LAST_SECONDS: Final = 3600.0
RETRY_AFTER_LAST_SECONDS: Final = 3600.0  # whatever a source, or a clock, says
_DOUBTS: Final = frozenset({FillFailure.INTEGRITY_MISMATCH, FillFailure.SOURCE_DRIFTED})


def next_failure(before: Failure | None, error: FillError, now: float, jitter: float) -> Failure:
    """The record of one more failed attempt. `jitter` is drawn from [0, 1); delays grow by two.

    The delay lies between half and the whole of the back-off's current step.
    """
    attempts = before.attempts + 1 if before else 1
    first, last = (
        (PERMANENT_FIRST_SECONDS, PERMANENT_LAST_SECONDS)
        if isinstance(error, PermanentError)
        else (TRANSIENT_FIRST_SECONDS, TRANSIENT_LAST_SECONDS)
    )
    step = min(last, first * 2.0 ** min(attempts - 1, 16))
    delay = step * (0.5 + jitter / 2)
    if isinstance(error, TransientError) and error.retry_after_seconds is not None:
        delay = max(delay, min(error.retry_after_seconds, RETRY_AFTER_LAST_SECONDS))
    return Failure(
        error.reason,
        str(error),
        now + delay,
        attempts,
        doubts_listing=error.reason in _DOUBTS or (before is not None and before.doubts_listing),
        failed_at=now,
    )
