"""How many streams a fill fetches with: found by measuring, since no constant fits every link.

Half as many again are tried as long as they bring a tenth more; else it is those from before. After
a rest the other direction is tried, one stream less, and kept if that costs nothing; and so on in
turns, for links change. A rate of zero says nothing.
"""

from dataclasses import dataclass, replace
from typing import Final

MOST_STREAMS: Final = 16
GROWTH: Final = 1.10
LOSS: Final = 0.97
REST: Final = 20
"""Measurements between two trials."""


@dataclass(frozen=True, slots=True)
class StreamCount:
    """How many streams there are to be, and what they are compared with.

    `before` streams moved `rate_before` bytes a second; None while nothing is on trial.
    """

    count: int = 1
    before: int | None = None
    rate_before: float = 0.0
    rest: int = 0
    tries_fewer: bool = False


def next_count(now: StreamCount, rate: float, most: int = MOST_STREAMS) -> StreamCount:
    """What to do after one more measurement, in bytes a second."""
    if rate <= 0:
        return now
    if now.before is None:
        if now.rest:
            return replace(now, rest=now.rest - 1)
        tries_fewer = now.tries_fewer and now.count > 1
        return _fewer(now, rate) if tries_fewer else _more(now, rate, most)
    if now.count > now.before:
        grew = rate >= now.rate_before * GROWTH
        return _more(now, rate, most) if grew else _settled(now.before, tries_fewer=True)
    if rate >= now.rate_before * LOSS:
        return _fewer(now, now.rate_before)
    return _settled(now.before, tries_fewer=False)


def _more(now: StreamCount, rate: float, most: int) -> StreamCount:
    count = min(most, now.count + max(1, now.count // 2))
    if count == now.count:
        return _settled(count, tries_fewer=True)
    return StreamCount(count, now.count, rate)


def _fewer(now: StreamCount, rate: float) -> StreamCount:
    if now.count == 1:
        return _settled(1, tries_fewer=False)
    return StreamCount(now.count - 1, now.count, rate)


def _settled(count: int, *, tries_fewer: bool) -> StreamCount:
    return StreamCount(count, rest=REST, tries_fewer=tries_fewer)
