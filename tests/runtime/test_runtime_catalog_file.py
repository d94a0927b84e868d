import os
from pathlib import Path

import pytest

from larder.catalog import read_catalog
from larder.yaml_tree import MAX_BYTES
from runtime.catalog_file import CatalogFile

GOOD = b"apiVersion: larder.dev/v1alpha1\nkind: Catalog\n"
MODEL = GOOD + b"models:\n- {name: m, storageUri: hf://o/m, revision: main, namespaces: [chat]}\n"
BAD = GOOD + b"typo: 1\nother: 2\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.yaml"


def test_a_good_file_is_read_once(path: Path) -> None:
    path.write_bytes(MODEL)
    file = CatalogFile(path)
    first = file.poll()
    assert first.catalog
    assert first.changed
    assert first.problems == ()
    assert len(first.notes) == 1
    path.chmod(0)  # reading it again would fail, but for root
    second = file.poll()
    assert second.catalog is first.catalog
    assert not second.changed


def test_a_file_that_is_not_there_is_unknown_not_empty(path: Path) -> None:
    file = CatalogFile(path)
    reading = file.poll()
    assert reading.catalog is None
    assert reading.problems == (f"{path}: No such file or directory",)
    assert reading.changed
    assert not file.poll().changed


@pytest.mark.parametrize(
    "data", [BAD, b"\xff", b"", b"[]"], ids=["keys", "no text", "empty", "list"]
)
def test_a_bad_edit_keeps_the_last_good_catalog_and_is_told_once(path: Path, data: bytes) -> None:
    path.write_bytes(MODEL)
    file = CatalogFile(path)
    good = file.poll()
    path.write_bytes(data)
    bad = file.poll()
    assert bad.catalog is good.catalog
    assert bad.notes == good.notes
    assert bad.changed
    assert len(bad.problems) == (2 if data == BAD else 1)
    assert file.poll() == type(bad)(**{**_fields(bad), "changed": False})


def _fields(reading: object) -> dict[str, object]:
    return {name: getattr(reading, name) for name in type(reading).__slots__}  # type: ignore[attr-defined] - slotted


def test_a_file_that_vanishes_keeps_the_last_good_catalog(path: Path) -> None:
    path.write_bytes(MODEL)
    file = CatalogFile(path)
    good = file.poll().catalog
    path.unlink()
    gone = file.poll()
    assert (gone.catalog, len(gone.problems), gone.changed) == (good, 1, True)
    path.write_bytes(MODEL)
    back = file.poll()
    assert (back.problems, back.changed) == ((), True)


def test_a_swapped_link_is_noticed(tmp_path: Path) -> None:
    for name, data in (("..1", GOOD), ("..2", MODEL)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "catalog.yaml").write_bytes(data)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "catalog.yaml").symlink_to("..data/catalog.yaml")
    file = CatalogFile(tmp_path / "catalog.yaml")
    assert file.poll().catalog
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    reading = file.poll()
    assert reading.changed
    assert reading.catalog
    assert [m.name for m in reading.catalog.models] == ["m"]


def test_a_huge_file_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * 1024**3)
    reading = CatalogFile(path).poll()
    assert reading.catalog is None
    assert reading.problems == (f"the file has {10 * 1024**3} bytes; accepted: up to {MAX_BYTES}",)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        reading = CatalogFile(tmp_path / name).poll()
        assert reading.problems[0].endswith(": is not a file")


def test_a_last_good_catalog_is_in_force_before_the_first_read(path: Path) -> None:
    kept = read_catalog(MODEL, standalone=True)
    reading = CatalogFile(path, last_good=kept).poll()
    assert reading.catalog is kept
    assert len(reading.notes) == 1


def test_a_form_for_standalone_use_is_refused_in_a_cluster(path: Path) -> None:
    path.write_bytes(MODEL.replace(b"{name: m,", b"{name: m, credentials: {tokenEnv: T},"))
    assert CatalogFile(path).poll().problems == ()
    assert len(CatalogFile(path, standalone=False).poll().problems) == 1
