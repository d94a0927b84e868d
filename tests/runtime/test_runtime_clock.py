import pytest

from runtime.clock import Clock, ManualClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_monotonic_time_does_not_go_back(clock: Clock) -> None:
    assert clock.monotonic() <= clock.monotonic()
    assert clock.now() > 1_600_000_000


def test_manual_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(now=100.0, monotonic=5.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 5.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 7.5)


def test_manual_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="-1 s"):
        ManualClock().advance(-1)


def test_the_minute_of_the_day_is_that_of_the_clock() -> None:
    clock = ManualClock(now=86_400.0 * 3 + 8 * 3600 + 59 * 60 + 59.9)
    assert clock.minute_of_day() == 8 * 60 + 59
    clock.advance(0.1)
    assert clock.minute_of_day() == 9 * 60
    assert 0 <= SystemClock().minute_of_day() < 24 * 60
