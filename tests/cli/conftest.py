"""Roots and catalogs on the disk for the command line's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_cases import CATALOG, LLAMA, LLAMA_FILES, QWEN, QWEN_FILES, CacheRoots
from doctor_world import NOW, Install

from runtime.clock import ManualClock
from tests.fakes.kubeconfig import write_kubeconfig
from tests.runtime.kube.api_server import ApiServer


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[CacheRoots]:
    """A root that an agent holds and that has no model."""
    roots = CacheRoots(tmp_path / "root")
    yield roots
    roots.close()


@pytest.fixture
def stocked(empty: CacheRoots) -> CacheRoots:
    """A root that an agent holds, with two models that share a file."""
    empty.publish(QWEN, QWEN_FILES, "hf://Qwen/Qwen2-0.5B-Instruct")
    empty.publish(LLAMA, LLAMA_FILES, "hf://org/llama")
    return empty


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A healthy install, as `larder doctor` finds it at that moment."""
    monkeypatch.setattr("cli.doctor.SystemClock", lambda: ManualClock(now=NOW.timestamp()))
    server = ApiServer()
    yield Install(server, write_kubeconfig(tmp_path / "kubeconfig", {"server": server.host}))
    server.stop()
