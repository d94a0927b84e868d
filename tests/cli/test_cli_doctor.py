"""`larder doctor` as a whole: a healthy install is fine, what may not be read is named."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_cases import ACTING, shape_fault
from doctor_world import Install, kubeconfig_of

from cli.doctor import CHECKS, JSON_EXAMPLE
from cli.doctor_reads import TARGETS
from tests.runtime.kube.api_server import ApiServer, refusing


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    server = ApiServer()
    yield Install(server, kubeconfig_of(server.host, tmp_path / "kubeconfig"))
    server.stop()


def test_a_healthy_install_is_ok_in_every_check(install: Install) -> None:
    assert install.found() == []
    run = install.doctor()
    assert (run.status, run.err) == (0, "")
    assert run.out.splitlines()[-1] == f"{len(CHECKS)} ok"
