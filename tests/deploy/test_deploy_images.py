"""The images, as far as Dockerfiles and locks say it; tests/cluster/node looks inside."""

import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("Dockerfile.agent", "Dockerfile.webhook")
ALL = (*SHIPPED, "Dockerfile.demo")
ROOMS = tuple(sorted(path.parent.name for path in ROOT.glob("*/__init__.py")))
LOCKS = ("build", "demo", "runtime")


def instructions(dockerfile: str) -> list[str]:
    """Each instruction on a line, without comments."""
    text = re.sub(r"^#.*\n", "", (ROOT / dockerfile).read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line]


@pytest.mark.parametrize("dockerfile", ALL)
def test_only_wheels_of_the_lock_are_installed(dockerfile: str) -> None:
    steps = " && ".join(line for line in instructions(dockerfile) if line.startswith("RUN "))
    installs = [step for step in steps.split("&&") if "pip" in step and " install " in step]
    assert installs
    for step in installs:
        is_ours = re.search(r"--no-deps\s+/wheels/larder-\*\.whl", step)
        assert is_ours or re.search(r"--only-binary :all:\s+--require-hashes", step), step


@pytest.mark.parametrize("dockerfile", ALL)
def test_what_builds_stays_behind(dockerfile: str) -> None:
    lines = instructions(dockerfile)
    assert len([line for line in lines if line.startswith("FROM ")]) == 2
    last = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert not [line for line in last if " install " in line]
    assert [line for line in last if line.startswith("USER ")]


@pytest.mark.parametrize("dockerfile", ALL)
def test_no_line_knows_an_architecture(dockerfile: str) -> None:
    lines = instructions(dockerfile)
    assert not [line for line in lines if re.search(r"amd64|x86_64|arm64|aarch64", line)]
    assert {line for line in lines if line.startswith("FROM ")} <= {
        "FROM ${BASE_IMAGE} AS build",
        "FROM ${BASE_IMAGE}",
    }


@pytest.mark.parametrize(
    ("dockerfile", "programs"),
    [
        ("Dockerfile.agent", {"agent", "cli"}),
        ("Dockerfile.webhook", {"webhook", "controller"}),
    ],
)
def test_an_image_has_every_room_that_its_programs_import(
    dockerfile: str, programs: set[str]
) -> None:
    copied = [line.split()[1:] for line in instructions(dockerfile) if line.startswith("COPY ")]
    rooms = {
        words[0] for words in copied if len(words) == len({"from", "to"}) and words[0] in ROOMS
    }
    graph = grimp.build_graph(*ROOMS)
    needed = {
        module.partition(".")[0]
        for program in programs
        for module in graph.find_upstream_modules(program, as_package=True)
    }
    assert needed | programs <= rooms | {"demo"}  # which `larder demo` says it lacks


@pytest.mark.parametrize("dockerfile", SHIPPED)
def test_the_demo_stays_out_of_the_images(dockerfile: str) -> None:
    assert not [line for line in instructions(dockerfile) if re.match(r"(COPY|ADD) .*demo", line)]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_of_an_image_has_hashes_agrees_with_the_tests_and_names_no_index(name: str) -> None:
    lock, tested = (ROOT / "requirements" / f"{n}.lock" for n in (name, "dev"))
    pins = re.findall(r"^(\S+==\S+)(.*\\)?$", lock.read_text(), flags=re.MULTILINE)
    assert pins
    assert all(more for _, more in pins), "a pin without hashes"
    of_tests = re.findall(r"^(\S+==\S+)", tested.read_text(), flags=re.MULTILINE)
    assert {pin for pin, _ in pins} <= set(of_tests)
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", lock.read_text())
