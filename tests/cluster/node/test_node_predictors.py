"""Predictor pods on a real node: from the cache, joining a fill, or as without Larder."""

from collections.abc import Callable

import pytest

from larder.contract import SYSTEM_NAMESPACE
from runtime.kube.paths import collection_path
from tests.cluster.node.node_cluster import container_of, kubectl, until
from tests.cluster.node.predictors import DEMO_IMAGE, Model, PodOf, Predictor
from tests.cluster.node.whole import Cluster, await_webhooks, webhooks

SECOND = "model-00002-of-00002.safetensors"
KILLER = """
import os, pathlib, sys
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        is_of_the_container = sys.argv[1] in (process / "cgroup").read_text()
    except FileNotFoundError:  # ended meanwhile
        continue
    if is_of_the_container:
        os.kill(int(process.name), 9)
"""


@pytest.fixture
def llama(cluster: Cluster) -> Model:
    return cluster.hub.model("llama")


@pytest.fixture
def tiny(cluster: Cluster) -> Model:
    return cluster.hub.model("tiny")


def test_predictors_as_kserve_makes_them_read_the_right_bytes_from_the_cache(
    cluster: Cluster, tiny: Model, llama: Model
) -> None:
    cluster.fill(tiny, llama)
    before = cluster.hub.tell()
    for model in (tiny, llama):
        predictor = cluster.predict(model)
        predictor.await_ready()
        assert (predictor.decision, predictor.last_words()) == ("Cached", "hit")
        assert predictor.digests() == model.digests
    assert cluster.hub.tell() == before


def test_a_predictor_joins_a_fill_that_is_under_way(cluster: Cluster, llama: Model) -> None:
    before = cluster.hub.fetches(llama)
    with cluster.hub.stalled(SECOND):
        cluster.write_catalog(llama)
        until(lambda: cluster.hub.tell()["isStalled"], "the fill was under way")
        predictor = cluster.predict(llama)
        predictor.await_waiting()
        assert cluster.node.states() == {llama.key: "filling"}
    predictor.await_ready()
    assert (predictor.decision, predictor.last_words()) == ("Cached", "joined")
    assert predictor.digests() == llama.digests
    assert cluster.hub.fetches(llama) == {path: n + 1 for path, n in before.items()}


def test_a_predictor_on_a_node_without_agent_starts_as_without_larder(
    cluster: Cluster, tiny: Model
) -> None:
    cluster.node.let_agent(run=False)
    before = cluster.hub.fetches(tiny)
    cluster.write_catalog(tiny)
    until(lambda: cluster.try_to_predict(tiny) == "Cached", "the webhook knew the model")
    predictor = cluster.predict(tiny)
    predictor.await_ready()
    assert (predictor.decision, predictor.last_words()) == ("Cached", "")
    assert predictor.digests() == tiny.digests
    assert cluster.hub.fetches(tiny) == {path: n + 1 for path, n in before.items()}
    cluster.node.let_agent(run=True)
    cluster.await_state(tiny, "ready")


def test_a_predictor_that_is_made_while_no_webhook_answers_starts_as_without_larder(
    cluster: Cluster, tiny: Model
) -> None:
    cluster.fill(tiny)
    scale = ("-n", SYSTEM_NAMESPACE, "scale", "deployment/larder-webhook")
    kubectl(*scale, "--replicas=0")
    try:
        until(lambda: not webhooks(cluster.admin), "both webhooks were gone")
        predictor = cluster.predict(tiny)
        predictor.await_ready()
    finally:
        kubectl(*scale, "--replicas=2")
        await_webhooks(cluster.admin)
    assert (predictor.decision, predictor.last_words()) == ("", "")
    assert predictor.digests() == tiny.digests


def kill(cluster: Cluster, agent: str) -> None:
    """Kill every process of the agent's container, from a pod that sees those of the node."""
    container = {
        "name": "killer",
        "image": DEMO_IMAGE,
        "command": ["python3", "-c", KILLER, agent],
        "securityContext": {"runAsUser": 0},
    }
    spec = {
        "hostPID": True,
        "nodeName": cluster.node.name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    path = collection_path("v1", "pods", namespace=SYSTEM_NAMESPACE)
    content = {"metadata": {"name": "killer"}, "spec": spec}
    killer = PodOf(cluster.admin, cluster.admin.create(path, content))
    try:
        until(lambda: killer.now()["status"]["phase"] == "Succeeded", "the agent was killed")
    finally:
        killer.delete()


def roll_out(_cluster: Cluster, _agent: str) -> None:
    kubectl("-n", SYSTEM_NAMESPACE, "rollout", "restart", "daemonset/larder-agent")


@pytest.mark.parametrize("end", [kill, roll_out])
def test_predictors_wait_on_when_the_agent_ends_in_mid_fill_and_nothing_is_fetched_twice(
    cluster: Cluster, llama: Model, end: Callable[[Cluster, str], None]
) -> None:
    hub, agent = cluster.hub, container_of(cluster.node.await_agent())
    before = hub.fetches(llama)
    in_flight = {path: n + 2 * (path == SECOND) for path, n in before.items()}
    with hub.stalled(SECOND):
        cluster.write_catalog(llama)
        until(lambda: hub.tell()["isStalled"], "the fill was under way")
        predictors = [cluster.predict(llama), cluster.predict(llama)]
        for predictor in predictors:
            predictor.await_waiting()
        end(cluster, agent)
        cluster.node.await_agent(but=agent)
        until(lambda: hub.fetches(llama)[SECOND] == in_flight[SECOND], "the new agent fetched on")
    for predictor in predictors:
        predictor.await_ready()
        assert (predictor.last_words(), predictor.initializer()["restartCount"]) == ("joined", 0)
        assert predictor.digests() == llama.digests
    whole = {path: n + 1 for path, n in before.items()}
    assert hub.fetches(llama) == {**whole, SECOND: in_flight[SECOND]}


def test_a_server_that_ends_starts_again_with_the_same_bytes(cluster: Cluster, tiny: Model) -> None:
    cluster.fill(tiny)
    predictor = cluster.predict(tiny)
    predictor.await_ready()
    requests = cluster.hub.tell()["requests"]
    restart_server(predictor)
    assert predictor.digests() == tiny.digests
    assert cluster.hub.tell()["requests"] == requests


def test_a_model_that_left_the_catalog_stays_as_long_as_a_predictor_mounts_it(
    cluster: Cluster, tiny: Model, llama: Model
) -> None:
    cluster.fill(tiny)
    predictor = cluster.predict(tiny)
    predictor.await_ready()
    cluster.write_catalog()  # nothing is listed, and what is unlisted may be evicted at once
    until(lambda: cluster.node.reported() == {tiny.key: None}, "the model was unlisted")
    cluster.fill(llama)  # so the agent has planned again, and more than once
    assert cluster.node.states() == {tiny.key: "ready", llama.key: "ready"}
    restart_server(predictor)
    assert predictor.digests() == tiny.digests
    predictor.delete()
    until(lambda: cluster.node.states() == {llama.key: "ready"}, "the model was evicted")


def restart_server(predictor: Predictor) -> None:
    """End the server's container, and wait until another one has read the model."""
    before = container_of(predictor.now())
    command = ("exec", predictor.name, "--", "sh", "-c", "kill 1")
    kubectl("-n", predictor.namespace, *command, check=False)
    until(lambda: container_of(predictor.now()) != before, "another container was made")
    predictor.await_ready()
