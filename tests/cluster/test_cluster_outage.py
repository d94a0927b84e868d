"""The API server is gone for two minutes, and back: the agent and the webhook live through it.

They are processes of their own and reach the real API server through a relay that is cut. Two
minutes are what is promised, so two minutes it takes.
"""

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from demo.hub import Drip, Fault, Hub, Repo
from larder.identity import identity_of
from larder.layout import Key
from runtime.kube.client import KubeClient
from tests.cluster.test_cluster_agent import Cluster, until
from tests.cluster.test_cluster_webhook import CERTIFICATES
from tests.cluster.test_cluster_webhook import Cluster as Webhook
from tests.fakes.relay import Relay

pytest_plugins = ["tests.webhook.conftest"]  # the real process, the recorded reviews

OUTAGE_SECONDS = 120.0
BACK_SECONDS = 90.0  # no pause is longer than 30
MOST_TRIES = 300  # of two programs with eight loops; 109 were seen, and a hot loop has thousands


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """Before the API server; from here on, KUBECONFIG names it."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    server = urlsplit(cluster["server"])
    assert server.hostname
    with Relay(server.hostname, server.port or 443) as relay:
        cluster["server"] = f"https://127.0.0.1:{relay.port}"
        cluster.setdefault("tls-server-name", server.hostname)
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield relay


@pytest.fixture
def cluster(admin: KubeClient, relay: Relay, tmp_path: Path) -> Iterator[Cluster]:
    del relay  # who starts later goes through it; the admin does not
    repos = {f"acme/{name}": Repo({"model.gguf": name.encode() * 20_000}) for name in "abc"}
    with Hub(repos) as hub:
        cluster = Cluster(admin, hub, tmp_path)
        yield cluster
        cluster.close()


@pytest.fixture
def webhook(
    admin: KubeClient, cluster: Cluster, namespace: str, start_webhook: Callable[..., Any]
) -> Iterator[Webhook]:
    del cluster  # whose relay it starts behind
    process = start_webhook("--kubeconfig", os.environ["KUBECONFIG"], "--log-level", "debug")
    process.wait_first_for("admission path known")
    said = admin.get(CERTIFICATES)["data"]["path"]
    process.admission_path = f"/{base64.b64decode(said).decode()}"
    webhook = Webhook(admin, process, namespace)
    webhook.label(volume="hostPath")
    yield webhook
    assert process.stop() == 0


def list_models(cluster: Cluster, names: str) -> None:
    """Let the catalog have these."""
    entries = [
        f"{{name: {name}, storageUri: 'hf://acme/{name}', namespaces: ['*'], nodeGroups: [h100],"
        f" revision: '{commit(cluster, name)}', fetchFrom: '{cluster.hub.url}'}}"
        for name in names
    ]
    cluster.catalog(f"[{', '.join(entries)}]")


def commit(cluster: Cluster, name: str) -> str:
    return str(cluster.hub.repos[f"acme/{name}"].branches["main"])


def key(cluster: Cluster, name: str) -> Key:
    return identity_of(f"hf://acme/{name}", revision=commit(cluster, name)).key


def content(cluster: Cluster, name: str) -> Path:
    return cluster.root / "slots" / key(cluster, name) / "content"


def is_told_ready(cluster: Cluster, name: str) -> bool:
    """Whether label and report say so; a report names what has left the catalog by its key."""
    report = cluster.report()
    told = {model.key: model.state.value for model in report.models} if report else {}
    label = cluster.labels().get(f"model.larder.dev/{key(cluster, name)}")
    return (told.get(key(cluster, name)), label) == ("Ready", "ready")


def asking_for(review: Callable[[str], Any], name: str) -> Any:
    """The review of a predictor of a model."""
    asked = review("hf-raw.after-kserve")
    init, *_ = asked["request"]["object"]["spec"]["initContainers"]
    init["args"][0] = f"hf://acme/{name}"
    return asked


def test_two_minutes_without_the_api_server_lose_no_work_and_make_no_storm(
    cluster: Cluster, relay: Relay, webhook: Webhook, review: Callable[[str], Any]
) -> None:
    list_models(cluster, "a")
    agent = cluster.agent()
    try:
        webhook.settle(asking_for(review, "a"), "Cached")
        until(lambda: is_told_ready(cluster, "a"), "the first fill")
        drip = Fault(Drip(step_bytes=1000, pause_seconds=0.25), kind="get")
        cluster.hub.faults.append(drip)
        list_models(cluster, "ab")
        until(lambda: drip.hits > 0, "the second fill")
        relay.cut()
        gone = time.monotonic()
        list_models(cluster, "ac")  # nobody sees it yet
        until(content(cluster, "b").is_dir, "the fill under way ends with the API server")
        assert not is_told_ready(cluster, "b")
        until(
            lambda: time.monotonic() - gone > OUTAGE_SECONDS,
            "two minutes",
            2 * OUTAGE_SECONDS,
        )
        assert agent.poll() is None, cluster.log()
        assert 0 < relay.refused < MOST_TRIES
        assert content(cluster, "a").is_dir()
        assert not content(cluster, "c").is_dir()
        assert webhook.ask(asking_for(review, "a"))[0] == "Cached"
        assert webhook.ask(asking_for(review, "c"))[0] == "ModelNotInCatalog"
        relay.mend()
        for name in "abc":  # b has left the catalog and stays for its time
            until(lambda name=name: is_told_ready(cluster, name), name, BACK_SECONDS)
        asked = asking_for(review, "c")
        until(lambda: webhook.ask(asked)[0] == "Cached", "the webhook's catalog", BACK_SECONDS)
    finally:
        agent.terminate()
        assert agent.wait(30) == 0, cluster.log()
