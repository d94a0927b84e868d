"""How fast fills may be: the catalog's `fills.maxBandwidth` at a time of day, shared by them.

Each fill gets the same share, whether it needs it or not: so that the sum is never above the limit,
without anybody measuring. 0 is no limit.
"""

from collections.abc import Sequence

from larder.catalog import BandwidthHours

MINUTES_OF_HOUR = 60


def limit_at(max_bandwidth: int | Sequence[BandwidthHours], minute_of_day: int) -> int:
    """Bytes a second that a node may fetch now; of several hours that hold, the smallest rate."""
    if isinstance(max_bandwidth, int):
        return max_bandwidth
    rates = [hours.rate for hours in max_bandwidth if _holds(hours, minute_of_day)]
    return min((rate for rate in rates if rate), default=0)


def share_of(limit: int, fills: int) -> int:
    """What each of so many fills may fetch, in bytes a second."""
    return max(1, limit // max(1, fills)) if limit else 0


def _holds(hours: BandwidthHours, minute_of_day: int) -> bool:
    """From the first time to before the second, over midnight if that is the earlier one."""
    start, stop = _minute(hours.from_), _minute(hours.to)
    if start < stop:
        return start <= minute_of_day < stop
    return minute_of_day >= start or minute_of_day < stop


def _minute(time_of_day: str) -> int:
    hours, _, minutes = time_of_day.partition(":")
    return int(hours) * MINUTES_OF_HOUR + int(minutes)
