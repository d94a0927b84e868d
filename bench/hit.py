"""What a hit costs: the initializer on a model, against an empty Python and kserve-storage.

    python -m bench.hit [--short] [--json FILE]

Models are 30 sparse files each; a hit looks at every file and reads a byte of it, so their bytes on
disk do not matter. All commands of all models take turns. Times are medians; `over empty` and `over
smallest` compare fastest runs, since what else a machine does only ever adds. `as the pod runs it`
is the whole command of a pod, with its shell and grep.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from demo.hub import Hub, Repo
from demo.kubelet import mapped
from initializer.program import program
from larder.contract import (
    INITIALIZER_COMMAND,
    SLOTS_MOUNT_ROOT,
    SLOTS_VARIABLE,
    TERMINATION_LOG_VARIABLE,
    SlotMount,
    format_slots,
)
from larder.identity import identity_of
from larder.layout import CONTENT, INITIALIZER, MANIFEST, Digest
from larder.manifest import ManifestFile, make_manifest

ENTRYPOINT = Path(__file__).parents[1] / "demo" / "entrypoint.py"
FILES = 30
SIZES_BYTES = (100_000_000, 1_000_000_000, 8_000_000_000)
DOWNLOADED_BYTES = 1_000_000_000  # larger models are not given to kserve-storage
ROUNDS, SHORT_ROUNDS = 61, 31
DOWNLOADS, SHORT_DOWNLOADS = 3, 1
GOAL_OVER_EMPTY_RATIO = 1.5
GOAL_OVER_SMALLEST_RATIO = 1.2  # flat in size, on a machine that does other things, too
PYTHON = (sys.executable, "-I", "-S")


@dataclass(frozen=True, eq=False)
class Slot:
    """A model on disk, as an agent leaves it, and the URI that a pod asks for."""

    size_bytes: int
    repo_id: str
    mount: Path
    environment: Mapping[str, str]

    @property
    def uri(self) -> str:
        """What the pod's arguments say."""
        return f"hf://{self.repo_id}"


@dataclass(frozen=True)
class Figures:
    """One model; kserve-storage only where it ran.

    Times are medians but for the fastest. `over_empty_ratio` and `over_smallest_ratio` (a hit
    against one of the smallest model) are of the fastest runs.
    """

    size_bytes: int
    files: int
    empty_fastest_ms: float
    empty_ms: float
    hit_fastest_ms: float
    hit_ms: float
    pod_fastest_ms: float
    pod_ms: float
    kserve_storage_seconds: float | None
    over_empty_ratio: float
    over_smallest_ratio: float
    download_over_pod_ratio: float | None


@dataclass(frozen=True)
class Rounds:
    """Seconds of one model's commands, round by round."""

    empty: list[float] = field(default_factory=list)
    hit: list[float] = field(default_factory=list)
    pod: list[float] = field(default_factory=list)
    download: list[float] = field(default_factory=list)


# --- what is measured ---------------------------------------------------------------------------


