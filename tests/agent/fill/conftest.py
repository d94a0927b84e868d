from collections.abc import Iterator
from pathlib import Path

import pytest
from fill_desk import FillDesk

from demo.hub import Hub, Repo

FILES = {
    "config.json": b'{"a": 1}',
    "deep/er/tokenizer.json": b"t" * 1500,
    "empty": b"",
    "model.safetensors": bytes(range(256)) * 15 + b"the end",  # 3847 bytes: four parts
}


@pytest.fixture
def files() -> dict[str, bytes]:
    return dict(FILES)


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with Hub({"acme/tiny": Repo(dict(files))}, cdn=True) as hub:
        yield hub


@pytest.fixture
def desk(tmp_path: Path, hub: Hub) -> FillDesk:
    return FillDesk(tmp_path / "root", hub.url)
