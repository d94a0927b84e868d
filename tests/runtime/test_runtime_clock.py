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