def make_slot(work: Path, size_bytes: int) -> Slot:
    """Write a slot whose content are sparse files: a Llama's shards and some small ones."""
    repo_id = f"bench/model-{size_bytes}"
    mount = work / "larder" / identity_of(f"hf://{repo_id}").key
    content = mount / CONTENT
    content.mkdir(parents=True)
    files = []
    for n in range(FILES):
        path = content / f"model-{n + 1:05}-of-{FILES:05}.safetensors"
        with path.open("wb") as file:
            file.truncate(size_bytes // FILES)
        files.append(ManifestFile(path.name, size_bytes // FILES, Digest("0" * 64)))
    (mount / MANIFEST).write_text(make_manifest(f"hf://{repo_id}", "c" * 40, files).text())
    (mount / INITIALIZER).write_bytes(program())
    row = SlotMount(f"hf://{repo_id}", str(mount), "", f"hf://{repo_id}")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        SLOTS_VARIABLE: format_slots([row]),
        TERMINATION_LOG_VARIABLE: str(work / "termination-log"),
    }
    return Slot(size_bytes, repo_id, mount, environment)


def seconds_of(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Wall time of a command, from before its start to its end."""
    start = time.perf_counter()
    subprocess.run(  # noqa: S603 - our own programs
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


def hit_seconds(slot: Slot, command: Sequence[str], work: Path) -> float:
    """One hit into an empty directory, which stays. Raises `RuntimeError` if it was none.

    ext4 takes milliseconds to make a link while it looks past inodes that were deleted in the last
    seconds: so nothing is deleted between the rounds, as nothing is before a pod starts.
    """
    destination = Path(tempfile.mkdtemp(prefix="models-", dir=work))
    seconds = seconds_of([*command, slot.uri, str(destination)], slot.environment)
    links = [path for path in destination.iterdir() if path.is_symlink() and path.exists()]
    if len(links) != FILES:
        raise RuntimeError(f"{len(links)} links instead of {FILES}: that was no hit")
    return seconds


def download_seconds(slot: Slot, endpoint: str, work: Path) -> float:
    """One download as KServe alone does it, into an empty directory."""
    destination = work / "models"
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(work / "home"), "HOME": str(work)}
    command = [sys.executable, "-I", str(ENTRYPOINT), slot.uri, str(destination)]
    seconds = seconds_of(command, environment)
    for directory in (destination, work / "home"):
        shutil.rmtree(directory, ignore_errors=True)
    return seconds


# --- the whole ----------------------------------------------------------------------------------


def run(*, short: bool) -> list[Figures]:
    """Measure every size; in short only the smallest is downloaded, once."""
    limit_bytes = min(SIZES_BYTES) if short else DOWNLOADED_BYTES
    rounds, downloads = (SHORT_ROUNDS, SHORT_DOWNLOADS) if short else (ROUNDS, DOWNLOADS)
    with tempfile.TemporaryDirectory(prefix="larder-bench-") as folder:
        work = Path(folder)
        slots = [make_slot(work, size_bytes) for size_bytes in SIZES_BYTES]
        downloaded = [slot for slot in slots if slot.size_bytes <= limit_bytes]
        measured = {slot: Rounds() for slot in slots}
        for n in range(rounds + 1):
            for slot, seconds in measured.items():
                play_round(slot, seconds if n else Rounds(), work)  # the first one warms up
        with Hub({s.repo_id: Repo.from_directory(s.mount / CONTENT) for s in downloaded}) as hub:
            for _ in range(downloads):
                for slot in downloaded:
                    measured[slot].download.append(download_seconds(slot, hub.url, work))
    smallest = measured[slots[0]]
    return [_figures(slot, seconds, smallest) for slot, seconds in measured.items()]


def play_round(slot: Slot, seconds: Rounds, work: Path) -> None:
    """Each command of a model once."""
    pod = [mapped(word, [SLOTS_MOUNT_ROOT], slot.mount.parents[1]) for word in INITIALIZER_COMMAND]
    seconds.empty.append(seconds_of([*PYTHON, "-c", "pass"], slot.environment))
    seconds.hit.append(hit_seconds(slot, [*PYTHON, str(slot.mount / INITIALIZER)], work))
    seconds.pod.append(hit_seconds(slot, pod, work))


def _figures(slot: Slot, seconds: Rounds, smallest: Rounds) -> Figures:
    pod_seconds = median(seconds.pod)
    cold_seconds = median(seconds.download) if seconds.download else None
    return Figures(
        size_bytes=slot.size_bytes,
        files=FILES,
        empty_fastest_ms=1000 * min(seconds.empty),
        empty_ms=1000 * median(seconds.empty),
        hit_fastest_ms=1000 * min(seconds.hit),
        hit_ms=1000 * median(seconds.hit),
        pod_fastest_ms=1000 * min(seconds.pod),
        pod_ms=1000 * pod_seconds,
        kserve_storage_seconds=cold_seconds,
        over_empty_ratio=min(seconds.hit) / min(seconds.empty),
        over_smallest_ratio=min(seconds.hit) / min(smallest.hit),
        download_over_pod_ratio=None if cold_seconds is None else cold_seconds / pod_seconds,
    )


def as_json(figures: Sequence[Figures]) -> dict[str, object]:
    """The figures, the goals, and whether they are met."""
    over_empty = max(f.over_empty_ratio for f in figures)
    over_smallest = max(f.over_smallest_ratio for f in figures)
    return {
        "models": [asdict(f) for f in figures],
        "worst": {"over_empty_ratio": over_empty, "over_smallest_ratio": over_smallest},
        "goals": {
            "over_empty_ratio": GOAL_OVER_EMPTY_RATIO,
            "over_smallest_ratio": GOAL_OVER_SMALLEST_RATIO,
        },
        "met": over_empty <= GOAL_OVER_EMPTY_RATIO and over_smallest <= GOAL_OVER_SMALLEST_RATIO,
    }


def table(figures: Sequence[Figures]) -> Table:
    """The figures for people."""
    columns = ("model", "files", "empty python3 ms", "hit ms", "over empty", "over smallest")
    shown = Table(
        *columns,
        "as the pod runs it ms",
        "kserve-storage s",
        "over the pod",
        title="hit: the initializer, an empty python3 -I -S, kserve-storage; fastest | median",
    )
    for f in figures:
        cold, ratio = f.kserve_storage_seconds, f.download_over_pod_ratio
        shown.add_row(
            decimal(f.size_bytes),
            str(f.files),
            f"{f.empty_fastest_ms:.1f} | {f.empty_ms:.1f}",
            f"{f.hit_fastest_ms:.1f} | {f.hit_ms:.1f}",
            f"{f.over_empty_ratio:.2f}x",
            f"{f.over_smallest_ratio:.2f}x",
            f"{f.pod_fastest_ms:.1f} | {f.pod_ms:.1f}",
            "-" if cold is None else f"{cold:.2f}",
            "-" if ratio is None else f"{ratio:.0f}x",
        )
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON. A missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="bench.hit", description="What a hit costs.")
    parser.add_argument("--short", action="store_true", help="fewer rounds, one small download")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    figures = run(short=options.short)
    document = as_json(figures)
    Console(width=160).print(table(figures))
    print(f"worst {document['worst']}, goals {document['goals']}, met: {document['met']}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
