"""The number of streams follows what links of all kinds give; no clock is needed to see it."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.planning.streams import MOST_STREAMS, REST, StreamCount, next_count


def run(link: Callable[[int], float], measurements: int, start: int = 1) -> list[int]:
    """The counts that a link leads to; `link` says what so many streams move."""
    return run_from(StreamCount(start), link, measurements)


def run_from(now: StreamCount, link: Callable[[int], float], measurements: int) -> list[int]:
    counts = []
    for _ in range(measurements):
        now = next_count(now, link(now.count))
        counts.append(now.count)
    return counts


def limited(a_stream: float, all_streams: float) -> Callable[[int], float]:
    return lambda count: min(all_streams, count * a_stream)


def test_half_as_many_again_are_tried_as_long_as_they_bring_more() -> None:
    assert run(limited(10.0, 1e9), 8) == [2, 3, 4, 6, 9, 13, 16, 16]


def test_those_that_bring_nothing_are_taken_away_again() -> None:
    assert run(limited(10.0, 10.0), 3) == [2, 1, 1]
    assert run(limited(10.0, 60.0), 6) == [2, 3, 4, 6, 9, 6]


def test_after_a_rest_one_stream_less_is_tried_and_kept_if_it_costs_nothing() -> None:
    now = StreamCount(6, tries_fewer=True)
    assert run_from(now, limited(20.0, 60.0), 5) == [5, 4, 3, 2, 3]


def test_it_goes_down_to_one_stream_and_no_further() -> None:
    assert run_from(StreamCount(3, tries_fewer=True), limited(10.0, 10.0), 4) == [2, 1, 1, 1]


def test_between_trials_there_is_a_rest() -> None:
    counts = run(limited(10.0, 10.0), 3 + REST + 10)
    assert counts[1 : 2 + REST] == [1] * (REST + 1)
    assert 2 in counts[2 + REST :]


def test_a_link_that_becomes_better_is_found_out() -> None:
    slow, fast = limited(10.0, 10.0), limited(10.0, 80.0)
    now = StreamCount()
    for _ in range(5):
        now = next_count(now, slow(now.count))
    counts = []
    for _ in range(3 * REST):
        now = next_count(now, fast(now.count))
        counts.append(now.count)
    assert max(counts) >= 8


def test_no_rate_says_nothing() -> None:
    now = StreamCount(4, before=3, rate_before=10.0)
    assert next_count(now, 0.0) == now


@given(
    a_stream=st.floats(0.1, 1e9),
    best=st.integers(1, 40),
    penalty=st.floats(0.0, 0.05),
    start=st.integers(1, MOST_STREAMS),
)
def test_it_comes_close_to_what_the_link_gives_and_stays_in_bounds(
    a_stream: float, best: int, penalty: float, start: int
) -> None:
    """Up to `best` streams each one brings as much; beyond, each costs a little."""

    def link(count: int) -> float:
        return a_stream * (min(count, best) - penalty * max(0, count - best))

    counts = run(link, 10 * REST, start)
    assert all(1 <= count <= MOST_STREAMS for count in counts)
    rates = [link(count) for count in counts[-4 * REST :]]
    reachable = link(min(best, MOST_STREAMS))
    assert sum(rates) / len(rates) >= 0.75 * reachable


@pytest.mark.parametrize("most", [1, 2, 5])
def test_never_more_than_the_most(most: int) -> None:
    now = StreamCount()
    for _ in range(4 * REST):
        now = next_count(now, now.count * 10.0, most)
        assert 1 <= now.count <= most
