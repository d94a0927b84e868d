"""Quantities are Kubernetes', durations Go's."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.quantities import (
    Share,
    format_bytes,
    format_duration,
    format_share,
    parse_duration,
    parse_quantity,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1", 1),
        ("500M", 500_000_000),
        ("3k", 3000),
        ("1Ki", 1024),
        ("1.5Ki", 1536),
        ("0.1Ki", 103),
        ("1500Gi", 1500 * 2**30),
        ("2Ti", 2 * 2**40),
        ("1P", 10**15),
        ("1Pi", 2**50),
        ("7Ei", 7 * 2**60),
        ("1E", 10**18),
        ("1E3", 1000),
        ("1e12", 10**12),
        ("1.000000001Gi", 2**30 + 2),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_quantity_is_bytes_rounded_up(text: str, size_bytes: int) -> None:
    assert parse_quantity(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "+1", "1 Gi", "1GB", "1gi", "Gi", "1ki", "1K", "100m", "1.Gi", "1e", "1e-3",
     "0x10", "1_000", "٣", "NaN", "1,5Gi", "1Gi\n"],
)  # fmt: skip
def test_what_is_no_quantity_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a quantity; accepted: 500M, 1500Gi, 2Ti, 1e12$"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["8Ei", "9223372036854775808", "1e99", "99999999999999999999Ei"])
def test_a_quantity_beyond_any_disk_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is larger than any disk; accepted: below 8Ei$"):
        parse_quantity(text)


@given(
    st.decimals(min_value=0, max_value=1000, places=9, allow_nan=False),
    st.sampled_from([("", 1), ("k", 10**3), ("M", 10**6), ("Gi", 2**30), ("Ti", 2**40)]),
)
def test_rounding_up_is_exact(number: object, suffix: tuple[str, int]) -> None:
    exact = Fraction(str(number)) * suffix[1]

    assert parse_quantity(f"{number:f}{suffix[0]}") == -(-exact.numerator // exact.denominator)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("90s", 90.0),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("24h", 86400.0),
        ("500ms", 0.5),
        ("1m500ms", 60.5),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("2ns", 2e-9),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "-5s", "1d", "1w", "5 m", "m", "1h 30m", "٣s", "1e3s"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; accepted: 90s, 30m, 1h30m, 24h$"):
        parse_duration(text)


@given(st.integers(0, 10**8).map(float) | st.floats(0, 10**6))
def test_a_formatted_duration_reads_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0s"), (90.0, "90s"), (1800.0, "30m"), (86400.0, "24h")]
)
def test_a_duration_is_written_in_its_largest_exact_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_share_is_bytes_or_a_percentage_of_the_filesystem() -> None:
    assert parse_share("80%").of_bytes(1000) == 800
    assert parse_share("12.5%").of_bytes(1000) == 125
    assert parse_share("0%").of_bytes(1000) == 0
    assert parse_share("2Gi").of_bytes(1000) == 2 * 2**30
    assert Share().of_bytes(1000) == 0


@pytest.mark.parametrize("text", ["101%", "-1%", "%", "80 %", "1e1%", "lots", "1000%"])
def test_what_is_neither_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a quantity nor a percentage; accepted: 1500Gi"):
        parse_share(text)


@pytest.mark.parametrize("text", ["5%", "12.5%", "100%", "0", "4096"])
def test_a_formatted_share_reads_back(text: str) -> None:
    assert format_share(parse_share(text)) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**20, "1 MiB"), (5 * 2**40, "5 TiB"),
     (int(1.25 * 2**30), "1.25 GiB"), (int(99.94 * 2**30), "99.9 GiB"), (1010 * 2**30, "1010 GiB"),
     (2**40 - 1, "1024 GiB")],
)  # fmt: skip
def test_bytes_for_people_have_three_digits(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text
