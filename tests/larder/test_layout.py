"""Names on disk, and who may use a tree."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder import layout
from larder.layout import CURRENT, Digest, Key, Layout, parse_layout

KEY = Key("89da10faf446bbf1")
DIGEST = Digest("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")


def test_paths_are_relative_to_the_root() -> None:
    assert layout.slot_path(KEY) == PurePosixPath("slots/89da10faf446bbf1")
    assert layout.staging_path(KEY) == PurePosixPath("staging/89da10faf446bbf1")
    assert layout.blob_path(DIGEST) == PurePosixPath(f"blobs/sha256/2c/{DIGEST}")


@pytest.mark.parametrize(
    "name", ["", "89DA10FAF446BBF1", "89da10faf446bbf", "89da10faf446bbf1\n", "../.." * 4, "٣" * 16]
)  # fmt: skip
def test_only_sixteen_lower_case_hex_digits_are_a_key(name: str) -> None:
    assert layout.is_key(KEY)
    assert not layout.is_key(name)


@pytest.mark.parametrize("name", ["", DIGEST[:-1], DIGEST.upper(), f"{DIGEST}\n", "g" * 64])
def test_only_sixty_four_lower_case_hex_digits_are_a_digest(name: str) -> None:
    assert layout.is_digest(DIGEST)
    assert not layout.is_digest(name)


@given(st.integers(), st.integers())
def test_a_layout_reads_back_as_written(schema: int, oldest_reader: int) -> None:
    written = Layout(schema, oldest_reader)

    assert parse_layout(written.text()) == written


def test_a_newer_tree_is_usable_as_long_as_it_says_so() -> None:
    assert CURRENT.is_usable
    assert Layout(schema=layout.SCHEMA + 1, oldest_reader=layout.SCHEMA).is_usable
    assert not Layout(schema=layout.SCHEMA + 1, oldest_reader=layout.SCHEMA + 1).is_usable


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '{"schema": 1}', '{"schema": "1", "oldestReader": 1}',
     '{"schema": 1, "oldestReader": 1.0}', '{"schema": true, "oldestReader": 1}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_layout_is_none(text: str) -> None:
    assert parse_layout(text) is None
