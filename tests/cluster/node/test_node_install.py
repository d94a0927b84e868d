"""What is on the node once Larder is installed: the images' insides, the demo, nodes' reports."""

import contextlib
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from larder.contract import SYSTEM_NAMESPACE
from larder.node_report import config_map_name
from runtime.kube.client import KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.node.conftest import DEMO_NAMESPACE
from tests.cluster.node.node_cluster import kubectl, until
from tests.cluster.node.whole import predictors_in

UID = {"daemonset/larder-agent": "0", "deployment/larder-webhook": "65532"}
TOOLS = "pip pip3 uv hatch gcc cc make ld"


def inside(owner: str, *command: str) -> str:
    """What a command says in a pod of ours."""
    return kubectl("-n", SYSTEM_NAMESPACE, "exec", owner, "--", *command)


def files(owner: str, which: str) -> set[str]:
    """Files and directories of a pod's image, as far as its process may look."""
    quoted = which.replace("(", "\\(").replace(")", "\\)")
    found = inside(owner, "sh", "-c", f"find / -xdev {quoted} 2>/dev/null; true")
    return set(found.splitlines())


@pytest.mark.parametrize("owner", UID)
@pytest.mark.usefixtures("installed")
def test_an_image_says_its_commit_and_runs_as_its_user(owner: str) -> None:
    program = owner.rpartition("/")[2]
    said = inside(owner, program, "--version")
    assert re.fullmatch(rf"{program} [\d.]+ \(commit [0-9a-f]{{12}}(\.dirty)?\)\n", said)
    assert inside(owner, "id", "-u").strip() == UID[owner]


@pytest.mark.parametrize("owner", UID)
@pytest.mark.usefixtures("installed")
def test_an_image_has_nothing_that_builds_or_installs(owner: str) -> None:
    assert not inside(owner, "sh", "-c", f"for tool in {TOOLS}; do command -v $tool; done; true")
    modules = "pip ensurepip setuptools hatchling"
    program = (
        "import importlib.util, sys;"
        f"print([m for m in {modules.split()} if importlib.util.find_spec(m)], end='')"
    )
    for python in ("python3", "/usr/bin/env python3"):
        assert inside(owner, *python.split(), "-c", program) == "[]"
    assert not files(owner, "-name 'pip-*.whl'")


@pytest.mark.parametrize("owner", UID)
@pytest.mark.usefixtures("installed")
def test_nothing_of_an_image_can_be_written_by_its_process(owner: str) -> None:
    mounts = {line.split()[1] for line in inside(owner, "cat", "/proc/mounts").splitlines()}
    assert files(owner, "-writable") <= mounts  # with the pod's settings
    assert not files(owner, "! -type l ( -perm -0002 -o -uid 65532 )") - mounts  # and without


@pytest.mark.usefixtures("installed")
def test_the_larder_command_looks_into_the_cache_of_a_node() -> None:
    agent = "daemonset/larder-agent"
    listed = inside(agent, "larder", "ls", "--cache-root", "/var/lib/larder", "-o", "json")
    assert listed.startswith("{")
    validate = "larder catalog validate --cluster /var/lib/larder/catalog.yaml"
    assert inside(agent, *validate.split())
    told = inside(agent, "sh", "-c", "larder doctor 2>&1 || true")
    assert "cannot be used to reach an API server" in told  # whoever has a kubeconfig can
    told = inside(agent, "sh", "-c", "larder demo 2>&1 || true")
    assert told == (
        "larder demo: the demo is no part of this image; run it from a checkout: make demo\n"
    )


@pytest.mark.usefixtures("demo")
def test_the_demo_overlay_gives_predictors_that_are_served_from_the_cache_and_needs_no_further_step(
    admin: KubeClient,
) -> None:
    predictors = predictors_in(admin, DEMO_NAMESPACE)
    assert [(p.decision, p.last_words()) for p in predictors] == [("Cached", "hit")] * 2
    assert all(predictor.digests() for predictor in predictors)


@contextlib.contextmanager
def another_agent(node: str, directory: Path) -> Iterator[None]:
    """An agent of a node that is only an object."""
    command = [sys.executable, "-m", "agent", "--kubeconfig", os.environ["KUBECONFIG"]]
    command += ["--cache-root", str(directory / "root"), "--node-name", node, "--allow-any-disk"]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as agent,  # noqa: S603 - ours
    ):
        yield
        agent.terminate()


@pytest.mark.usefixtures("installed")
def test_the_report_of_a_node_goes_with_the_node(admin: KubeClient, tmp_path: Path) -> None:
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    node = object_path("v1", "nodes", name)
    report = object_path("v1", "configmaps", config_map_name(name), namespace=SYSTEM_NAMESPACE)
    admin.create(collection_path("v1", "nodes"), {"metadata": {"name": name}})
    try:
        with another_agent(name, tmp_path):
            until(lambda: found(admin, report), "the agent wrote its report")
    finally:
        admin.delete(node)
    until(lambda: not found(admin, report), "the report was gone")


def found(admin: KubeClient, path: str) -> dict[str, Any] | None:
    try:
        return admin.get(path)
    except NotFoundError:
        return None
