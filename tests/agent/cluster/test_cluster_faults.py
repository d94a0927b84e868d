"""The real agent as one of a cluster, and what goes wrong around it.

The API server is one of our own, the hub too. A test waits until the API server holds what it looks
for, and fails after a minute.
"""

import base64
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from demo.hub import Fault, Hub, Repo, Stall
from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from larder.identity import identity_of
from larder.layout import Key
from larder.node_report import DATA_KEY, ModelReport, NodeReport, parse_node_report
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path, object_path
from tests.fakes.kubeconfig import write_kubeconfig
from tests.runtime.kube.api_server import ApiServer, refusing

NODE = "gpu-7"
NODE_PATH = object_path("v1", "nodes", NODE)
CATALOG = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
REPORT = object_path("v1", "configmaps", f"larder-node-{NODE}", namespace=SYSTEM_NAMESPACE)
FILES = {"config.json": b"{}", "model.safetensors": b"w" * 20_000}
ENOUGH_SECONDS = 60.0


def until(holds: Callable[[], bool], stage: "Stage") -> None:
    """Look again until something about the disk is so."""
    deadline, pause = time.monotonic() + ENOUGH_SECONDS, threading.Event()
    while not holds():
        assert time.monotonic() < deadline, stage.log()
        pause.wait(0.05)


class Stage:
    """A node of a cluster, and what an admin does there."""

    def __init__(self, hub: Hub, server: ApiServer, admin: KubeClient, directory: Path) -> None:
        self.hub, self.server, self.admin, self.directory = hub, server, admin, directory
        commit = hub.repos["acme/a"].branches["main"]
        self.key: Key = identity_of("hf://acme/a", revision=commit).key
        self.label = f"model.larder.dev/{self.key}"
        self.entry = (
            f"{{name: a, storageUri: 'hf://acme/a', revision: '{commit}', namespaces: [chat],"
            f" nodeGroups: [h100], fetchFrom: '{hub.url}'"
        )
        node = {"metadata": {"name": NODE, "labels": {"gpu": "h100"}}}
        admin.create(collection_path("v1", "nodes"), node)
        self.kubeconfig = write_kubeconfig(directory / "kubeconfig", {"server": server.host})

    def command(self, node: str = NODE) -> list[str]:
        command = [sys.executable, "-m", "agent", "--kubeconfig", str(self.kubeconfig)]
        command += ["--cache-root", str(self.directory / "root"), "--node-name", node]
        return [*command, "--allow-any-disk"]

    def put_catalog(self, entries: str, defaults: str = "{}") -> None:
        self.put_text(
            f"apiVersion: larder.dev/v1alpha1\nkind: Catalog\ndefaults: {defaults}\n"
            "nodeGroups: [{name: h100, nodeSelector: {matchLabels: {gpu: h100}}}]\n"
            f"models: [{entries}]\n"
        )

    def put_text(self, text: str | None) -> None:
        name = {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE}
        content = {"metadata": name, "data": {"catalog.yaml": text}}
        self.admin.apply(CATALOG, content, field_manager="admin")

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about the API server's objects is so."""
        with self.server.world.changed:
            assert self.server.world.changed.wait_for(holds, ENOUGH_SECONDS), self.log()

    def object(self, plural: str, namespace: str, name: str) -> Any:
        return self.server.world.objects.get((plural, namespace, name))

    def labels(self) -> dict[str, str]:
        return dict(self.object("nodes", "", NODE)["metadata"]["labels"])

    def report(self) -> NodeReport | None:
        content = self.object("configmaps", SYSTEM_NAMESPACE, f"larder-node-{NODE}")
        return parse_node_report(content["data"].get(DATA_KEY, "")) if content else None

    def model(self) -> ModelReport | None:
        report = self.report()
        return report.models[0] if report and report.models else None

    def is_ready(self, name: str | None = "a") -> bool:
        model = self.model()
        return bool(model and (model.state, model.name) == ("Ready", name))

    def has_problems(self) -> bool:
        report = self.report()
        return bool(report and report.catalog_problems)

    def events(self) -> list[str]:
        objects = list(self.server.world.objects.items())
        return [content["reason"] for (plural, _, _), content in objects if plural == "events"]

    def holds_the_model(self) -> bool:
        path = self.directory / "root/slots" / self.key / "content/model.safetensors"
        return path.is_file() and path.read_bytes() == FILES["model.safetensors"]

    def log(self) -> str:
        return (self.directory / "agent.log").read_text()


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.stop()


