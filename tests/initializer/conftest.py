"""Fixtures of the initializer's tests; what they are made of is in `slots_and_pods`."""

import os
import posix
from pathlib import Path

import pytest
from slots_and_pods import FakeTime, Pod, Slot

from initializer import hit


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path / "larder" / "52a2d80d4bc5fa16")


@pytest.fixture
def other_slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path / "larder" / "89da10faf446bbf1")


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    root = tmp_path / "pod"
    root.mkdir()
    return Pod(root)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture(autouse=True)
def fresh_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process of its own would bring: an environment, and a memory of what it made."""
    message = os.fsencode(tmp_path / "message")
    monkeypatch.setitem(posix.environ, b"LARDER_TERMINATION_LOG", message)
    hit.MADE.clear()
