"""How fast a verified fill is: against everybody else on the same bytes, unverified, in one run.

    python -m bench.fill_race [--short] [--json FILE] [--directory DIR] [--rounds N]

Sources are on loopback, in processes of their own, and every way to fetch is one too: its wall time
counts from exec to exit. Of each the best round counts, since what else the machine does only ever
adds. Larder hashes, compares and syncs every byte; the others do neither.

A goal that holds for a machine of any size: nine tenths of the smaller of the best other rate and
of the rate at which SHA-256 goes over as many bytes at the same time, on what the best other way
leaves free. The last contest is a link of 20 ms that resets a window in a hundred: many streams
against one.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.fill import MIB, hub
from bench.slow_link import slow_link
from larder.layout import STAGING
from tests.fakes.s3_server import ACCESS_KEY, REGION, SECRET_KEY, Bucket, versitygw
from tests.fakes.servers import installed

BLOCK_BYTES = 16 * MIB
ROUND_TRIP_SECONDS = 0.02
HASH_CHUNK_BYTES = 256 * 1024
KEYS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": REGION,
}
GOALS = {
    "fair one file": 0.9,
    "fair eight files": 0.9,
    "hub over kserve": 2.0,
    "s3 over kserve": 1.2,
    "streams over one": 3.0,
}
GOAL_PEAK_MIB = 400.0


@dataclass(frozen=True)
class Run:
    """One way's best round."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


@dataclass
class Contest:
    """What several ways took for the same bytes; `hash_rate` is in MiB a second."""

    name: str
    size_mib: float
    ways: tuple[str, ...]
    runs: dict[str, Run] = field(default_factory=dict)
    hash_rate: float = 0.0

    def take(self, way: str, run: Run) -> None:
        """Keep the better round."""
        self.runs[way] = min(self.runs.get(way, run), run, key=lambda r: r.seconds)

    def rate(self, way: str) -> float:
        """MiB a second."""
        return self.size_mib / self.runs[way].seconds

    @property
    def best_other(self) -> str:
        """The fastest way that is not ours."""
        return max((way for way in self.runs if way != "larder"), key=self.rate)

    @property
    def fair(self) -> float:
        """Our rate, as a share of what can be asked for."""
        return self.rate("larder") / min(self.rate(self.best_other), self.hash_rate)


@dataclass(frozen=True)
class Model:
    """Files of one size below a folder."""

    folder: Path
    files: int
    file_mib: int

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [f"model-{n:05}-of-{self.files:05}.safetensors" for n in range(self.files)]

    @property
    def size_mib(self) -> int:
        """All of them."""
        return self.files * self.file_mib

    def make(self) -> None:
        """Write them; they differ in every block."""
        self.folder.mkdir(parents=True)
        block = bytearray(os.urandom(BLOCK_BYTES))
        for number, name in enumerate(self.names):
            with (self.folder / name).open("wb") as file:
                for part in range(self.file_mib * MIB // BLOCK_BYTES):
                    block[:16] = f"{number:8}{part:8}".encode()
                    file.write(block)

    def check(self, folder: Path) -> None:
        """Raise unless a way brought all of it, below any folder of its own."""
        found = {p.name: p.stat().st_size for p in folder.rglob("*.safetensors") if p.is_file()}
        if found != dict.fromkeys(self.names, self.file_mib * MIB):
            raise RuntimeError(f"{folder} holds {found}")


@dataclass(frozen=True)
class Sizes:
    """How much is moved, and how often."""

    large_mib: int = 4096
    shard_mib: int = 512
    far_mib: int = 512
    rounds: int = 3


@dataclass(frozen=True)
class Ground:
    """Where it happens."""

    folder: Path
    sizes: Sizes


SHORT = Sizes(large_mib=256, shard_mib=32, far_mib=64, rounds=1)


def fetch(way: str, uri: str, model: Model, folder: Path, *more: str) -> Run:
    """One way once, on a disk that owes nothing to what was before."""
    os.sync()
    command = [sys.executable, "-W", "ignore", "-m", "bench.fill_ways", way, uri, str(folder)]
    command += [*more, "--files", *model.names]
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own
        command, env={**os.environ, **KEYS}, capture_output=True, check=False, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr[-2000:]}")
    model.check(folder / STAGING if way == "larder" else folder)
    cost = json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(folder)
    shutil.rmtree(f"{folder}-home", ignore_errors=True)
    return Run(seconds, cost["cpu_seconds"], cost["peak_kib"] / 1024)