@pytest.fixture
def stage(server: ApiServer, tmp_path: Path) -> Iterator[Stage]:
    admin = KubeClient(Configuration(host=server.host), program="larder-test")
    with Hub({"acme/a": Repo(dict(FILES))}) as hub:
        yield Stage(hub, server, admin, tmp_path)
    admin.close()


@pytest.fixture
def agent(stage: Stage) -> Iterator["subprocess.Popen[bytes]"]:
    with (stage.directory / "agent.log").open("ab") as log:
        process = subprocess.Popen(stage.command(), stdout=log, stderr=log)  # noqa: S603 - ours
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, stage.log()


@pytest.fixture
def ready(stage: Stage, agent: "subprocess.Popen[bytes]") -> Stage:
    """A node that has its model; whatever leaves the catalog may go at once."""
    assert agent.poll() is None
    stage.put_catalog(stage.entry + "}", defaults="{unlistedTTL: 0s}")
    stage.until(stage.is_ready)
    return stage


def test_on_a_cluster_that_is_too_old_the_agent_writes_nothing_and_ends_with_a_sentence(
    stage: Stage,
) -> None:
    stage.server.discovery["/version"] = {"gitVersion": "v1.29.15"}
    stage.put_catalog(stage.entry + "}")
    before = len(stage.server.seen)
    done = subprocess.run(  # noqa: S603 - ours
        stage.command(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Kubernetes v1.29.15 is older than 1.30" in done.stdout + done.stderr
    assert {seen.method for seen in stage.server.seen[before:]} == {"GET"}


@pytest.fixture
def without_version(stage: Stage) -> None:
    stage.server.standing["GET", "/version"] = refusing(503)


@pytest.mark.usefixtures("without_version", "agent")
def test_an_agent_that_does_not_know_the_version_yet_fills_and_asks_again_before_it_writes(
    stage: Stage,
) -> None:
    stage.put_catalog(stage.entry + "}")
    until(stage.holds_the_model, stage)
    assert stage.report() is None
    del stage.server.standing["GET", "/version"]
    stage.until(stage.is_ready)


@pytest.mark.usefixtures("agent")
def test_a_secret_that_is_missing_is_said_and_used_without_an_edit_once_it_is_there(
    stage: Stage,
) -> None:
    stage.hub.repos["acme/a"] = Repo(dict(FILES), private=True, tokens=("hf_secret",))
    stage.put_catalog(stage.entry + ", credentials: {secretName: hf}}")
    sentence = "model 'a': Secret larder-credentials/hf is not there"
    stage.until(lambda: (m := stage.model()) is not None and m.message == sentence)
    secrets = collection_path("v1", "secrets", namespace=CREDENTIALS_NAMESPACE)
    data = {"HF_TOKEN": base64.b64encode(b"hf_secret\n").decode()}
    stage.admin.create(secrets, {"metadata": {"name": "hf"}, "data": data})
    stage.until(lambda: stage.is_ready() and stage.events() == ["FillFailed", "ModelReady"])
    assert "hf_secret" not in stage.log()
    told = [c for (plural, _, _), c in stage.server.world.objects.items() if plural != "secrets"]
    assert "hf_secret" not in json.dumps(told)


@pytest.mark.usefixtures("agent")
def test_while_the_api_server_is_away_fills_go_on_and_the_report_follows(stage: Stage) -> None:
    stage.hub.faults.append(Fault(Stall(after_bytes=10), kind="get", path=".safetensors", times=1))
    stage.put_catalog(stage.entry + "}", defaults="{unlistedTTL: 0s}")
    stage.until(lambda: stage.labels().get(stage.label) == "filling")
    assert stage.hub.stalled.wait(ENOUGH_SECONDS)
    stage.server.stop()
    stage.hub.release()
    until(stage.holds_the_model, stage)
    stage.server.restart()
    stage.until(lambda: stage.is_ready() and stage.events() == ["ModelReady"])
    assert stage.labels()[stage.label] == "ready"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="emptied"),
        pytest.param(None, id="without its key"),
        pytest.param("kind: Nonsense", id="replaced by a bad one"),
    ],
)
def test_a_catalog_that_turns_bad_evicts_nothing(ready: Stage, text: str | None) -> None:
    ready.put_text(text)
    ready.until(ready.has_problems)
    assert ready.holds_the_model()
    assert ready.labels()[ready.label] == "ready"
    ready.put_catalog(ready.entry + "}")
    ready.until(lambda: not ready.has_problems())
    ready.until(ready.is_ready)
    assert ready.events() == ["ModelReady"]


