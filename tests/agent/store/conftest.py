from collections.abc import Iterator
from pathlib import Path

import pytest
from stocked_root import StockedRoot


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
