"""`larder-agent` as one of a cluster: a real API server, a hub of our own, a node made by hand.

The node has no kubelet: a pod that is bound to it by hand stands for one that runs there.
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.hub import Hub, Repo
from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from larder.identity import identity_of
from larder.layout import Key
from larder.node_report import DATA_KEY, NodeReport, config_map_name, parse_node_report
from runtime.kube.client import KubeClient
from runtime.kube.errors import AlreadyExistsError, NotFoundError
from runtime.kube.paths import collection_path, object_path

FILES = {"config.json": b"{}", "model.safetensors": b"w" * 20_000}
ENOUGH_SECONDS = 30.0
_PAUSE = threading.Event()  # never set: between two looks


def until(holds: Callable[[], bool], what: str, seconds: float = ENOUGH_SECONDS) -> None:
    """Look again until something is so; a test fails after half a minute."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        _PAUSE.wait(0.05)


class Cluster:
    """What an admin does in the cluster, and the one node's view of it."""

    def __init__(self, admin: KubeClient, hub: Hub, directory: Path) -> None:
        self.admin, self.hub, self.directory = admin, hub, directory
        self.node = f"larder-test-{uuid.uuid4().hex[:8]}"
        self.root = directory / "root"
        self.commit = hub.repos["acme/a"].branches["main"]
        for name in (SYSTEM_NAMESPACE, CREDENTIALS_NAMESPACE):
            self._create("namespaces", {"metadata": {"name": name}})
        admin.create(
            collection_path("v1", "nodes"),
            {"metadata": {"name": self.node, "labels": {"gpu": "h100"}}},
        )

    def _create(self, plural: str, content: dict[str, Any], namespace: str | None = None) -> None:
        with contextlib.suppress(AlreadyExistsError):
            self.admin.create(collection_path("v1", plural, namespace=namespace), content)

    @property
    def key(self) -> Key:
        return identity_of("hf://acme/a", revision=self.commit).key

    @property
    def content(self) -> Path:
        return self.root / "slots" / self.key / "content"

    def catalog(self, entries: str, defaults: str = "{}") -> None:
        text = (
            f"apiVersion: larder.dev/v1alpha1\nkind: Catalog\ndefaults: {defaults}\n"
            "nodeGroups: [{name: h100, nodeSelector: {matchLabels: {gpu: h100}}}]\n"
            f"models: {entries}\n"
        )
        self.write_catalog(text)

    def write_catalog(self, text: str) -> None:
        path = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
        content = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE},
            "data": {"catalog.yaml": text},
        }
        self.admin.apply(path, content, field_manager="admin")

    def entry(self, more: str = "") -> str:
        return (
            f"[{{name: a, storageUri: 'hf://acme/a', revision: '{self.commit}',"
            f" namespaces: [chat], nodeGroups: [h100], fetchFrom: '{self.hub.url}'{more}}}]"
        )

    def labels(self) -> dict[str, str]:
        labels = self.admin.get(object_path("v1", "nodes", self.node))["metadata"]["labels"]
        return {k: v for k, v in labels.items() if k.startswith("model.larder.dev/")}

    def config_map(self) -> dict[str, Any]:
        path = object_path(
            "v1", "configmaps", config_map_name(self.node), namespace=SYSTEM_NAMESPACE
        )
        return self.admin.get(path)

    def report(self) -> NodeReport | None:
        try:
            return parse_node_report(self.config_map()["data"][DATA_KEY])
        except NotFoundError:
            return None

    def state(self) -> str | None:
        report = self.report()
        return report.models[0].state.value if report and report.models else None

    def reason(self) -> str | None:
        report = self.report()
        return report.models[0].reason if report and report.models else None

    def agent(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "agent", "--kubeconfig", os.environ["KUBECONFIG"]]
        command += ["--cache-root", str(self.root), "--node-name", self.node, "--allow-any-disk"]
        with (self.directory / "agent.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - ours

    def log(self) -> str:
        return (self.directory / "agent.log").read_text()

    def close(self) -> None:
        self.admin.delete(object_path("v1", "nodes", self.node))
        path = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
        self.admin.delete(path)


@pytest.fixture
def cluster(admin: KubeClient, tmp_path: Path) -> Iterator[Cluster]:
    with Hub({"acme/a": Repo(dict(FILES))}) as hub:
        cluster = Cluster(admin, hub, tmp_path)
        cluster.catalog("[]")
        yield cluster
        cluster.close()


@pytest.fixture
def agent(cluster: Cluster) -> Iterator["subprocess.Popen[bytes]"]:
    agent = cluster.agent()
    yield agent
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(30) == 0, cluster.log()


@pytest.mark.usefixtures("agent")
def test_an_edit_of_the_config_map_fills_and_the_node_says_so(cluster: Cluster) -> None:
    cluster.catalog(cluster.entry())
    until(lambda: cluster.labels() == {f"model.larder.dev/{cluster.key}": "ready"}, "no label")
    assert (cluster.content / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    until(lambda: cluster.state() == "Ready", "no report")
    report = cluster.report()
    assert report is not None
    assert (report.models[0].name, report.models[0].revision) == ("a", cluster.commit)
    (owner,) = cluster.config_map()["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Node", cluster.node)
    assert "blockOwnerDeletion" not in owner


@pytest.mark.usefixtures("agent", "unguarded")
def test_a_catalog_that_turns_bad_or_goes_changes_nothing_and_is_reported(
    cluster: Cluster,
) -> None:
    cluster.catalog(cluster.entry(), defaults="{unlistedTTL: 0s}")
    until(lambda: cluster.state() == "Ready", "not ready")
    cluster.write_catalog("kind: Nonsense")
    until(lambda: bool((r := cluster.report()) and r.catalog_problems), "no problem told")
    assert cluster.content.is_dir()
    assert cluster.labels() == {f"model.larder.dev/{cluster.key}": "ready"}


@pytest.mark.usefixtures("agent")
def test_a_node_that_leaves_its_group_keeps_its_models_for_their_time(cluster: Cluster) -> None:
    cluster.catalog(cluster.entry())
    until(lambda: cluster.state() == "Ready", "not ready")
    path = object_path("v1", "nodes", cluster.node)
    cluster.admin.patch(path, {"metadata": {"labels": {"gpu": None}}})
    until(lambda: (r := cluster.report()) is not None and r.models[0].name is None, "still listed")
    assert cluster.content.is_dir()
    assert cluster.state() == "Ready"


@pytest.mark.usefixtures("agent")
def test_what_becomes_of_a_model_is_told_where_a_node_is_described(cluster: Cluster) -> None:
    def events() -> str:
        described = subprocess.run(  # noqa: S603 - ours
            ["kubectl", "describe", "node", cluster.node],  # noqa: S607 - the one on the PATH
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return described.partition("\nEvents:")[2]

    cluster.catalog(cluster.entry(), defaults="{unlistedTTL: 0s}")
    until(lambda: f"Model {cluster.key} is ready on this node." in events(), "no ModelReady")
    cluster.catalog("[]", defaults="{unlistedTTL: 0s}")
    until(lambda: not (r := cluster.report()) or not any(m.name for m in r.models), "still listed")
    cluster.catalog("[]", defaults="{unlistedTTL: 0s, joinTimeout: 1m}")  # look again now
    until(lambda: f"Model {cluster.key} was evicted: Unlisted." in events(), "no ModelEvicted")
    assert "larder.dev/agent" in events()


@pytest.mark.usefixtures("agent")
def test_a_label_of_ours_that_somebody_changed_is_put_back(cluster: Cluster) -> None:
    cluster.catalog(cluster.entry())
    name = f"model.larder.dev/{cluster.key}"
    until(lambda: cluster.labels() == {name: "ready"}, "no label")
    path = object_path("v1", "nodes", cluster.node)
    cluster.admin.patch(path, {"metadata": {"labels": {name: "failed", f"{name[:-1]}0": "x"}}})
    until(lambda: cluster.labels() == {name: "ready"}, "not put back")


@pytest.mark.usefixtures("agent")
def test_a_token_comes_from_a_secret_and_a_missing_one_is_said(cluster: Cluster) -> None:
    cluster.hub.repos["acme/a"] = Repo(dict(FILES), private=True, tokens=("hf_secret",))
    name = f"hf-{cluster.node}"
    cluster.catalog(cluster.entry(f", credentials: {{secretName: {name}}}"))
    until(lambda: cluster.reason() == "AccessDenied", "no failure told")
    report = cluster.report()
    assert report is not None
    assert report.models[0].message == (f"model 'a': Secret larder-credentials/{name} is not there")
    data = {"HF_TOKEN": base64.b64encode(b"hf_secret\n").decode()}
    secrets = collection_path("v1", "secrets", namespace=CREDENTIALS_NAMESPACE)
    cluster.admin.create(secrets, {"metadata": {"name": name}, "data": data})
    try:
        cluster.catalog(cluster.entry(f", priority: 1, credentials: {{secretName: {name}}}"))
        until(lambda: cluster.state() == "Ready", "not ready")
    finally:
        cluster.admin.delete(f"{secrets}/{name}")
    assert "hf_secret" not in cluster.log()
    assert "hf_secret" not in json.dumps(cluster.config_map())


@pytest.mark.usefixtures("agent")
def test_a_model_that_a_pod_of_this_node_mounts_is_not_evicted(
    cluster: Cluster, namespace: str
) -> None:
    cluster.catalog(cluster.entry(), defaults="{unlistedTTL: 0s}")
    until(lambda: cluster.state() == "Ready", "not ready")
    volume = {"name": "m", "hostPath": {"path": str(cluster.content.parent)}}
    pods = collection_path("v1", "pods", namespace=namespace)
    accounts = object_path("v1", "serviceaccounts", "default", namespace=namespace)

    def has_account() -> bool:
        try:
            return bool(cluster.admin.get(accounts))
        except NotFoundError:
            return False

    until(has_account, "no service account")
    spec = {
        "nodeName": cluster.node,
        "containers": [{"name": "c", "image": "none"}],
        "volumes": [volume],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
    }
    cluster.admin.create(pods, {"metadata": {"name": "user"}, "spec": spec})
    cluster.catalog("[]", defaults="{unlistedTTL: 0s}")
    until(lambda: (r := cluster.report()) is not None and r.models[0].name is None, "listed")
    assert cluster.content.is_dir()
    cluster.admin.delete(f"{pods}/user", options={"gracePeriodSeconds": 0})
    until(lambda: not cluster.content.exists(), "never evicted")
    until(lambda: cluster.labels() == {}, "label stays")


@pytest.mark.usefixtures("agent")
def test_a_report_goes_with_its_node(cluster: Cluster) -> None:
    cluster.catalog(cluster.entry())
    until(lambda: cluster.state() == "Ready", "not ready")
    cluster.admin.delete(object_path("v1", "nodes", cluster.node))
    try:
        until(lambda: cluster.report() is None, "the report stays")
    finally:
        cluster.admin.create(collection_path("v1", "nodes"), {"metadata": {"name": cluster.node}})
