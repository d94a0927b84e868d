"""However streams claim, write, halve and fail: every byte is fetched once, and in bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.planning.window import LEAST_CLAIM_BYTES, Claim, Window

MIB = 1024 * 1024


def ranges(window: Window, hashed_bytes: int, ahead_bytes: int) -> list[tuple[int, int]]:
    claims = iter(lambda: window.claim(hashed_bytes, ahead_bytes), None)
    return [(claim.position, claim.end) for claim in claims]


def test_ranges_are_claimed_in_order_as_far_ahead_as_is_allowed() -> None:
    window = Window(350, 100)
    assert ranges(window, 0, 150) == [(0, 100), (100, 200)]
    assert ranges(window, 60, 150) == [(200, 300)]
    assert ranges(window, 300, 150) == [(300, 350)]
    assert ranges(window, 350, 150) == []


def test_what_an_earlier_run_left_is_not_claimed_and_does_not_hold_back() -> None:
    window = Window(1000, 100, kept_bytes=450)
    assert (window.readable_bytes, window.left_bytes) == (450, 550)
    assert ranges(window, 0, 120) == [(450, 500), (500, 600)]


def test_bytes_can_be_read_up_to_the_first_gap() -> None:
    window = Window(300, 100)
    first, second = window.claim(0, 300), window.claim(0, 300)
    assert first
    assert second
    second.wrote(200)
    assert (window.readable_bytes, window.left_bytes) == (0, 200)
    first.wrote(60)
    assert (window.readable_bytes, window.left_bytes) == (60, 140)
    first.wrote(100)
    assert (window.readable_bytes, window.left_bytes) == (200, 100)


def test_once_nothing_is_left_the_largest_claim_is_halved() -> None:
    window = Window(60 * MIB, 64 * MIB)
    whole = window.claim(0, MIB)
    assert whole
    whole.wrote(2 * MIB)
    half = window.claim(0, MIB)
    assert half
    assert (whole.position, whole.end) == (2 * MIB, 31 * MIB)
    assert (half.position, half.end) == (31 * MIB, 60 * MIB)
    assert window.stream_count == 2


def test_no_claim_is_halved_to_less_than_a_request_is_worth() -> None:
    window = Window(2 * LEAST_CLAIM_BYTES - 1, MIB * 64)
    assert window.claim(0, MIB)
    assert window.claim(0, MIB) is None


def test_a_damaged_part_is_claimed_before_all_else() -> None:
    window = Window(1000, 100, kept_bytes=400)
    window.lose(100, 200)
    assert (window.readable_bytes, window.left_bytes) == (100, 700)
    assert ranges(window, 100, 0) == [(100, 200)]


def test_what_a_stream_gives_back_is_a_gap_until_another_has_it() -> None:
    window = Window(200, 100)
    first, second = window.claim(0, 200), window.claim(0, 200)
    assert first
    assert second
    first.wrote(30)
    second.wrote(200)
    window.release(first)
    window.release(second)
    assert (window.readable_bytes, window.left_bytes, window.stream_count) == (30, 70, 0)
    assert ranges(window, 0, 200) == [(30, 100)]


def test_without_ranges_one_claim_becomes_all_that_is_missing() -> None:
    window = Window(1000, 100)
    first, second, third = (window.claim(0, 1000) for _ in range(3))
    assert first
    assert second
    assert third
    first.wrote(100)
    second.wrote(130)
    third.wrote(260)
    assert window.leave_to(third) == 130
    assert window.leave_to(second) is None  # it was taken away
    assert (second.left_bytes, third.left_bytes) == (0, 40)
    third.wrote(300)
    assert window.readable_bytes == 130  # not what the second one leaves out
    window.release(first)
    window.release(second)
    window.begin_alone(third, 130)
    assert (third.position, third.end, window.readable_bytes) == (130, 1000, 130)
    assert window.claim(0, 1000) is None
    third.wrote(1000)
    assert (window.readable_bytes, window.left_bytes) == (1000, 0)
    window.lose(100, 200)
    assert window.claim(0, 1000) is None  # one after the other
    window.release(third)
    assert ranges(window, 0, 1000) == [(100, 200)]


@pytest.mark.parametrize("stop", [50, 90, 200])
def test_a_claim_that_was_taken_away_stays_where_it_was(stop: int) -> None:
    claim = Claim(50, 50)
    claim.wrote(stop)
    assert (claim.position, claim.left_bytes) == (50, 0)


class Fetching(RuleBasedStateMachine):
    """Streams and a cursor that do anything in any order; a model of the file beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.size_bytes = 150 * MIB
        self.window = Window(self.size_bytes, 64 * MIB)
        self.written: list[tuple[int, int]] = []
        self.streams: list[Claim] = []
        self.hashed_bytes = 0
        self.furthest = 0

    @rule(ahead=st.sampled_from([MIB, 65 * MIB, 256 * MIB]))
    def claim(self, ahead: int) -> None:
        claim = self.window.claim(self.hashed_bytes, ahead)
        if claim is not None:
            self.streams.append(claim)
            if claim.end > self.furthest:  # neither a half nor what another gave back
                assert claim.position < self.hashed_bytes + ahead
                self.furthest = claim.end

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), count=st.integers(1, 24 * MIB))
    def write(self, data: st.DataObject, count: int) -> None:
        claim = data.draw(st.sampled_from(self.streams))
        stop = min(claim.end, claim.position + count)
        self.written.append((claim.position, stop))
        claim.wrote(stop)

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.streams))
        self.streams.remove(claim)
        self.window.release(claim)

    @rule()
    def hash_all(self) -> None:
        self.hashed_bytes = self.window.readable_bytes

    @invariant()
    def what_can_be_read_was_written_once(self) -> None:
        position = 0
        for start, stop in sorted(part for part in self.written if part[0] < part[1]):
            assert start >= position, "written twice"
            if start > position:
                break
            position = stop
        assert self.window.readable_bytes <= position

    @invariant()
    def what_is_left_is_what_was_not_written(self) -> None:
        there = sum(stop - start for start, stop in self.written)
        assert self.window.left_bytes == self.size_bytes - there

    def teardown(self) -> None:
        """Whatever happened, going on brings the whole file."""
        while self.window.left_bytes:
            self.hashed_bytes = self.window.readable_bytes
            self.claim(256 * MIB)
            for claim in self.streams:
                self.written.append((claim.position, claim.end))
                claim.wrote(claim.end)
        assert self.window.readable_bytes == self.size_bytes
        self.what_can_be_read_was_written_once()


TestFetching = Fetching.TestCase


@given(st.integers(0, 500), st.integers(1, 200), st.integers(0, 500))
def test_every_byte_is_in_one_claim(size_bytes: int, range_bytes: int, kept_bytes: int) -> None:
    kept_bytes = min(kept_bytes, size_bytes)
    window = Window(size_bytes, range_bytes, kept_bytes)
    claimed = ranges(window, 0, size_bytes + 1)
    assert [b for start, stop in claimed for b in range(start, stop)] == list(
        range(kept_bytes, size_bytes)
    )
