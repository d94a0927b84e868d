import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from stocked_root import StockedRoot

REALLY_SYNCED = "test_store_transitions"


@pytest.fixture(autouse=True)
def _nobody_pulls_the_plug(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is most of these tests' time; one module really waits."""
    if request.module.__name__ != REALLY_SYNCED:
        monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def stocked(tmp_path: Path) -> Iterator[StockedRoot]:
    stocked = StockedRoot(tmp_path / "root")
    yield stocked
    stocked.close()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the root that nothing may ever touch."""
    path = tmp_path / "outside"
    (path / "etc").mkdir(parents=True)
    (path / "etc" / "passwd").write_text("root")
    (path / "empty").mkdir()
    return path
