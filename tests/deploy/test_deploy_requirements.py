"""What is imported is required by its own name, not because something else needs it today."""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"demo": ("demo",), "tests": ("demo", "dev"), "bench": ("demo", "dev")}
ROOMS = {path.parent.name for path in ROOT.glob("*/__init__.py")}


def spelled(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(extras: Iterable[str]) -> set[str]:
    of_extras = [PROJECT["optional-dependencies"][extra] for extra in extras]
    requirements = sum(of_extras, PROJECT["dependencies"])
    return {spelled(re.split(r"[\[<>=;\s]", requirement)[0]) for requirement in requirements}


def imported(folder: str) -> Iterator[str]:
    """The packages that a folder's files import, anywhere in them."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Import(names=names):
                    yield from (name.name.split(".")[0] for name in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module.split(".")[0]


@pytest.mark.parametrize("folder", sorted(ROOMS | EXTRAS.keys()))
def test_what_is_imported_is_required_by_its_own_name(folder: str) -> None:
    ours = required(EXTRAS.get(folder, ()))
    makers = packages_distributions()
    found = {package: set(map(spelled, makers.get(package, ()))) for package in imported(folder)}
    assert {package: names for package, names in found.items() if names and not names & ours} == {}
