"""The page on sources says what the program does."""

from pathlib import Path

import pytest

from agent.sources.reference import reference
from agent.sources.schemes import SCHEMES, Reach, source_of
from agent.sources.secret import NO_SECRET
from agent.sources.web import Web
from larder.errors import PermanentError
from larder.storage_uri import CACHEABLE_SCHEMES, scheme_of
from runtime.clock import ManualClock

PAGE = Path(__file__).parents[3] / "docs/sources.md"
REACH = Reach("http://127.0.0.1:1", NO_SECRET, ManualClock(), Web())


def test_the_page_is_made_from_the_program() -> None:
    assert PAGE.read_text() == reference(), "run: python -m agent.sources.reference"


def test_the_table_has_every_scheme_that_is_filled_and_each_has_a_source() -> None:
    assert {scheme_of(scheme.uri) for scheme in SCHEMES} == set(CACHEABLE_SCHEMES)
    for scheme in SCHEMES:
        assert source_of(scheme.uri, REACH)


@pytest.mark.parametrize("uri", ["pvc://claim/m", "oci://host/m", "ftp://host/m", "m"])
def test_other_schemes_have_none(uri: str) -> None:
    with pytest.raises(PermanentError, match="has no source for"):
        source_of(uri, REACH)
