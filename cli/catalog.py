"""`larder catalog`: what is wrong with a catalog, what it says, and its JSON schema."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from cli import OutputForm
from cli.inputs import check_catalog, read_document, shown
from cli.output import (
    FOUND_A_PROBLEM,
    console,
    counted,
    refuse,
    say,
    show_json,
    show_table,
    styled,
)
from larder.catalog import Catalog, ModelEntry, catalog_schema
from larder.catalog_rules import catalog_notes
from larder.yaml_tree import YamlFault, read_yaml

JSON_EXAMPLE: Final = """\
{
  "isValid": false,
  "problems": [
    {"line": 7, "sentence": "models[0].fill is not accepted; accepted: 'Eager' or 'OnDemand'"}
  ],
  "models": [
    {
      "name": "llama", "key": "52a2d80d4bc5fa16", "storageUri": "hf://org/llama",
      "revision": "main", "namespaces": ["chat"], "nodeGroups": ["h100"]
    }
  ],
  "notes": ["model 'llama': revision 'main' is no commit; …"]
}"""

_LINE = re.compile(r"line ([0-9]+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; `line` is None where the whole document is at fault."""

    line: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Model:
    """One entry, as an admin asks about it."""

    name: str
    key: str
    storage_uri: str
    revision: str | None
    namespaces: tuple[str, ...]
    node_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Validation:
    """What `validate` found; models and notes only of a catalog without mistakes."""

    is_valid: bool
    problems: tuple[Problem, ...] = ()
    models: tuple[Model, ...] = ()
    notes: tuple[str, ...] = ()


def validate(file: Path, *, standalone: bool, output: OutputForm) -> int:
    """Print every mistake of a catalog, or what it says. Returns the exit status."""
    document = read_document(file)
    found = check_catalog(document, standalone=standalone)
    if found.catalog is None and _is_config_map(document):
        refuse(
            f"{shown(file)} is a ConfigMap; "
            'accepted: the value of its data["catalog.yaml"] by itself'
        )
    result = validation_of(found.catalog, found.problems, standalone=standalone)
    if output == "json":
        show_json(result)
    else:
        _show(console(), result)
    return 0 if result.is_valid else FOUND_A_PROBLEM


def schema() -> int:
    """Print the schema, which is JSON in either form of output."""
    show_json(catalog_schema())
    return 0


def validation_of(
    catalog: Catalog | None, problems: tuple[str, ...], *, standalone: bool
) -> Validation:
    """A reading of a catalog, as it is shown."""
    if catalog is None:
        return Validation(is_valid=False, problems=tuple(map(_problem, problems)))
    models = tuple(map(_model, catalog.models))
    notes = catalog_notes(catalog, standalone=standalone)
    return Validation(is_valid=True, models=models, notes=notes)


def _problem(sentence: str) -> Problem:
    found = _LINE.fullmatch(sentence)
    return Problem(int(found[1]), found[2]) if found else Problem(None, sentence)


def _model(entry: ModelEntry) -> Model:
    return Model(
        name=entry.name,
        key=entry.key,
        storage_uri=entry.storage_uri,
        revision=entry.revision,
        namespaces=tuple(entry.namespaces),
        node_groups=tuple(entry.node_groups),
    )


def _is_config_map(document: bytes) -> bool:
    try:
        value = read_yaml(document).value
    except YamlFault:
        return False
    return isinstance(value, dict) and value.get("kind") == "ConfigMap"


def _show(out: Console, result: Validation) -> None:
    for problem in result.problems:
        place = "" if problem.line is None else f"line {problem.line}: "
        say(out, f"{place}{problem.sentence}")
    headers = ("NAME", "KEY", "URI", "REVISION", "NAMESPACES", "GROUPS")
    show_table(out, headers, map(_row, result.models))
    for note in result.notes:
        say(out, styled(f"note: {note}", "yellow"))
    if result.is_valid:
        say(out, styled(f"the catalog is good: {counted(len(result.models), 'model')}", "green"))
    else:
        mistakes = counted(len(result.problems), "problem")
        say(out, styled(f"the catalog cannot be used: {mistakes}", "red"))


def _row(model: Model) -> tuple[str, ...]:
    return (
        model.name,
        model.key,
        model.storage_uri,
        model.revision or "",
        ", ".join(model.namespaces),
        ", ".join(model.node_groups) or "every node",
    )
