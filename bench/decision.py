"""What the pure part of a review costs: the decision, its patch and the look at its own work.

    python -m bench.decision [--short] [--json FILE]

In this process, on its CPU's time. The pod is the largest recorded one, padded to 20 KB; the goal
in milliseconds is for a core on which `orjson.loads` takes 25 microseconds for it, so the figure
to look at elsewhere is the ratio. Catalogs of several sizes are asked in turns, each figure is the
best of many rounds, since whatever else the machine does only ever makes it worse.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from bench.admission import CATALOG, reviews
from larder.catalog import Catalog, read_catalog
from larder.contract import DecisionReason
from larder.matching import CatalogIndex, SourceView
from webhook.mutation import AdmissionRequest, View, decide

FEW, USUAL, MANY = 10, 500, 5_000
MODEL: Final = "s3://models/llama"
GOAL_DECISION_MS = 1.0
GOAL_DECISION_OVER_LOADS = 40.0  # 1.0 ms to 25 us
GOAL_MATCHING_GROWTH = 1.2


@dataclass(frozen=True)
class Figures:
    """CPU's time: of one decision and of reading its pod in ms, of one match by entries in us."""

    entries: int
    pod_bytes: int
    decision_ms: float
    loads_ms: float
    match_us: dict[int, float]

    @property
    def decision_over_loads(self) -> float:
        """A decision as a multiple of reading the pod's JSON."""
        return self.decision_ms / self.loads_ms

    @property
    def matching_growth(self) -> float:
        """A match among many entries as a multiple of one among few."""
        return self.match_us[MANY] / self.match_us[FEW]


def catalog_of(entries: int) -> Catalog:
    """A catalog of so many entries; the pod's models are the first of them."""
    few = read_catalog(CATALOG.encode(), standalone=True)
    models = [
        f"- {{name: m{i}, storageUri: 's3://bucket-{i}/model', namespaces: [chat]}}"
        for i in range(entries - len(few.models))
    ]
    return read_catalog((CATALOG + "\n".join(models)).encode(), standalone=True)


def seconds_for(work: Callable[[], object], times: int) -> float:
    """The CPU's time for one of many runs."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def run(*, short: bool) -> Figures:
    """Measure everything in turns, and keep the best."""
    rounds, times = (5, 100) if short else (15, 300)
    indexes = {n: CatalogIndex(catalog_of(n)) for n in (FEW, USUAL, MANY)}
    pod = orjson.loads(reviews()["20 KB"])["request"]["object"]
    body = orjson.dumps(pod)
    view = View(indexes[USUAL], PurePosixPath("/var/lib/larder"))
    request = AdmissionRequest(pod, "chat")
    if decide(request, view).reason is not DecisionReason.CACHED:
        raise RuntimeError("the pod is not served: there is nothing to measure")
    works: dict[str, Callable[[], object]] = {
        "decision": lambda: decide(request, view),
        "loads": lambda: orjson.loads(body),
        **{
            f"match {n}": lambda i=index: i.match(MODEL, "chat", SourceView())
            for n, index in indexes.items()
        },
    }
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            best[name] = min(best[name], seconds_for(work, times))
    return Figures(
        USUAL,
        len(body),
        1e3 * best["decision"],
        1e3 * best["loads"],
        {n: 1e6 * best[f"match {n}"] for n in indexes},
    )


def as_json(figures: Figures) -> dict[str, object]:
    """The figures, the goals, and whether they are met."""
    goals = {
        "decision_ms": GOAL_DECISION_MS,
        "decision_over_loads": GOAL_DECISION_OVER_LOADS,
        "matching_growth": GOAL_MATCHING_GROWTH,
    }
    worst = {name: getattr(figures, name) for name in goals}
    met = all(worst[name] <= goal for name, goal in goals.items())
    return {**asdict(figures), "worst": worst, "goals": goals, "met": met}


def table(figures: Figures) -> Table:
    """The figures for people."""
    shown = Table("what", "CPU", "goal", title="decision, patch and the look at its own work")
    shown.add_row(
        f"decision, {figures.pod_bytes} bytes, {figures.entries} entries",
        f"{figures.decision_ms:.3f} ms",
        f"{GOAL_DECISION_MS:g} ms",
    )
    ratio = f"{figures.decision_over_loads:.1f}x of {1e3 * figures.loads_ms:.1f} us"
    shown.add_row("  as a multiple of orjson.loads", ratio, f"{GOAL_DECISION_OVER_LOADS:g}x")
    for entries, took in figures.match_us.items():
        shown.add_row(f"match among {entries} entries", f"{took:.2f} us", "")
    growth = f"{figures.matching_growth:.2f}x"
    shown.add_row(f"  {MANY} entries to {FEW}", growth, f"{GOAL_MATCHING_GROWTH:g}x")
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON. A missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="bench.decision", description="What deciding costs.")
    parser.add_argument("--short", action="store_true", help="fewer rounds, a few seconds")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    figures = run(short=options.short)
    Console(width=160).print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(as_json(figures), indent=2) + "\n")


if __name__ == "__main__":
    main()
