"""The whole demo, as its users start it: what it prints, and that it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE_SECONDS = 120.0  # only a failing test waits so long
COMMAND = [sys.executable, "-m", "cli", "demo"]
SIZE = ["--size", "2MB"]

StartDemo = Callable[..., subprocess.Popen[str]]


def still_in(directory: Path) -> list[str]:
    """Processes that work in a directory, and what lies in it."""
    left = [str(path) for path in directory.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            cwd, command = (process / "cwd").readlink(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if cwd.is_relative_to(directory) or os.fsencode(directory) in command:
            left.append(command.decode(errors="replace"))
    return left


@pytest.fixture
def work(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


@pytest.fixture
def start_demo(work: Path) -> Iterator[StartDemo]:
    """Start the demo in a session of its own, with its temporary directory in `work`."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(work), "LC_ALL": "C.UTF-8"}
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_demo_measures_a_cold_and_a_cached_start_of_each_model(
    start_demo: StartDemo, work: Path
) -> None:
    demo = start_demo(*SIZE, "--output", "json")
    output, steps = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 0, steps
    report = json.loads(output)
    iris, llama = report["models"]
    assert (iris["name"], llama["name"]) == ("iris", "llama")
    for model in (iris, llama):
        assert model["decision"] == "Cached"
        assert model["cold"]["hubBytes"] >= model["sizeBytes"]
        assert model["cached"]["hubBytes"] == 0
        assert 0 < model["cached"]["seconds"] < model["cold"]["seconds"]
        assert model["ratio"] > 1
        assert model["fillSeconds"] > 0
    assert llama["sizeBytes"] > 2_000_000
    assert "of 150 right" in iris["check"]
    assert "all as written" in llama["check"]
    assert report["uncachedNode"]["hubBytes"] >= iris["sizeBytes"]
    assert still_in(work) == []


def test_without_a_terminal_the_demo_prints_plain_lines_a_diff_and_a_table(
    start_demo: StartDemo, work: Path
) -> None:
    demo = start_demo(*SIZE)
    output, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert (demo.returncode, errors) == (0, "")
    assert "\x1b" not in output
    assert "\r" not in output
    lines = output.splitlines()
    assert sum(line.startswith("✓") for line in lines) == 11
    assert "    +    larder.dev/decision: Cached" in lines
    assert not [line for line in lines if line.startswith("    -")]
    assert any(line.startswith("llama") and "0 bytes" in line for line in lines)
    assert still_in(work) == []


@pytest.mark.parametrize(
    ("after", "number"),
    [
        pytest.param("✓ serve", signal.SIGINT, id="Ctrl-C while the agent fills"),
        pytest.param("✓ webhook", signal.SIGTERM, id="SIGTERM while KServe downloads"),
        pytest.param("✓ llama: use", signal.SIGINT, id="Ctrl-C near the end"),
    ],
)
def test_an_interrupted_demo_leaves_nothing_behind(
    start_demo: StartDemo, work: Path, after: str, number: signal.Signals
) -> None:
    demo = start_demo(*SIZE)
    assert demo.stdout
    assert demo.stderr
    assert any(line.startswith(after) for line in demo.stdout)
    assert still_in(work) != []
    demo.send_signal(number)
    _, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 128 + number
    assert errors == "larder demo: interrupted; nothing is left behind\n"
    assert still_in(work) == []


def test_a_step_that_fails_is_told_in_a_sentence_and_leaves_nothing_behind(
    start_demo: StartDemo, work: Path
) -> None:
    demo = start_demo("--hub", "http://127.0.0.1:1", "--model", "acme/tiny")
    output, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 1
    assert output.startswith("✗ agent")
    assert errors.startswith("larder demo: the agent could not fill tiny: ")
    assert errors.count("\n") == 1
    assert still_in(work) == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--size", "3x"], id="a size that is none"),
        pytest.param(["--size", "1kB"], id="a size that is too small"),
        pytest.param(["--size", "9" * 30], id="a size larger than any disk"),
        pytest.param(["--hub", "http://127.0.0.1:1"], id="a hub without a model"),
        pytest.param(["--model", "acme/tiny"], id="a model without a hub"),
        pytest.param(["--revision", "main"], id="a revision without a model"),
        pytest.param(["--hub", "ftp://h", "--model", "a/b"], id="a hub that is no URL"),
        pytest.param(["--hub", "http://h", "--model", "a"], id="a model without an owner"),
        pytest.param(["--hub", "http://h", "--model", "a/b:c"], id="a model with a revision"),
        pytest.param(["--output", "xml"], id="an output that is none"),
    ],
)
def test_wrong_use_ends_with_status_2_and_starts_nothing(
    start_demo: StartDemo, work: Path, arguments: list[str]
) -> None:
    demo = start_demo(*arguments)
    output, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert (demo.returncode, output) == (2, "")
    assert "Traceback" not in errors
    assert still_in(work) == []


def test_a_disk_that_is_too_small_is_said_before_anything_is_made(
    start_demo: StartDemo, work: Path
) -> None:
    demo = start_demo("--size", "900PB")
    _, errors = demo.communicate(timeout=PATIENCE_SECONDS)
    assert demo.returncode == 1
    assert "free and the demo needs" in errors
    assert still_in(work) == []
