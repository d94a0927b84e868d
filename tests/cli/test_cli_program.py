"""The program as a whole: help and its page, exit statuses, colours, encodings, a fast start."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_cases import CATALOG, QWEN, RECORDED, REPOSITORY, CacheRoots, larder, shape_fault
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from agent.planning.values import Disk
from cli.__main__ import app
from cli.output import as_json, clean
from cli.reference import EXAMPLES, reference

COMMANDS = (
    ("catalog", "validate"),
    ("catalog", "schema"),
    ("demo",),
    ("doctor",),
    ("explain",),
    ("ls",),
    ("plan",),
    ("verify",),
)
HEAVY = {
    "asyncio", "fastapi", "huggingface_hub", "numpy", "prometheus_client", "pydantic", "rich",
    "sklearn", "structlog", "uvicorn", "yaml",
}  # fmt: skip


def spawn(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "cli", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def on_a_terminal(*arguments: object, **variables: str) -> tuple[int, str]:
    """Exit status and everything that a terminal of the program's own gets."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **variables}
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "cli", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # EIO: the other end was closed
        pass
    finally:
        os.close(ours)
    return process.wait(), shown.decode()


def test_the_page_of_the_command_is_current() -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text()
    assert page == reference(), "run: python -m cli.reference > docs/cli.md"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_help_with_an_example_and_a_sentence_an_option(
    command: tuple[str, ...],
) -> None:
    run = larder(*command, "--help")
    assert run.status == 0
    assert f"Example: larder {' '.join(command)}" in run.out
    found: Any = get_command(app)
    for name in command:
        found = found.commands[name]
    sentences = [found.help.partition("\n")[0], *(p.help for p in found.params)]
    assert len(sentences) > 1
    assert all(s.endswith(".") and s[0].isupper() and s.isprintable() for s in sentences)


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_documented_examples_are_json(command: str) -> None:
    assert shape_fault(json.loads(EXAMPLES[command]), json.loads(EXAMPLES[command])) is None


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["--version"], 0, id="the version"),
        pytest.param(["--help"], 0, id="the help"),
        pytest.param([], 2, id="nothing"),
        pytest.param(["evict"], 2, id="an unknown command"),
        pytest.param(["ls"], 2, id="a missing option"),
        pytest.param(["ls", "--cache-root", ".", "--force"], 2, id="an unknown option"),
        pytest.param(["ls", "--cache-root", "/nowhere"], 2, id="a root that is not there"),
        pytest.param(["ls", "--cache-root", "pyproject.toml"], 2, id="a root that is a file"),
        pytest.param(["verify", "--cache-root", "/nowhere"], 2, id="nothing to verify"),
        pytest.param(["catalog", "validate", "/nowhere.yaml"], 2, id="a missing catalog"),
        pytest.param(["catalog", "validate", "."], 2, id="a catalog that is a directory"),
        pytest.param(["catalog", "validate", "a\0b"], 2, id="a name that is none"),
        pytest.param(["catalog", "validate", "pyproject.toml"], 1, id="a file that is no catalog"),
        pytest.param(["catalog", "validate", "examples/catalog.yaml"], 0, id="our own example"),
        pytest.param(["ls", "--cache-root", ".", "-o", "yaml"], 2, id="an unknown form of output"),
        pytest.param(
            ["explain", "-f", "/nowhere", "--catalog", "examples/catalog.yaml"],
            2,
            id="a missing pod",
        ),
        pytest.param(
            [
                "plan",
                "--catalog",
                "examples/catalog.yaml",
                "--cache-root",
                "/nowhere",
                "--node-name",
                "n",
            ],
            2,
            id="a plan for a root that is not there",
        ),
    ],
)
def test_exit_statuses(arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    run = larder(*arguments)
    assert run.status == status
    assert (run.err == "") is (status != 2)
    assert (run.out == "") is (status == 2)


def test_wrong_use_is_one_sentence_on_standard_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing\x1b[31m.yaml"
    run = spawn("catalog", "validate", missing)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == (
        f"larder: {tmp_path}/missing\\x1b[31m.yaml cannot be read: No such file or directory\n"
    )


def test_help_and_version_import_nothing_heavy() -> None:
    for argument in ("--help", "--version"):
        script = (
            "import sys\nfrom cli.__main__ import main\n"
            f"sys.argv = ['larder', {argument!r}]\n"
            "try:\n  main()\nexcept SystemExit as end:\n  assert not end.code\n"
            "print(*sorted(sys.modules), file=sys.stderr)\n"
        )
        run = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", script],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = {name.partition(".")[0] for name in run.stderr.split()}
        assert loaded & HEAVY == set()


def test_a_pipe_gets_no_colour_and_a_row_a_line(stocked: CacheRoots) -> None:
    run = spawn("ls", "--cache-root", stocked.path, COLUMNS="20")
    assert run.returncode == 0
    assert "\x1b" not in run.stdout
    assert any(QWEN in line and "Qwen2-0.5B-Instruct" in line for line in run.stdout.splitlines())


def test_a_terminal_gets_colour_unless_no_color_says_otherwise(stocked: CacheRoots) -> None:
    status, shown = on_a_terminal("ls", "--cache-root", stocked.path, NO_COLOR="")
    assert status == 0
    assert "\x1b[32m" in shown
    status, shown = on_a_terminal("ls", "--cache-root", stocked.path, NO_COLOR="1")
    assert status == 0
    assert "\x1b" not in shown
    assert "Ready" in shown


def test_verifying_on_a_terminal_shows_progress_and_the_same_verdict(stocked: CacheRoots) -> None:
    file = stocked.content(QWEN) / "config.json"
    file.chmod(0o644)
    file.write_bytes(b"[]")
    status, shown = on_a_terminal("verify", "--cache-root", stocked.path, NO_COLOR="")
    assert status == 1
    assert "/5.2 KiB" in shown  # of all inodes, in the progress bar
    assert "WrongDigest" in shown


def test_an_output_that_knows_ascii_only_gets_escapes(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG.replace("https://h/tree.zip", "https://h/b\u00e4ume.zip"))
    run = spawn("catalog", "validate", catalog, PYTHONIOENCODING="ascii")
    assert (run.returncode, run.stderr) == (0, "")
    assert "https://h/b\\xe4ume.zip" in run.stdout


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m cli catalog schema | head -c 10"
    run = subprocess.run(  # noqa: S602 - our own program and a pipe
        command, shell=True, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (len(run.stdout), run.stderr) == (10, "")


def test_the_program_explains_as_a_process(catalog: Path) -> None:
    review = RECORDED / "hf-raw.after-kserve.json"
    run = spawn("explain", "-f", review, "--catalog", catalog, "-o", "json")
    assert run.returncode == 0
    assert json.loads(run.stdout)["reason"] == "Cached"


@given(st.text())
def test_a_cleaned_text_is_printable_and_printable_text_stays(text: str) -> None:
    assert clean(text).isprintable()
    clean(text).encode()
    if text.isprintable():
        assert clean(text) == text


def test_keys_of_documents_are_camel_case() -> None:
    assert as_json({"a": (Disk(1, 2), None)}) == {
        "a": [{"totalBytes": 1, "availableBytes": 2}, None]
    }
