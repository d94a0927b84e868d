"""KServe's shapes of pods on a real node: each runs, and reads the right bytes at the right paths.

All of them are made at once; the catalog and the cache stay as they are until the last has ended.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from larder.claims import Claim, is_usable
from larder.contract import CACHE_DISABLED, CACHE_OPT_OUT, STORAGE_INITIALIZER
from runtime.kube.client import KubeClient
from runtime.kube.errors import ForbiddenError, NotFoundError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.node.node_cluster import Node, until
from tests.cluster.node.predictors import HubPod, Predictor
from tests.cluster.node.shapes import Listed, Running, Stage, make_secrets, staged
from tests.cluster.node.whole import Cluster
from tests.fakes.predictor_pods import LLAMA, QWEN, SHAPES, Shape, shape, spec

BOUND_SECONDS = 120.0  # kube-controller-manager binds some claims at its resync only
ACCELERATOR = "cloud.google.com/gke-accelerator"
PROFILE = "pod-security.kubernetes.io/enforce"
CACHED = (
    "raw deployment",
    "Knative",
    "Istio's CNI, uid of the sidecar",
    "custom predictor",
    "collocated transformer",
    "canary with another URI under the same InferenceService",
    "worker of several nodes",
    "storageUris, one path inside another",
    "storage.key, where any endpoint will do",
    "storage container of KServe's with variables of its own",
    "credentials of GCS",
    "CA bundle",
    "restricted security context",
    "GKE's accelerator",
    "EKS' identity for service accounts",
    "a sidecar that reads the model",
    "an init container that mounts the model",
    "a native sidecar",
    "nodeName",
    "an agent that logs on Knative, which aggregates metrics",
    "LLM, single",
    "LLM, decode with a LoRA adapter below a shared /mnt",
    "LLM, prefill",
    "LLM, leader",
    "LLM, worker",
)
PARTLY = "storageUris, some cached"
LEFT_ALONE = "storage.key"
"""A pod whose endpoint is in a Secret: KServe's own download, as without Larder."""
CONFORMING: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass
class Stages:
    """Everything is cached, in three namespaces, and the pods of all shapes are made."""

    cluster: Cluster
    tiny: Listed
    restricted: Stage
    running: Mapping[str, Running]
    placed: Running
    fetched: dict[str, int]


@contextmanager
def namespace(admin: KubeClient, **labels: str) -> Iterator[str]:
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    path = collection_path("v1", "namespaces")
    admin.create(path, {"metadata": {"name": name, "labels": labels}})
    yield name
    admin.delete(object_path("v1", "namespaces", name))


@pytest.fixture(scope="module")
def stages(admin: KubeClient, installed: Node, hub: HubPod) -> Iterator[Stages]:
    cluster = Cluster(admin, installed, hub)
    with ExitStack() as stack:
        waits = stack.enter_context(namespace(admin, **{"larder.dev/volume": "hostPath"}))
        strict = stack.enter_context(namespace(admin, **{PROFILE: "restricted"}))
        models = {name: vars(hub.model(name)) for name in ("tiny", "llama", "spare")}
        tiny = Listed(**models["tiny"], name="tiny", namespaces=(hub.namespace, strict))
        llama = Listed(**models["llama"], name="llama", namespaces=(hub.namespace,))
        spare = Listed(
            **models["spare"], name="spare", namespaces=(hub.namespace,), is_from_anywhere=True
        )
        placed = Listed(**models["spare"], name="placed", namespaces=(waits,), placement="Require")
        stack.callback(cluster.tidy)
        cluster.fill(tiny, llama, spare, placed)
        make_secrets(admin, hub.namespace)
        installed.label(**{ACCELERATOR: "nvidia-l4"})
        stack.callback(installed.label, **{ACCELERATOR: None})
        uncached = f"{spare.uri}:main"
        uris = {QWEN: tiny.uri, "hf://org/lora-a": tiny.uri, LLAMA: llama.uri}
        uris |= {"s3://adapters/a": llama.uri, "s3://models/elsewhere": spare.uri}
        uris |= {"s3://else/where": uncached}
        digests = {model.uri: model.digests for model in (tiny, llama, spare)}
        digests |= {uncached: spare.digests}
        stage = Stage(installed.name, hub.endpoint, uris, digests)
        before = hub.tell()["fetches"]

        def run(row: Shape, name: str, where: str, stage: Stage) -> Running:
            put = staged(row, name, where, stage)
            path = collection_path("v1", "pods", namespace=where)
            made = Predictor(admin, admin.create(path, put.pod))
            cluster.predictors.append(made)
            return Running(made, put.wanted)

        running = {
            name: run(SHAPES[name], f"shape-{i}", hub.namespace, stage)
            for i, name in enumerate((*CACHED, PARTLY, LEFT_ALONE))
        }
        of_spare = Stage(stage.node, stage.endpoint, {QWEN: spare.uri}, digests)
        waiting = run(SHAPES["raw deployment"], "placed", waits, of_spare)
        yield Stages(cluster, tiny, stage, running, waiting, before)


