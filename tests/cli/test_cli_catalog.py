"""`larder catalog` tells every mistake of a catalog, or what it says."""

import json
from pathlib import Path

import pytest
from cli_cases import CATALOG, COMMIT, QWEN, larder, shape_fault

from cli.catalog import JSON_EXAMPLE
from larder.catalog import catalog_schema

BAD = """apiVersion: larder.dev/v1alpha1
kind: Catalog
models:
- name: a
  storageUri: s3://b/c
  fill: Sometimes
  namespaces: [chat]
- name: b
  storageUri: ftp://x
  namespaces: [chat]
"""
STANDALONE = """apiVersion: larder.dev/v1alpha1
kind: Catalog
models:
- {name: a, storageUri: "s3://b/c", namespaces: [x], credentials: {tokenFile: /t}}
"""


def test_a_good_catalog_is_shown_entry_by_entry_with_its_notes(catalog: Path) -> None:
    run = larder("catalog", "validate", catalog)
    assert run.status == 0
    row = next(line for line in run.out.splitlines() if line.startswith("qwen"))
    assert row.split() == [
        "qwen", QWEN, "hf://Qwen/Qwen2-0.5B-Instruct", COMMIT, "chat", "every", "node",
    ]  # fmt: skip
    assert "note: model 'llama': revision 'main' is no commit" in run.out
    assert "the catalog is good: 3 models" in run.out
    assert run.err == ""


def test_a_good_catalog_is_shown_as_json(catalog: Path) -> None:
    run = larder("catalog", "validate", catalog, "-o", "json")
    assert run.status == 0
    document = run.json
    assert shape_fault(document, json.loads(JSON_EXAMPLE)) is None
    assert document["isValid"] is True
    assert [m["name"] for m in document["models"]] == ["qwen", "llama", "tree"]
    assert document["models"][1]["nodeGroups"] == ["big"]
    assert document["notes"]
    assert document["problems"] == []


def test_every_mistake_is_told_with_line_place_and_what_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    run = larder("catalog", "validate", file)
    assert run.status == 1
    assert "line 9: models[1].storageUri scheme 'ftp' cannot be cached; accepted: hf" in run.out
    assert "line 6: models[0].fill is not accepted; accepted: 'Eager' or 'OnDemand'" in run.out
    found = larder("catalog", "validate", file, "--output", "json")
    assert found.status == 1
    assert shape_fault(found.json, json.loads(JSON_EXAMPLE)) is None
    assert [p["line"] for p in found.json["problems"]] == [6, 9]
    assert found.json["isValid"] is False


@pytest.mark.parametrize(
    ("document", "line"),
    [
        pytest.param(b"", 1, id="nothing at all"),
        pytest.param(b"kind: [", 2, id="an open bracket"),
        pytest.param(b"kind: \xff", 1, id="no UTF-8"),
        pytest.param(b"kind: \x00", None, id="a character that YAML forbids, wherever it is"),
    ],
)
def test_a_document_that_is_no_catalog_has_one_problem(document: bytes, line: int | None) -> None:
    run = larder("catalog", "validate", "-", "-o", "json", stdin=document)
    assert run.status == 1
    assert [p["line"] for p in run.json["problems"]] == [line]


def test_standard_input_is_a_catalog_too() -> None:
    assert larder("catalog", "validate", "-", stdin=CATALOG).status == 0


@pytest.mark.parametrize(
    ("flag", "status"),
    [
        pytest.param("--standalone", 0, id="one machine may name a token's file"),
        pytest.param("--cluster", 1, id="a cluster takes Secrets only"),
    ],
)
def test_where_a_catalog_is_meant_for_matters(flag: str, status: int) -> None:
    assert larder("catalog", "validate", flag, "-", stdin=STANDALONE).status == status


PINNED = """apiVersion: larder.dev/v1alpha1
kind: Catalog
nodeGroups: [{name: h100, budget: 10Gi}]
models:
- name: a
  storageUri: hf://acme/a
  revision: c540970f9e29518b1d8f06ab8b24cba66ad77b6d
  namespaces: [x]
  credentials: {secretName: hf}
  retention: Pinned
  maxSize: 11Gi
"""


def test_notes_are_those_of_the_place_that_it_is_meant_for() -> None:
    room = (
        "node group 'h100': a node may hold 10 GiB,"
        " and the pinned models may take up to 11 GiB: 'a'"
    )
    here = larder("catalog", "validate", "--standalone", "-", "-o", "json", stdin=PINNED).json
    assert [note.partition(";")[0] for note in here["notes"]] == [
        "model 'a': credentials.secretName has no effect outside a cluster",
        room,
    ]
    there = larder("catalog", "validate", "--cluster", "-", "-o", "json", stdin=PINNED).json
    assert there["notes"] == [room]


def test_a_config_map_is_told_what_is_wanted_of_it(tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    file.write_text("kind: ConfigMap\napiVersion: v1\ndata: {catalog.yaml: ''}\n")
    run = larder("catalog", "validate", file)
    assert (run.status, run.out) == (2, "")
    assert run.err == (
        f"larder: {file} is a ConfigMap; "
        'accepted: the value of its data["catalog.yaml"] by itself\n'
    )


def test_the_schema_is_one_json_document() -> None:
    run = larder("catalog", "schema")
    assert run.status == 0
    assert run.json == catalog_schema()
    assert larder("catalog", "schema", "-o", "table").out == run.out