def compete(result: Contest, source: tuple[str, str], model: Model, ground: Ground) -> None:
    """All ways in turns at a source's URI and URL, and hashing beside the best other one."""
    uri, url = source
    for number in range(ground.sizes.rounds):
        for way in result.ways:
            folder = ground.folder / f"{way}-{number}"
            result.take(way, fetch(way, uri, model, folder, "--endpoint", url))
    with hashing(model) as hashed:
        fetch(result.best_other, uri, model, ground.folder / "beside", "--endpoint", url)
    result.hash_rate = hashed.rate()


class Hashing:
    """SHA-256 over files, round and round, in a process of its own."""

    def __init__(self, paths: Sequence[Path]) -> None:
        command = [sys.executable, "-c", _HASH, *map(str, paths)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own
        self._began = time.perf_counter()
        self._rate = 0.0

    def end(self) -> None:
        """Stop, and take in how far it came."""
        seconds = time.perf_counter() - self._began
        self._process.terminate()
        said, _ = self._process.communicate()
        self._rate = int(said) / MIB / seconds

    def rate(self) -> float:
        """MiB a second, of the wall's."""
        return self._rate


_HASH = f"""
import hashlib, itertools, signal, sys
count = 0
def end(*_):
    print(count, flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
for path in itertools.cycle(sys.argv[1:]):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read({HASH_CHUNK_BYTES}):
            digest.update(chunk)
            count += len(chunk)
"""


@contextlib.contextmanager
def hashing(model: Model) -> Iterator[Hashing]:
    """Hash a model's files for as long as the context."""
    hashed = Hashing([model.folder / name for name in model.names])
    try:
        yield hashed
    finally:
        hashed.end()


# --- the contests ---------------------------------------------------------------------------------


HUB_WAYS = ("larder", "kserve-storage", "snapshot_download", "curl", "obstore")
S3_WAYS = ("larder", "kserve-storage", "curl", "obstore")


def over_hub(name: str, files: int, file_mib: int, ground: Ground) -> Contest:
    """A model of the hub."""
    model = Model(ground.folder / "hub" / "bench" / name, files, file_mib)
    model.make()
    result = Contest(f"hub, {name}", model.size_mib, HUB_WAYS)
    with hub(ground.folder / "hub") as url:
        compete(result, (f"hf://bench/{name}", url), model, ground)
    shutil.rmtree(ground.folder / "hub")
    return result


def over_s3(file_mib: int, ground: Ground) -> Contest | None:
    """The one file from S3; None where versitygw is not installed."""
    if installed("versitygw") is None:
        return None
    model = Model(ground.folder / "model", 1, file_mib)
    model.make()
    (ground.folder / "s3").mkdir()
    result = Contest("s3, one-file", model.size_mib, S3_WAYS)
    with versitygw(ground.folder / "s3") as url:
        bucket = Bucket(url, "bench")
        for name in model.names:
            bucket.client.upload_file(str(model.folder / name), "bench", f"model/{name}")
        bucket.close()
        compete(result, ("s3://bench/model", url), model, ground)
    shutil.rmtree(ground.folder / "s3")
    shutil.rmtree(ground.folder / "model")
    return result


def over_slow_link(file_mib: int, ground: Ground) -> Contest:
    """Larder alone, with as many streams as it likes and with one."""
    model = Model(ground.folder / "hub" / "bench" / "far", 1, file_mib)
    model.make()
    result = Contest("20 ms and resets", model.size_mib, ("larder", "one stream"))
    with hub(ground.folder / "hub") as url:
        for way in result.ways * ground.sizes.rounds:
            with slow_link(url, ROUND_TRIP_SECONDS) as link:
                streams = "1" if way == "one stream" else "16"
                more = ("--endpoint", link.url, "--streams", streams)
                folder = ground.folder / "far"
                result.take(way, fetch("larder", "hf://bench/far", model, folder, *more))
    shutil.rmtree(ground.folder / "hub")
    return result


def run(sizes: Sizes, directory: Path | None) -> dict[str, Contest]:
    """Every contest, on one disk."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        ground = Ground(Path(name), sizes)
        found = {
            "one": over_hub("one-file", 1, sizes.large_mib, ground),
            "eight": over_hub("eight-files", 8, sizes.shard_mib, ground),
            "s3": over_s3(sizes.large_mib, ground),
            "far": over_slow_link(sizes.far_mib, ground),
        }
    return {key: contest for key, contest in found.items() if contest is not None}


# --- what is shown --------------------------------------------------------------------------------


def figures(contests: Mapping[str, Contest]) -> dict[str, float]:
    """What was measured for each goal; what was not measured is left out."""
    one, eight = contests["one"], contests["eight"]
    hubs = [c.rate("larder") / c.rate("kserve-storage") for c in (one, eight)]
    measured = {
        "fair one file": one.fair,
        "fair eight files": eight.fair,
        "hub over kserve": min(hubs),
        "streams over one": contests["far"].rate("larder") / contests["far"].rate("one stream"),
    }
    if "s3" in contests:
        s3 = contests["s3"]
        measured["s3 over kserve"] = s3.rate("larder") / s3.rate("kserve-storage")
    return measured


def as_json(contests: Mapping[str, Contest]) -> dict[str, object]:
    """The figures, the goals, and whether they are met."""
    measured = figures(contests)
    peak_mib = max(c.runs["larder"].peak_mib for c in contests.values())
    goals = {name: GOALS[name] for name in measured}
    are_met = all(measured[name] >= goal for name, goal in goals.items())
    return {
        **measured,
        "peak_mib": peak_mib,
        "contests": {key: asdict(contest) for key, contest in contests.items()},
        "goals": {**goals, "peak_mib": GOAL_PEAK_MIB},
        "met": are_met and peak_mib <= GOAL_PEAK_MIB,
        "load": re.split(r"\s", Path("/proc/loadavg").read_text())[0],
    }


def table(contest: Contest) -> Table:
    """A contest for people."""
    title = f"{contest.name}: {contest.size_mib:g} MiB"
    shown = Table("way", "seconds", "MiB/s", "CPU s", "peak MiB", title=title)
    for way, best in contest.runs.items():
        rate = f"{contest.rate(way):.0f}"
        cells = (f"{best.seconds:.2f}", rate, f"{best.cpu_seconds:.2f}", f"{best.peak_mib:.0f}")
        shown.add_row(way, *cells)
    if contest.hash_rate:
        shown.add_row(f"SHA-256 beside {contest.best_other}", "", f"{contest.hash_rate:.0f}")
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON. A missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="bench.fill_race", description="How fast a fill is.")
    parser.add_argument("--short", action="store_true", help="small models, once")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: /tmp")
    parser.add_argument("--rounds", type=int, help="of each way; default: 3, short 1")
    options = parser.parse_args(arguments)
    sizes = SHORT if options.short else Sizes()
    sizes = replace(sizes, rounds=options.rounds or sizes.rounds)
    contests = run(sizes, options.directory)
    document = as_json(contests)
    console = Console(width=100)
    for found in contests.values():
        console.print(table(found))
    summary = Table("figure", "measured", "goal", title="goals")
    for name, goal in GOALS.items():
        measured = figures(contests).get(name)
        summary.add_row(
            name, "not measured" if measured is None else f"{measured:.2f}", f"{goal:g}"
        )
    summary.add_row("peak MiB", f"{document['peak_mib']:.0f}", f"<= {GOAL_PEAK_MIB:g}")
    console.print(summary)
    print(f"met: {document['met']}; load of the last minute: {document['load']}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
