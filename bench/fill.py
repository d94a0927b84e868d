"""What verifying costs: Larder's fill against KServe's own download of the same model.

    python -m bench.fill [--short] [--json FILE] [--directory DIR]

Larder hashes every byte, compares it with what the hub listed and syncs it to the disk;
`kserve-storage` does neither. Both run as processes of their own, against one hub that is a third,
in turns, and their whole wall time counts, from exec to exit. In the same run: the rate of SHA-256
over the model in the page cache, that of writing it down and syncing, and the peak memory of the
agent's process while its child fills.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from agent.fill.job import Job, Operation
from agent.fill.runner import FillResult, Fills
from larder.layout import STAGING, Key
from runtime.clock import SystemClock
from runtime.logs import configure_logs

MIB = 1024 * 1024
BLOCK_BYTES = 16 * MIB
SHARDS = 2
MODEL = "bench/model"
KEY = Key("0" * 16)
GOAL_RATIO = 1.0
GOAL_AGENT_MIB = 90.0
KSERVE = (
    f"import sys; from kserve_storage import Storage; Storage.download('hf://{MODEL}', sys.argv[1])"
)
CATALOG = """
apiVersion: larder.dev/v1alpha1
kind: Catalog
models:
  - name: bench
    storageUri: hf://{model}
    revision: main
    namespaces: [bench]
    fetchFrom: {url}
"""


@dataclass(frozen=True)
class Figures:
    """The best of all rounds, since what else the machine does only ever adds."""

    size_bytes: int
    larder_seconds: float
    kserve_seconds: float
    hash_seconds: float
    disk_seconds: float
    agent_peak_mib: float

    @property
    def ratio(self) -> float:
        """How many times faster than KServe's download a verified fill is."""
        return self.kserve_seconds / self.larder_seconds

    def mib_per_second(self, seconds: float) -> float:
        """The rate at which the model was moved."""
        return self.size_bytes / MIB / seconds


# --- the model and its hub ------------------------------------------------------------------------


def make_model(folder: Path, size_bytes: int) -> list[Path]:
    """Shards that differ in every block; returns them."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    shards = []
    block = bytearray(os.urandom(BLOCK_BYTES))
    for shard in range(SHARDS):
        path = folder / f"model-{shard + 1}-of-{SHARDS}.safetensors"
        with path.open("wb") as file:
            for number in range(size_bytes // SHARDS // BLOCK_BYTES):
                block[:16] = f"{shard:8}{number:8}".encode()
                file.write(block)
        shards.append(path)
    return shards


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[str]:
    """A hub in a process of its own; gives its URL."""
    command = [sys.executable, "-m", "demo.hub", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            if process.stdout is None:
                raise AssertionError("it is a pipe")
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


# --- what is measured -----------------------------------------------------------------------------


def timed(work: Callable[[], None]) -> float:
    """Seconds that something takes, on a disk that owes nothing to what was before."""
    os.sync()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def fill(url: str, root: Path) -> None:
    """Resolve and fill, each in its child, up to the staging that only a rename separates."""
    root.mkdir()
    ended = threading.Event()
    fills = Fills(clock=SystemClock(), wake=ended.set)
    for operation in Operation:
        fills.start(Job(operation, str(root), KEY, f"hf://{MODEL}", "main", url), 0)
        results: tuple[FillResult, ...] = ()
        while not results:
            ended.wait()
            ended.clear()
            results = fills.take_finished()
        if results[0].error is not None:
            raise results[0].error


def download(url: str, folder: Path) -> None:
    """KServe's own download, as its storage initializer does it."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder.with_name("hf-home")),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    folder.mkdir()
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", KSERVE, str(folder)],
        env=environment,
        check=True,
        capture_output=True,
    )


def hash_all(shards: Sequence[Path]) -> None:
    """SHA-256 over files in the page cache."""
    for path in shards:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def write_all(shards: Sequence[Path], folder: Path) -> None:
    """Write the same bytes once more and wait for the disk."""
    folder.mkdir()
    for path in shards:
        with path.open("rb") as source, (folder / path.name).open("wb") as target:
            shutil.copyfileobj(source, target, MIB)
            os.fdatasync(target.fileno())


