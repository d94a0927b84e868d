"""`larder verify`: whether what was published still is what was verified. Changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.text import Text

from agent.store.root import CacheRoot
from cli import OutputForm
from cli.inputs import looking_at
from cli.output import (
    FOUND_A_PROBLEM,
    console,
    counted,
    in_bytes,
    refuse,
    say,
    show_json,
    show_table,
    styled,
)
from cli.verification import SlotReport, Verdict, Verifier, bytes_to_hash, published_keys
from larder.layout import Key, is_key
from runtime.clock import SystemClock

JSON_EXAMPLE: Final = """\
{
  "isIntact": false,
  "slots": [
    {
      "key": "52a2d80d4bc5fa16", "verdict": "Damaged", "storageUri": "hf://org/llama",
      "revision": "0e9e39f249a16976918f6564b8830bc894c89659", "files": 12, "sizeBytes": 4096,
      "damages": [
        {
          "path": "slots/52a2d80d4bc5fa16/content/config.json", "fault": "WrongDigest",
          "sentence": "has SHA-256 … instead of …"
        }
      ]
    }
  ],
  "hashedBytes": 4096,
  "seconds": 0.002
}"""

_STYLES: Final = {Verdict.INTACT: "green", Verdict.DAMAGED: "red", Verdict.GONE: "yellow"}


@dataclass(frozen=True, slots=True)
class Verification:
    """Everything that `larder verify` shows. `hashed_bytes` counts each inode once."""

    is_intact: bool
    slots: tuple[SlotReport, ...]
    hashed_bytes: int
    seconds: float


def verify(cache_root: Path, names: Sequence[str], output: OutputForm) -> int:
    """Verify slots of a root, all of them if none is named. Returns the exit status."""
    clock = SystemClock()
    started = clock.monotonic()
    with looking_at(cache_root) as root:
        try:
            keys = _chosen(published_keys(root.fd), names)
            reports, hashed_bytes = _verified(root, keys)
        except OSError as error:
            refuse(f"{cache_root} cannot be read: {error.strerror}")
    result = Verification(
        is_intact=not any(r.damages for r in reports),
        slots=reports,
        hashed_bytes=hashed_bytes,
        seconds=round(clock.monotonic() - started, 3),
    )
    if output == "json":
        show_json(result)
    else:
        _show(console(), result)
    return 0 if result.is_intact else FOUND_A_PROBLEM


def _chosen(published: tuple[Key, ...], names: Sequence[str]) -> tuple[Key, ...]:
    for name in names:
        if not is_key(name):
            refuse(f"{name!r} is not a slot's key; accepted: 16 hex digits, as larder ls shows")
        if name not in published:
            refuse(f"slot {name} holds no model; larder ls shows those that do")
    return tuple(k for k in published if not names or k in names)


def _verified(root: CacheRoot, keys: tuple[Key, ...]) -> tuple[tuple[SlotReport, ...], int]:
    """Every slot's report, with a progress bar where somebody may watch it."""
    watched = console(stderr=True)
    if not watched.is_terminal:
        return _each(Verifier(root.fd), keys)
    columns = (BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=watched, transient=True) as progress:
        task = progress.add_task("", total=bytes_to_hash(root.fd, keys))
        return _each(Verifier(root.fd, partial(progress.advance, task)), keys)


def _each(verifier: Verifier, keys: tuple[Key, ...]) -> tuple[tuple[SlotReport, ...], int]:
    reports = tuple(verifier.verify(key) for key in keys)
    return reports, verifier.hashed_bytes


def _show(out: Console, result: Verification) -> None:
    headers = ("KEY", "VERDICT", "FILES", "SIZE", "URI")
    show_table(out, headers, map(_row, result.slots), frozenset({"FILES", "SIZE"}))
    for report in result.slots:
        for damage in report.damages:
            say(out, styled(f"{damage.fault}: {damage.path} {damage.sentence}", "red"))
    hashed = f"{in_bytes(result.hashed_bytes)} hashed in {result.seconds:.1f} s"
    damaged = sum(r.verdict is Verdict.DAMAGED for r in result.slots)
    slots = counted(len(result.slots), "slot")
    if result.is_intact:
        say(out, styled(f"no damage in {slots}, {hashed}", "green"))
    else:
        say(out, styled(f"damage in {damaged} of {slots}, {hashed}", "red"))


def _row(report: SlotReport) -> tuple[str | Text, ...]:
    return (
        report.key,
        styled(report.verdict, _STYLES[report.verdict]),
        str(report.files),
        in_bytes(report.size_bytes),
        report.storage_uri or "",
    )
