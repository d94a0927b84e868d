"""What the documents say is so: examples load; named tests, targets, files and keys exist."""

import ast
import re
from pathlib import Path

import pytest

from larder.catalog import catalog_schema, read_catalog

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LABEL_SELECTOR = {"key", "operator", "values"}  # Kubernetes' own words
PROMISES = (ROOT / "docs/promises.md").read_text()
FAULTS = (ROOT / "docs/faults.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()


def named(document: Path) -> str:
    return str(document.relative_to(ROOT))


def named_tests(page: str) -> list[str]:
    """`file` or `file::test`; a `::test` alone is of the file named before it."""
    file, found = "", set()
    for path, test in re.findall(r"`(tests/[\w/]+\.py)?(::test_\w+)?`", page):
        file = path or file
        found |= {file + test} if path or test else set()
    return sorted(found)


@pytest.mark.parametrize(
    "name", sorted({name for page in (PROMISES, FAULTS, SECURITY) for name in named_tests(page)})
)
def test_a_test_that_a_page_names_exists(name: str) -> None:
    file, _, test = name.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    functions = {getattr(node, "name", "") for node in ast.walk(tree)}

    assert not test or test in functions


def test_every_promise_has_a_test() -> None:
    sections = re.split(r"^## (P\d+) ", PROMISES, flags=re.MULTILINE)[1:]
    tests = {name: "test" in body for name, body in zip(sections[::2], sections[1::2], strict=True)}

    assert tests == {f"P{i}": True for i in range(1, 11)}


def test_every_fault_has_a_test() -> None:
    rows = re.findall(r"^\| (?!bad input)(\w.*) \|$", FAULTS, flags=re.MULTILINE)

    assert [row for row in rows if not named_tests(row.rpartition(" | ")[2])] == []
    assert len(rows) > 10


def test_every_attack_has_a_test() -> None:
    table = SECURITY.partition("\n## Attacks\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!attack|\*\*)(\w.*) \|$", table, flags=re.MULTILINE)

    assert [row for row in rows if not named_tests(row.rpartition(" | ")[2])] == []
    assert len(rows) > 20


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_a_catalog_in_a_document_loads(document: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", document.read_text(), flags=re.DOTALL):
        assert read_catalog(block.encode(), standalone=True).models


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_a_link_to_a_file_leads_to_one(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_a_target_of_make_that_a_document_names_exists(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`make ([a-z-]+)", document.read_text()))

    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))


def test_the_page_on_the_catalog_has_every_key() -> None:
    page = (ROOT / "docs/catalog.md").read_text()
    schema = catalog_schema()
    keys = {
        key for part in [schema, *schema["$defs"].values()] for key in part.get("properties", {})
    }

    assert {key for key in keys if not re.search(rf"\b{key}\b", page)} - LABEL_SELECTOR == set()
