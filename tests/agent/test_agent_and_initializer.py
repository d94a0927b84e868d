"""A pod that starts while its model is on its way: the real initializer beside the real agent.

The slot's directory stands for its mount, so paths are those of this machine.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.hub import Fault, Hub, Repo, Stall
from larder.contract import SlotMount, format_slots
from larder.identity import identity_of

FILES = {"config.json": b"{}", "weights/model.safetensors": b"w" * 3_000_000}
URI = "hf://acme/a"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({"acme/a": Repo(dict(FILES))}) as running:
        yield running


class Node:
    """A root with an agent that can be started and ended, and pods beside it."""

    def __init__(self, directory: Path, hub: Hub) -> None:
        self.directory, self.root = directory, directory / "root"
        self.commit = hub.repos["acme/a"].branches["main"]
        self.slot = self.root / "slots" / identity_of(URI, revision=self.commit).key
        self.catalog = directory / "catalog.yaml"
        self.catalog.write_text(
            "apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels:\n"
            f"  - {{name: a, storageUri: '{URI}', revision: '{self.commit}',"
            f" namespaces: [chat], fetchFrom: '{hub.url}'}}\n"
        )
        self.fallback = directory / "fallback"
        self.fallback.write_text('#!/bin/sh\necho "fallback $*"\n')
        self.fallback.chmod(0o755)

    def agent(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "agent", "--catalog", str(self.catalog)]
        command += ["--cache-root", str(self.root), "--node-name", "n", "--allow-any-disk"]
        with (self.directory / "agent.log").open("a") as log:
            return subprocess.Popen(command, stdout=log, text=True)  # noqa: S603 - ours

    def pod(self) -> subprocess.Popen[str]:
        row = SlotMount(URI, str(self.slot), "", f"{URI}:{self.commit}")
        command = [sys.executable, "-I", "-S", str(self.slot / "initializer"), URI]
        return subprocess.Popen(  # noqa: S603 - ours
            [*command, str(self.directory / "models")],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "LARDER_SLOTS": format_slots([row]),
                "LARDER_FALLBACK": str(self.fallback),
                "LARDER_TERMINATION_LOG": str(self.directory / "termination-log"),
            },
        )

    def message(self) -> str:
        return (self.directory / "termination-log").read_text()

    def linked(self) -> dict[str, bytes]:
        top = self.directory / "models"
        return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_symlink()}


@pytest.fixture
def node(tmp_path: Path, hub: Hub) -> Node:
    return Node(tmp_path, hub)


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(number)
    process.wait(30)


def line_with(pod: subprocess.Popen[str], word: str) -> str:
    assert pod.stdout is not None
    seen = []
    for line in pod.stdout:
        seen.append(line)
        if word in line:
            return line
    raise AssertionError(f"no line with {word!r}: {seen}")


def test_a_pod_joins_the_fill_that_is_under_way(node: Node, hub: Hub) -> None:
    hub.faults.append(Fault(Stall(after_bytes=1_000_000), kind="get", path=".safetensors", times=1))
    agent = node.agent()
    try:
        assert hub.stalled.wait(30)
        with node.pod() as pod:
            assert "Downloading" in line_with(pod, "Downloading")
            hub.release()
            line_with(pod, "joined")
            assert pod.wait(30) == 0
    finally:
        end(agent)
    assert node.message().startswith("joined ")
    assert node.linked() == FILES


def test_a_pod_waits_through_a_restart_of_the_agent_and_nothing_is_fetched_twice(
    node: Node, hub: Hub
) -> None:
    hub.faults.append(Fault(Stall(after_bytes=1_000_000), kind="get", path=".safetensors", times=1))
    first = node.agent()
    assert hub.stalled.wait(30)
    with node.pod() as pod:
        line_with(pod, "Downloading")
        end(first)
        assert "the agent restarts" in line_with(pod, "restarts")
        second = node.agent()
        try:
            line_with(pod, "joined")
            assert pod.wait(30) == 0
        finally:
            end(second)
    assert node.linked() == FILES
    assert len([r for r in hub.requests if r.kind == "get" and r.path == "config.json"]) == 1


def test_a_pod_waits_on_when_the_agent_was_killed_and_is_started_again(
    node: Node, hub: Hub
) -> None:
    hub.faults.append(Fault(Stall(after_bytes=1_000_000), kind="get", path=".safetensors", times=1))
    first = node.agent()
    assert hub.stalled.wait(30)
    with node.pod() as pod:
        line_with(pod, "Downloading")
        end(first, signal.SIGKILL)
        second = node.agent()
        try:
            line_with(pod, "joined")
            assert pod.wait(30) == 0
        finally:
            end(second)
    assert node.linked() == FILES


def test_a_pod_whose_model_cannot_be_had_falls_back_at_once(node: Node, hub: Hub) -> None:
    hub.repos.clear()
    agent = node.agent()
    try:
        while not (node.slot / "status.json").exists() or (
            '"Failed"' not in (node.slot / "status.json").read_text()
        ):
            assert agent.poll() is None
        with node.pod() as pod:
            assert pod.stdout is not None
            output = pod.stdout.read()
            assert pod.wait(30) == 0
    finally:
        end(agent)
    assert "Failed (ModelNotFound)" in output
    assert output.splitlines()[-1] == f"fallback {URI}:{node.commit} {node.directory}/models"
    assert not (node.directory / "termination-log").exists() or not node.message()


def test_a_second_pod_is_a_hit(node: Node, hub: Hub) -> None:
    agent = node.agent()
    try:
        while not (node.slot / "content").exists():
            assert agent.poll() is None
        with node.pod() as pod:
            assert pod.wait(30) == 0
    finally:
        end(agent)
    requests = len(hub.requests)
    with node.pod() as pod:  # the agent is gone; the model stays
        assert pod.wait(30) == 0
    assert node.message().startswith("hit ")
    assert len(hub.requests) == requests