@pytest.mark.parametrize("name", CACHED)
def test_a_shape_runs_from_the_cache(name: str, stages: Stages) -> None:
    running = stages.running[name]
    running.made.await_ready()
    assert (running.made.decision, running.made.last_words()) == ("Cached", "hit")
    assert "larder: hit" in running.made.log(STORAGE_INITIALIZER)
    assert running.digests() == running.wanted


def test_what_is_cached_of_several_uris_is_linked_and_the_rest_downloaded(stages: Stages) -> None:
    running = stages.running[PARTLY]
    running.made.await_ready()
    assert (running.made.decision, running.made.last_words()) == ("Cached", "")
    log = running.made.log(STORAGE_INITIALIZER)
    assert f"larder: {stages.tiny.uri}: Hit" in log
    assert "KServe's own initializer takes over, for 1 of 2" in log
    assert running.digests() == running.wanted


def test_a_shape_that_is_left_alone_downloads_as_without_larder(stages: Stages) -> None:
    running = stages.running[LEFT_ALONE]
    running.made.await_ready()
    assert (running.made.decision, running.made.last_words()) == ("", "")
    assert running.digests() == running.wanted


def test_a_placed_shape_runs_without_an_initializer(stages: Stages) -> None:
    running = stages.placed
    pod = running.made.await_ready()
    assert running.made.decision == "Cached"
    assert not pod["spec"].get("initContainers")
    assert running.digests() == running.wanted


def test_nothing_was_fetched_but_what_is_not_cached(stages: Stages) -> None:
    for running in (*stages.running.values(), stages.placed):
        running.made.await_ready()
    fetched = stages.cluster.hub.tell()["fetches"]
    more = {path: n - stages.fetched.get(path, 0) for path, n in fetched.items()}
    models = {path.split("/")[1] for path, n in more.items() if n}
    assert models == {"llama", "spare"}  # of the pod left alone, and of the URI beside a cached one
    assert set(more.values()) <= {0, 1}


def test_a_restricted_namespace_runs_a_shape_from_its_claim_that_it_refuses_untouched(
    admin: KubeClient, stages: Stages
) -> None:
    (where,) = set(stages.tiny.namespaces) - {stages.cluster.hub.namespace}
    claim = Claim(where, stages.tiny.key)
    path = object_path("v1", "persistentvolumeclaims", claim.name, namespace=where)

    def is_bound() -> bool:
        try:
            return is_usable(admin.get(path))
        except NotFoundError:
            return False

    until(is_bound, "its claim was Bound", BOUND_SECONDS, pause=0.5)
    row = shape(spec(securityContext=CONFORMING))
    put = staged(row, "restricted", where, stages.restricted)
    pods = collection_path("v1", "pods", namespace=where)
    untouched = json.loads(json.dumps(put.pod))
    untouched["metadata"]["annotations"][CACHE_OPT_OUT] = CACHE_DISABLED
    with pytest.raises(ForbiddenError):
        admin.create(pods, untouched)
    made = Predictor(admin, admin.create(pods, put.pod))
    stages.cluster.predictors.append(made)
    made.await_ready()
    running = Running(made, put.wanted)
    assert (made.decision, made.last_words()) == ("Cached", "hit")
    volumes = {v["name"]: v for v in made.made["spec"]["volumes"]}
    assert "persistentVolumeClaim" in volumes[claim.name]
    assert running.digests() == running.wanted
