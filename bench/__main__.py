"""Every benchmark, each in a process of its own, and one table of goals at the end.

    python -m bench [--short]

    bench/results/latest.json    all figures of the last run, by benchmark

A missed goal is a figure, told as it is; only a benchmark that fails ends this with status 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "bench" / "results" / "latest.json"
BENCHMARKS = ("decision", "admission", "hit", "fill")

Document = Mapping[str, Any]


def run(name: str, *, short: bool) -> Document | None:
    """Run one benchmark, which prints its own table; None if it wrote no figures."""
    with tempfile.TemporaryDirectory(prefix="larder-bench-") as folder:
        figures = Path(folder, "figures.json")
        flags = ["--json", str(figures), *(["--short"] if short else [])]
        command = [sys.executable, "-m", f"bench.{name}", *flags]
        subprocess.run(command, cwd=REPOSITORY, check=False)  # noqa: S603 - our own program
        document: Document | None = json.loads(figures.read_text()) if figures.exists() else None
    return document


def outcomes(document: Document) -> Iterator[tuple[str, float, float]]:
    """Each goal of a benchmark: what it is about, what was measured, what is wanted."""
    for name, goal in document["goals"].items():
        yield name, document.get("worst", document)[name], goal


def goals_table(documents: Mapping[str, Document | None]) -> Table:
    """What was promised and what was measured."""
    table = Table("benchmark", "figure", "worst", "goal", title="goals")
    for name, document in documents.items():
        if document is None:
            table.add_row(name, "it failed", "-", "-")
            continue
        for figure, worst, goal in outcomes(document):
            table.add_row(name, figure, f"{worst:.2f}", f"{goal:g}")
        table.add_row(name, "met", "yes" if document["met"] else "NO", "")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all benchmarks; 1 if one brought no figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Every benchmark.")
    parser.add_argument("--short", action="store_true", help="in a minute, with coarse figures")
    short = parser.parse_args(arguments).short
    documents = {name: run(name, short=short) for name in BENCHMARKS}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"short": short, **documents}, indent=2) + "\n")
    Console(width=160).print(goals_table(documents))
    print(f"all figures: {RESULTS.relative_to(REPOSITORY)}")
    return 0 if all(documents.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