def test_a_catalog_that_is_deleted_evicts_nothing(ready: Stage) -> None:
    ready.admin.delete(CATALOG)
    ready.until(ready.has_problems)
    assert ready.holds_the_model()
    assert ready.labels()[ready.label] == "ready"
    assert ready.events() == ["ModelReady"]


def test_a_catalog_without_models_lets_them_go_when_their_time_has_come(ready: Stage) -> None:
    ready.put_catalog("", defaults="{unlistedTTL: 1h}")
    ready.until(lambda: ready.is_ready(name=None))
    assert ready.holds_the_model()
    ready.put_catalog("", defaults="{unlistedTTL: 0s}")
    ready.until(lambda: ready.labels() == {"gpu": "h100"})
    assert not ready.holds_the_model()
    ready.until(lambda: ready.events() == ["ModelReady", "ModelEvicted"])


def test_a_node_that_loses_its_groups_label_for_a_while_keeps_its_models(ready: Stage) -> None:
    ready.put_catalog(ready.entry + "}")  # the time that models stay is a day again
    ready.admin.patch(NODE_PATH, {"metadata": {"labels": {"gpu": None}}})
    ready.until(lambda: ready.is_ready(name=None))
    assert ready.labels() == {ready.label: "ready"}
    ready.admin.patch(NODE_PATH, {"metadata": {"labels": {"gpu": "h100"}}})
    ready.until(ready.is_ready)
    assert ready.holds_the_model()
    assert ready.events() == ["ModelReady"]


def test_labels_that_somebody_else_edits_are_put_back_at_once(ready: Stage) -> None:
    stray = f"{ready.label[:-1]}0"
    ready.admin.patch(NODE_PATH, {"metadata": {"labels": {ready.label: "failed", stray: "x"}}})
    ready.until(lambda: ready.labels() == {"gpu": "h100", ready.label: "ready"})


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda admin: admin.delete(REPORT), id="deleted"),
        pytest.param(
            lambda admin: admin.patch(REPORT, {"data": {DATA_KEY: "mine"}}), id="overwritten"
        ),
    ],
)
def test_a_report_that_somebody_else_spoils_is_right_again_after_the_next_change(
    ready: Stage, spoil: Callable[[KubeClient], object]
) -> None:
    spoil(ready.admin)
    assert ready.report() is None
    ready.put_catalog("", defaults="{unlistedTTL: 1h}")
    ready.until(lambda: ready.is_ready(name=None))


@pytest.mark.parametrize("characters", [242, 253])
def test_a_node_name_that_is_too_long_is_refused_in_one_sentence(
    stage: Stage, characters: int
) -> None:
    done = subprocess.run(  # noqa: S603 - ours
        stage.command("n" * characters), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert "--node-name" in sentence
    assert "at most 241 characters" in sentence
    assert not (stage.directory / "root").exists()
