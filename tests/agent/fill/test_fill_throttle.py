"""A limit holds whatever streams do, from the moment that it is set."""

from threading import Event

from hypothesis import given
from hypothesis import strategies as st

from agent.fill.throttle import BURST_SECONDS, Throttle
from runtime.clock import ManualClock

MIB = 1024 * 1024


def throttle(clock: ManualClock) -> Throttle:
    return Throttle(clock, lambda seconds, _: clock.advance(seconds))


@given(
    rate=st.integers(1, 1000 * MIB),
    chunks=st.lists(st.tuples(st.integers(1, MIB), st.floats(0, 3)), min_size=1, max_size=60),
)
def test_no_more_than_the_rate_and_a_quarter_of_a_second_go_through(
    rate: int, chunks: list[tuple[int, float]]
) -> None:
    clock = ManualClock()
    limited = throttle(clock)
    limited.set_rate(rate)
    began, total = clock.monotonic(), 0
    for count, pause in chunks:
        limited.pause(count, Event())
        total += count
        assert total <= rate * (clock.monotonic() - began + BURST_SECONDS) * 1.001 + 1
        clock.advance(pause)


def test_without_a_limit_nobody_waits() -> None:
    clock = ManualClock()
    free = throttle(clock)
    began = clock.monotonic()
    for _ in range(100):
        free.pause(1024 * MIB, Event())
    assert clock.monotonic() == began
    assert free.chunk_bytes(MIB) == MIB


def test_a_limit_that_goes_is_gone_at_the_next_chunk() -> None:
    clock = ManualClock()
    limited = throttle(clock)
    limited.set_rate(100)
    limited.pause(1000, Event())
    limited.set_rate(0)
    before = clock.monotonic()
    limited.pause(1000 * MIB, Event())
    assert clock.monotonic() == before


def test_chunks_are_so_small_that_no_pause_is_long() -> None:
    limited = throttle(ManualClock())
    limited.set_rate(40_000)
    assert limited.chunk_bytes(MIB) == 10_000
    limited.set_rate(100)  # somebody forgot the unit: slow, and no stall
    assert limited.chunk_bytes(MIB) == 25
    limited.set_rate(1)
    assert limited.chunk_bytes(MIB) == 1
