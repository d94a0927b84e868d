"""Quantities and durations as admins write them: Kubernetes' (`1500Gi`), Go's (`1h30m`), percent.

Every parser raises `ValueError` with one clause that says what is accepted.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

_SUFFIXES = {
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)(?:([kMGTPE]i?|Ki)|[eE]([0-9]{1,2}))?")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h)){1,9}")
_DURATION_PART = re.compile(r"([0-9.]+)([nuµm]?s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%")
_LARGEST_BYTES = 2**63 - 1
_WHOLE_PERCENT = 100


def parse_quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity, rounded up to a whole byte."""
    match = _QUANTITY.fullmatch(text)
    if not match or match[2] == "ki":
        raise ValueError(f"{text!r} is not a quantity; accepted: 500M, 1500Gi, 2Ti, 1e12")
    number, suffix, exponent = match.groups()
    scale = Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""]
    value = int((Decimal(number) * scale).to_integral_value(ROUND_CEILING))
    if value > _LARGEST_BYTES:
        raise ValueError(f"{text!r} is larger than any disk; accepted: below 8Ei")
    return value


def parse_duration(text: str) -> float:
    """Seconds of a Go duration."""
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; accepted: 90s, 30m, 1h30m, 24h")
    parts = _DURATION_PART.findall(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Seconds as a Go duration of one unit: the largest that is exact, else seconds."""
    for unit in ("h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


@dataclass(frozen=True, slots=True)
class Share:
    """An amount of a disk: so many bytes, or a percentage of the filesystem."""

    size_bytes: int | None = None
    percent: float | None = None

    def of_bytes(self, filesystem_bytes: int) -> int:
        """The amount in bytes on a filesystem of that size."""
        if self.size_bytes is not None:
            return self.size_bytes
        return int(filesystem_bytes * (self.percent or 0.0) / _WHOLE_PERCENT)


def parse_share(text: str) -> Share:
    """A quantity, or a percentage from 0% to 100%."""
    if match := _PERCENT.fullmatch(text):
        percent = float(match[1])
        if percent <= _WHOLE_PERCENT:
            return Share(percent=percent)
    try:
        return Share(size_bytes=parse_quantity(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a quantity nor a percentage; accepted: 1500Gi, 80%"
        ) from None


def format_share(share: Share) -> str:
    """A share as an admin writes it: `80%`, or bytes."""
    return f"{share.percent:g}%" if share.size_bytes is None else str(share.size_bytes)


_HUNDRED = 100  # from here on no decimals
_STEPS = (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))


def format_bytes(size_bytes: int) -> str:
    """Bytes for people: `1.5 GiB`, three digits; four from 1000 to the next unit."""
    for suffix, step in _STEPS:
        if size_bytes >= step:
            amount = size_bytes / step
            return f"{amount:.0f} {suffix}B" if amount >= _HUNDRED else f"{amount:.3g} {suffix}B"
    return f"{size_bytes} B"
