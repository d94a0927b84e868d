"""Which rate holds at a time of day, and what each fill gets of it."""

import pytest

from agent.planning.bandwidth import limit_at, share_of
from larder.catalog import BandwidthHours

MIB = 1024 * 1024


def hours(start: str, stop: str, rate: str) -> BandwidthHours:
    return BandwidthHours.model_validate({"from": start, "to": stop, "rate": rate}, by_alias=True)


DAY = hours("08:00", "18:00", "200Mi")
NIGHT = hours("22:30", "06:00", "1Mi")
NOON = hours("12:00", "13:00", "50Mi")
ALWAYS = hours("07:00", "07:00", "3Mi")


@pytest.mark.parametrize("minute", [0, 719, 1439])
def test_one_rate_holds_all_day(minute: int) -> None:
    assert limit_at(5 * MIB, minute) == 5 * MIB
    assert limit_at(0, minute) == 0


@pytest.mark.parametrize(
    ("minute", "limit"),
    [
        pytest.param(7 * 60 + 59, 0, id="before"),
        pytest.param(8 * 60, 200 * MIB, id="from the first minute"),
        pytest.param(12 * 60, 50 * MIB, id="the smaller of two"),
        pytest.param(17 * 60 + 59, 200 * MIB, id="to the last one"),
        pytest.param(18 * 60, 0, id="after"),
        pytest.param(22 * 60 + 30, MIB, id="before midnight"),
        pytest.param(0, MIB, id="after midnight"),
        pytest.param(6 * 60, 0, id="in the morning"),
    ],
)
def test_hours_hold_from_their_first_minute_to_before_their_last(minute: int, limit: int) -> None:
    assert limit_at([DAY, NIGHT, NOON], minute) == limit


def test_hours_that_end_where_they_begin_are_the_whole_day() -> None:
    assert {limit_at([ALWAYS], minute) for minute in range(0, 24 * 60, 30)} == {3 * MIB}


def test_hours_without_a_limit_do_not_lift_that_of_others() -> None:
    free = hours("00:00", "23:59", "0")
    assert limit_at([free, DAY], 9 * 60) == 200 * MIB
    assert limit_at([free], 9 * 60) == 0


def test_fills_share_evenly_and_never_get_more_together() -> None:
    assert [share_of(10 * MIB, fills) for fills in (0, 1, 2, 3)] == [
        10 * MIB, 10 * MIB, 5 * MIB, 10 * MIB // 3,
    ]  # fmt: skip
    assert share_of(0, 3) == 0
    assert share_of(2, 3) == 1  # the least there is: 0 would be no limit