def agent_peak_mib(url: str, folder: Path) -> float:
    """The peak resident memory of a whole agent's own process that fills the model once."""
    folder.mkdir()
    catalog = folder / "catalog.yaml"
    catalog.write_text(CATALOG.format(model=MODEL, url=url))
    command = [
        *(sys.executable, "-m", "agent", "--once", "--allow-any-disk", "--node-name", "bench"),
        *("--catalog", str(catalog), "--cache-root", str(folder / "root")),
    ]
    peak_kib = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - our own
        status = Path(f"/proc/{process.pid}/status")
        pause = threading.Event()
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            peak_kib = int(found[1]) if found else peak_kib
            pause.wait(0.05)
    if process.returncode != 0:
        raise RuntimeError(f"the agent ended with status {process.returncode}")
    return peak_kib / 1024


def run(*, short: bool, directory: Path | None = None) -> Figures:
    """Measure everything on one disk."""
    size_bytes, rounds = (128 * MIB, 2) if short else (1024 * MIB, 3)
    with tempfile.TemporaryDirectory(dir=directory) as name:
        folder = Path(name)
        shards = make_model(folder / "hub" / MODEL, size_bytes)
        with hub(folder / "hub") as url:
            seconds = [_round(url, shards, folder / f"round-{n}") for n in range(rounds)]
            peak_mib = agent_peak_mib(url, folder / "agent")
    larder, kserve, hashed, written = (min(column) for column in zip(*seconds, strict=True))
    return Figures(size_bytes, larder, kserve, hashed, written, peak_mib)


def _round(url: str, shards: Sequence[Path], folder: Path) -> tuple[float, float, float, float]:
    folder.mkdir()
    seconds = (
        timed(lambda: fill(url, folder / "larder")),
        timed(lambda: download(url, folder / "kserve")),
        timed(lambda: hash_all(shards)),
        timed(lambda: write_all(shards, folder / "written")),
    )
    for path in shards:
        filled = folder / "larder" / STAGING / KEY / "tree" / path.name
        if filled.stat().st_size != path.stat().st_size:
            raise RuntimeError(f"{path.name} was not filled")
    shutil.rmtree(folder)
    return seconds


# --- what is shown --------------------------------------------------------------------------------


def as_json(figures: Figures) -> dict[str, object]:
    """The figures, the goals, and whether they are met."""
    return {
        **asdict(figures),
        "ratio": figures.ratio,
        "goals": {"ratio": GOAL_RATIO, "agent_peak_mib": GOAL_AGENT_MIB},
        "met": figures.ratio >= GOAL_RATIO and figures.agent_peak_mib <= GOAL_AGENT_MIB,
    }


def table(figures: Figures) -> Table:
    """The figures for people."""
    size = f"{figures.size_bytes // MIB} MiB"
    shown = Table("way", "seconds", "MiB/s", "x kserve-storage", title=f"fill: a model of {size}")
    for way, seconds in (
        ("larder: verified, synced", figures.larder_seconds),
        ("kserve-storage: neither", figures.kserve_seconds),
        ("SHA-256 from the page cache", figures.hash_seconds),
        ("write and sync", figures.disk_seconds),
    ):
        rate, times = figures.mib_per_second(seconds), figures.kserve_seconds / seconds
        shown.add_row(way, f"{seconds:.2f}", f"{rate:.0f}", f"{times:.2f}")
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON. A missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="bench.fill", description="What verifying costs.")
    parser.add_argument("--short", action="store_true", help="128 MiB instead of 1 GiB")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: /tmp")
    options = parser.parse_args(arguments)
    configure_logs("bench", level="warning")
    figures = run(short=options.short, directory=options.directory)
    document = as_json(figures)
    Console(width=100).print(table(figures))
    print(
        f"agent's own process: {figures.agent_peak_mib:.0f} MiB; fill {figures.ratio:.2f}x;"
        f" goals {document['goals']}, met: {document['met']}"
    )
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
