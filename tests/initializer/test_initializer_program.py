"""The one file: self-contained, for Python 3.9, and in step with the contract that it repeats."""

import ast
import os
import posix
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slots_and_pods import Pod, Slot

from initializer import hit, watch
from initializer.hit import NotHit
from initializer.program import SIBLINGS, program
from larder import contract, layout, manifest, status
from larder.status import ModelState

MODULES = ("hit", *SIBLINGS)
SOURCES = {name: files("initializer").joinpath(f"{name}.py").read_text("utf-8") for name in MODULES}


def strings_of(source: str) -> set[str]:
    """Every string constant, with bytes and the fixed parts of f-strings."""
    constants = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
    return {
        c.decode() if isinstance(c, bytes) else c for c in constants if isinstance(c, str | bytes)
    }


def test_the_program_carries_every_module_as_it_is() -> None:
    *_, start, _end = ast.parse(program() + b"end").body

    assert isinstance(start, ast.Expr)
    assert isinstance(start.value, ast.Call)
    carried = ast.literal_eval(start.value.args[0])
    assert carried == {f"initializer.{name}": "\n" + SOURCES[name] for name in SIBLINGS}
    assert program().startswith(SOURCES["hit"].encode())


def test_the_programs_last_line_is_what_the_shell_looks_for() -> None:
    assert program().decode().splitlines()[-1] == contract.INITIALIZER_END
    assert program().decode().splitlines().count(contract.INITIALIZER_END) == 1


def vermin(path: str) -> "subprocess.CompletedProcess[str]":
    """Let vermin check a file against Python 3.9 and later."""
    command = [sys.executable, "-c", "import vermin; vermin.main()"]
    options = ["--no-tips", "--violations", "-t=3.9-", path]
    return subprocess.run(  # noqa: S603 - our own tool
        [*command, *options], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_python_3_9(name: str) -> None:
    ast.parse(SOURCES[name], feature_version=(3, 9))

    checked = vermin(str(files("initializer").joinpath(f"{name}.py")))

    assert checked.returncode == 0, checked.stdout


def test_vermin_would_find_a_later_python(tmp_path: Path) -> None:
    later = tmp_path / "later.py"
    later.write_text("import tomllib\n")

    checked = vermin(str(later))

    assert (checked.returncode, "'tomllib' module requires" in checked.stdout) == (1, True)


@pytest.mark.parametrize("name", MODULES)
def test_no_module_imports_what_a_pod_does_not_have(name: str) -> None:
    before = {f"initializer.{n}" for n in MODULES[: MODULES.index(name)]}
    imported = {
        n.module if isinstance(n, ast.ImportFrom) else n.names[0].name
        for n in ast.walk(ast.parse(SOURCES[name]))
        if isinstance(n, ast.Import | ast.ImportFrom)
    }

    assert {str(m).partition(".")[0] for m in imported - before} <= sys.stdlib_module_names
    if name == "hit":
        assert imported <= set(sys.builtin_module_names)


def pythons() -> list[str]:
    """This Python, and the others that this machine has."""
    others = [shutil.which(f"python3.{minor}") for minor in range(9, 16)]
    return [sys.executable, *(python for python in others if python and works(python))]


def works(python: str) -> bool:
    """Whether it is one (pyenv leaves scripts for those that are not chosen)."""
    command = [python, "-I", "-S", "-c", "pass"]
    return not subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603 - found above


@pytest.mark.parametrize("python", pythons(), ids=os.path.basename)
def test_it_runs_on_every_python_of_this_machine(pod: Pod, slot: Slot, python: str) -> None:
    slot.publish()
    command = [python, "-I", "-S", str(pod.initializer), "hf://o/m", str(pod.models)]

    first = pod.run_command(command, [slot.row()])
    second = pod.run_command(command, [slot.row()])
    (slot.path / "quarantined").touch()
    third = pod.run_command(command, [slot.row()])

    assert (first.message[:3], second.message[:3]) == ("hit", "hit")
    assert third.fallback == ["hf://o/m", str(pod.models)]


# --- in step with the contract ----------------------------------------------------------------


def test_every_repeated_number_is_the_contracts() -> None:
    assert watch.STATUS_APPEARS_SECONDS == contract.STATUS_APPEARS_SECONDS
    assert watch.QUEUED_WITHOUT_ETA_SECONDS == contract.QUEUED_WITHOUT_ETA_SECONDS
    assert watch.STALLED_SECONDS == contract.STALLED_SECONDS
    assert watch.RESTARTING_SECONDS == contract.RESTARTING_SECONDS
    assert watch.DEFAULT_JOIN_TIMEOUT_SECONDS == contract.DEFAULT_JOIN_TIMEOUT_SECONDS
    assert status.VERSION == watch.STATUS_VERSION
    assert contract.CONTRACT_VERSION == manifest.VERSION == hit.VERSION
    assert contract.KSERVE_ENTRYPOINT.encode() == hit.FALLBACK


def test_every_repeated_name_is_the_contracts() -> None:
    strings = (
        strings_of(SOURCES["hit"]) | strings_of(SOURCES["links"]) | strings_of(SOURCES["wait"])
    )

    assert {s for s in strings if re.fullmatch(r"LARDER_[A-Z_]+", s)} == {
        contract.SLOTS_VARIABLE,
        contract.FALLBACK_VARIABLE,
        contract.TERMINATION_LOG_VARIABLE,
    }
    assert {
        f"/{layout.CONTENT}",
        f"/{layout.CONTENT}/",
        f"/{layout.MANIFEST}",
        f"/{layout.QUARANTINED}",
        layout.STATUS,
    } <= strings


def test_every_state_is_known() -> None:
    states = [*watch.WAITING_STATES, watch.READY, *watch.FINAL_STATES]

    assert sorted(states) == sorted(ModelState)


@pytest.mark.parametrize("name", MODULES)
def test_every_reason_is_the_contracts(name: str) -> None:
    first_arguments = {
        call.args[0].value
        for call in ast.walk(ast.parse(SOURCES[name]))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"NotHit", "Outcome"}
        and isinstance(call.args[0], ast.Constant)
    }

    assert first_arguments | set(watch.FINAL_STATES.values()) <= set(contract.RunReason)


def test_every_reason_can_be_given() -> None:
    given_reasons = set().union(*(strings_of(source) for source in SOURCES.values()))

    assert set(contract.RunReason) <= given_reasons


FIELD = st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]))


@given(
    st.one_of(
        st.text(st.sampled_from("1\t\na")),
        st.lists(st.builds(contract.SlotMount, FIELD, FIELD, FIELD, FIELD), max_size=3).map(
            contract.format_slots
        ),
    )
)
def test_slots_are_read_as_the_contract_reads_them(text: str) -> None:
    rows = contract.parse_slots(text)
    posix.environ[b"LARDER_SLOTS"] = os.fsencode(text)
    try:
        read = hit.slots()
    except (NotHit, ValueError):
        assert rows is None
    else:
        assert rows is not None
        assert read == {r.uri: (r.mount_path, r.subpath, r.fallback_uri) for r in rows}
    finally:
        del posix.environ[b"LARDER_SLOTS"]
