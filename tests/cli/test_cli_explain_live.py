"""`larder explain pod/NAME` says what became of a pod that a cluster has, and why."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from cli_cases import ACTING, CATALOG, COMMIT, QWEN, RECORDED, Run, larder, shape_fault

from cli.explain import JSON_EXAMPLE as DECISION_EXAMPLE
from cli.explain_live import JSON_EXAMPLE
from larder.catalog import read_catalog
from larder.claims import LABELS, Claim
from larder.layout import Key
from larder.matching import CatalogIndex
from larder.node_report import COMPONENT, ModelReport, NodeReport, config_map_name
from larder.status import ModelState
from tests.fakes.kubeconfig import write_kubeconfig
from tests.runtime.kube.api_server import ApiServer, refusing
from webhook.mutation import AdmissionRequest, View, apply_patch, decide

SYSTEM = "larder-system"
REQUIRED = CATALOG.replace("namespaces: [chat]", "namespaces: [chat], placement: Require", 1)
READY = ModelReport(QWEN, "qwen", ModelState.READY, revision=COMMIT)
HIT = {"terminated": {"exitCode": 0, "message": "hit 0.01s"}}
ENDED = {"exitCode": 0, "startedAt": "2026-11-21T10:00:00Z", "finishedAt": "2026-11-21T10:01:30Z"}


class Cluster:
    """One with the catalog, namespace `chat`, which may use hostPath, and a node with the model."""

    def __init__(self, server: ApiServer, kubeconfig: Path) -> None:
        self.server = server
        self.kubeconfig = kubeconfig
        self.namespace(**{"larder.dev/volume": "hostPath"})
        self.catalog(CATALOG)
        self.node("gpu-1")
        self.report("gpu-1", READY)

    def namespace(self, **labels: str) -> None:
        self.put("namespaces", "chat", "", labels=labels)

    def catalog(self, document: str) -> None:
        self.put("configmaps", "larder-catalog", SYSTEM, data={"catalog.yaml": document})

    def node(self, name: str, labels: dict[str, str] | None = None, **spec: object) -> None:
        self.put("nodes", name, "", labels=labels or {}, spec=spec)

    def report(self, node: str, *models: ModelReport, speaker: str = "") -> None:
        text = NodeReport(speaker or node, models=models).text()
        labels = dict([COMPONENT])
        data = {"report.json": text}
        self.put("configmaps", config_map_name(node), SYSTEM, labels=labels, data=data)

    def put(
        self,
        plural: str,
        name: str,
        namespace: str,
        labels: dict[str, str] | None = None,
        **fields: object,
    ) -> None:
        metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
        self.server.add(name, plural, metadata=metadata, **fields)

    def pod(self, pod: Any, state: object = None, node: str = "gpu-1") -> None:
        pod["spec"]["nodeName"] = node
        if state:
            status = {"name": "storage-initializer", "state": state, "restartCount": 0}
            pod["status"] = {"initContainerStatuses": [status]}
        self.server.add("x", "pods", **pod)

    def explain(self, target: str = "pod/qwen", *more: object) -> Run:
        return larder("explain", target, "-n", "chat", "--kubeconfig", self.kubeconfig, *more)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    server = ApiServer()
    yield Cluster(server, write_kubeconfig(tmp_path / "kubeconfig", {"server": server.host}))
    server.stop()


def of_kserve(name: str = "qwen") -> Any:
    """A pod as KServe made it."""
    pod = json.loads((RECORDED / "hf-raw.after-kserve.json").read_text())["request"]["object"]
    pod["metadata"] |= {"name": name, "namespace": "chat"}
    return pod


def rewritten(name: str = "qwen", catalog: str = CATALOG) -> Any:
    """The same as the webhook makes it."""
    index = CatalogIndex(read_catalog(catalog.encode(), standalone=True))
    pod = of_kserve(name)
    decision = decide(AdmissionRequest(pod, "chat"), View(index, PurePosixPath("/var/lib/larder")))
    assert decision.reason == "Cached"
    return apply_patch(pod, decision.operations)


def cells(run: Run, name: str) -> list[str]:
    """The words of a table's row."""
    return next(line.split() for line in run.out.splitlines() if line.split()[:1] == [name])


def test_a_pod_that_hit_shows_its_start_its_annotations_its_entry_and_its_node(
    cluster: Cluster,
) -> None:
    cluster.pod(rewritten(), HIT)
    run = cluster.explain()
    assert (run.status, run.err) == (0, "")
    assert run.out.startswith("AlreadyRewritten\n")
    assert "hf://Qwen/Qwen2-0.5B-Instruct: Matched: entry qwen answers for it" in run.out
    row = ["qwen", "gpu-1", "AlreadyRewritten", "Cached", QWEN, "hit", "in", "0.01", "s"]
    assert row in [line.split() for line in run.out.splitlines()]
    assert cells(run, "gpu-1") == ["gpu-1", QWEN, "Ready", "a", "pod", "is", "here"]
    assert len(run.out.splitlines()) <= 24


def test_the_document_has_the_shape_of_the_example(cluster: Cluster) -> None:
    cluster.pod(rewritten(), HIT)
    run = cluster.explain("pod/qwen", "-o", "json")
    assert run.status == 0
    example = json.loads(JSON_EXAMPLE)
    explanation = run.json["pods"][0]["explanation"]
    assert shape_fault(explanation, json.loads(DECISION_EXAMPLE)) is None
    pods = [{**pod, "explanation": {}} for pod in run.json["pods"]]
    assert shape_fault({**run.json, "pods": pods}, example) is None
    assert run.json["pods"][0]["isRewritten"] is True
    assert run.json["pods"][0]["initializer"] == {
        "outcome": "Hit",
        "sentence": "hit in 0.01 s",
        "seconds": 0.01,
    }


@pytest.mark.parametrize(
    ("state", "outcome", "sentence", "status"),
    [
        pytest.param(HIT, "Hit", "hit in 0.01 s", 0, id="a hit"),
        pytest.param(
            {"terminated": {"exitCode": 0, "message": "joined 42.10s"}},
            "Joined",
            "joined in 42.10 s",
            0,
            id="a wait for the node's fill",
        ),
        pytest.param(
            {"terminated": ENDED},
            "FellBack",
            "fell back to KServe's own download, done after 90 s; its log says why",
            1,
            id="a fallback",
        ),
        pytest.param(
            {"terminated": {"exitCode": 0, "message": "hit 0.01s and a token"}},
            "FellBack",
            "fell back to KServe's own download, done; its log says why",
            1,
            id="words of KServe's that are never shown",
        ),
        pytest.param(
            {"terminated": {**ENDED, "exitCode": 137, "reason": "OOMKilled", "message": "token"}},
            "Failed",
            "ended with status 137 after 90 s: OOMKilled",
            1,
            id="a failure",
        ),
        pytest.param(
            {"running": {"startedAt": "2026-11-21T10:00:00Z"}},
            "Running",
            "running since 2026-11-21T10:00:00Z",
            0,
            id="one at work",
        ),
        pytest.param(
            {"waiting": {"reason": "ImagePullBackOff"}},
            "Waiting",
            "waiting: ImagePullBackOff",
            0,
            id="one that waits",
        ),
        pytest.param(None, "Unknown", "not started yet", 0, id="no word of it"),
    ],
)
def test_what_the_initializer_did_is_told_by_its_state(
    cluster: Cluster, state: object, outcome: str, sentence: str, status: int
) -> None:
    cluster.pod(rewritten(), state)
    run = cluster.explain("pod/qwen", "-o", "json")
    found = run.json["pods"][0]["initializer"]
    assert (found["outcome"], found["sentence"]) == (outcome, sentence)
    assert run.status == status
    assert "token" not in run.out


def test_restarts_of_the_initializer_are_told(cluster: Cluster) -> None:
    pod = rewritten()
    cluster.pod(pod, HIT)
    pod["status"]["initContainerStatuses"][0]["restartCount"] = 2
    assert "hit in 0.01 s (restarts: 2)" in cluster.explain().out


def test_a_pod_from_before_its_entry_says_what_one_made_now_would_get(cluster: Cluster) -> None:
    cluster.pod(of_kserve(), {"terminated": ENDED})
    run = cluster.explain()
    assert run.status == 1
    lines = run.out.splitlines()
    assert lines[0] == "Cached"
    assert "cure: Delete the pod, so that it is made again." in lines
    told = f"annotations that it would get: larder.dev/decision: Cached, larder.dev/keys: {QWEN}"
    assert told in lines
    assert cells(run, "POD")[2] == "REASON"
    assert "Cached, if made now" in run.out
    assert "KServe's own download, done after 90 s" in run.out


def test_annotations_variables_and_messages_of_a_pod_do_not_make_it_served(
    cluster: Cluster,
) -> None:
    pod = of_kserve()
    env = rewritten()["spec"]["initContainers"][0]["env"]
    pod["spec"]["initContainers"][0]["env"] = env
    assert "LARDER_SLOTS" in {variable["name"] for variable in env}
    said = {"larder.dev/decision": "Cached", "larder.dev/keys": QWEN}
    pod["metadata"]["annotations"] |= said
    cluster.pod(pod, HIT)
    run = cluster.explain("pod/qwen", "-o", "json")
    assert run.status == 1
    assert run.json["pods"][0]["annotations"] == said
    assert run.json["pods"][0]["isRewritten"] is False
    assert run.json["pods"][0]["initializer"]["outcome"] == "Downloaded"


@pytest.mark.parametrize(
    ("document", "reason", "words"),
    [
        pytest.param(
            CATALOG.replace("namespaces: [chat]", "namespaces: [search]"),
            "NamespaceNotAllowed",
            "it is for the namespaces search",
            id="an entry for others",
        ),
        pytest.param(
            CATALOG.replace("Qwen/Qwen2-0.5B", "Qwen/Qwen2-7B"),
            "ModelNotInCatalog",
            "its URI is another",
            id="no entry",
        ),
        pytest.param(
            "kind: Catalog\n",
            "CatalogNotLoaded",
            "unknown: the last good catalog, which webhooks go on with",
            id="a catalog with mistakes",
        ),
    ],
)
def test_a_pod_that_was_left_alone_says_why(
    cluster: Cluster, document: str, reason: str, words: str
) -> None:
    cluster.catalog(document)
    cluster.pod(of_kserve())
    run = cluster.explain()
    assert run.status == 1
    assert run.out.startswith(f"{reason}\n")
    assert words in run.out
    assert "cure: " in run.out


def test_a_pod_stays_rewritten_whatever_became_of_the_catalog(cluster: Cluster) -> None:
    cluster.pod(rewritten(), HIT)
    cluster.catalog(CATALOG.replace("Qwen/Qwen2-0.5B", "Qwen/Qwen2-7B"))
    run = cluster.explain()
    assert run.status == 0
    assert run.out.startswith("AlreadyRewritten\n")
    assert "hf://Qwen/Qwen2-0.5B-Instruct: ModelNotInCatalog" in run.out
    assert QWEN in cells(run, "gpu-1")


def test_a_required_model_is_placed(cluster: Cluster) -> None:
    cluster.catalog(REQUIRED)
    cluster.pod(rewritten(catalog=REQUIRED))
    run = cluster.explain("pod/qwen", "-o", "json")
    assert run.status == 0
    assert run.json["pods"][0]["initializer"]["outcome"] == "Placed"
    assert run.json["pods"][0]["nodes"][0]["state"] == "Ready"


def test_a_pod_is_decided_about_as_before_it_was_scheduled(cluster: Cluster) -> None:
    cluster.catalog(REQUIRED)
    cluster.pod(of_kserve())
    assert cluster.explain().out.startswith("Cached\n")


def test_a_pod_without_initializer_says_so(cluster: Cluster) -> None:
    pod = of_kserve()
    del pod["spec"]["initContainers"]
    cluster.pod(pod)
    run = cluster.explain()
    assert run.status == 1
    assert run.out.startswith("NoStorageInitializer\n")
    assert "the pod has none" in run.out


def test_labels_of_the_namespace_and_claims_in_it_decide(cluster: Cluster) -> None:
    cluster.namespace()
    cluster.pod(of_kserve())
    assert cluster.explain().out.startswith("HostPathForbidden\n")
    claim = Claim("chat", Key(QWEN))
    spec = {"volumeName": claim.volume_name, "accessModes": ["ReadOnlyMany"]}
    cluster.put(
        "persistentvolumeclaims",
        claim.name,
        "chat",
        labels=dict(LABELS),
        spec=spec,
        status={"phase": "Pending"},
    )
    assert cluster.explain().out.startswith("VolumeNotReady\n")
    cluster.put(
        "persistentvolumeclaims",
        claim.name,
        "chat",
        labels=dict(LABELS),
        spec=spec,
        status={"phase": "Bound"},
    )
    assert cluster.explain().out.startswith("Cached\n")


def test_each_node_that_speaks_of_the_model_says_its_state_and_whether_it_could_take_the_pod(
    cluster: Cluster,
) -> None:
    pod = of_kserve()
    pod["spec"]["nodeSelector"] = {"gpu": "h100"}
    cluster.node("gpu-1", {"gpu": "h100"})
    cluster.node("gpu-2", {"gpu": "h100"})
    cluster.node("gpu-3", {"gpu": "a10"})
    cluster.node("gpu-4", {"gpu": "h100"}, unschedulable=True)
    cluster.node("gpu-5", {"gpu": "h100"})
    cluster.node("other", {"gpu": "h100"})
    total = 1024**3
    filling = ModelReport(
        QWEN,
        "qwen",
        ModelState.DOWNLOADING,
        bytes_done=total // 2,
        bytes_total=total,
        eta_seconds=45,
    )
    failed = ModelReport(
        QWEN, "qwen", ModelState.FAILED, reason="AccessDenied", message="the hub answered 401"
    )
    cluster.report("gpu-1")
    cluster.report("gpu-2", READY)
    cluster.report("gpu-3", filling)
    cluster.report("gpu-4", failed)
    cluster.report("gpu-5", replace(filling, bytes_total=0, eta_seconds=None))
    cluster.report("gone", READY)
    cluster.node("spoken-for", {"gpu": "h100"})
    cluster.report("other", READY, speaker="spoken-for")
    cluster.pod(pod)
    run = cluster.explain()
    rows = {
        line.split()[0]: line.rstrip()
        for line in run.out.splitlines()
        if QWEN in line and "gpu-" in line
    }
    assert "nothing is reported of it" in rows["gpu-1"]
    assert rows["gpu-1"].endswith("a pod is here")
    assert rows["gpu-2"].split()[2:] == ["Ready", "yes"]
    assert "Downloading 512 MiB of 1 GiB, 45 s left" in rows["gpu-3"]
    assert rows["gpu-3"].endswith("no: it lacks the label gpu=h100")
    assert "Failed: AccessDenied: the hub answered 401" in rows["gpu-4"]
    assert rows["gpu-4"].endswith("no: it is cordoned")
    assert rows["gpu-5"].split()[2:] == ["Downloading", "512", "MiB", "yes"]  # of who knows what
    assert cells(run, "gone")[2:] == ["Ready", "no:", "there", "is", "no", "such", "node"]
    assert not {"other", "spoken-for"} & set(run.out.split())


def test_a_large_cluster_is_still_one_screen(cluster: Cluster) -> None:
    for i in range(40):
        cluster.node(f"more-{i}")
        cluster.report(f"more-{i}", READY)
    cluster.pod(rewritten(), HIT, node="own")
    cluster.node("own")
    run = cluster.explain()
    assert "and 30 more rows (--output json has them)" in run.out
    assert cells(run, "own")[-4:] == ["a", "pod", "is", "here"]
    assert len(run.out.splitlines()) <= 40
    assert len(cluster.explain("pod/qwen", "-o", "json").json["pods"][0]["nodes"]) == 42


def test_an_inference_service_is_all_of_its_pods(cluster: Cluster) -> None:
    cluster.pod(rewritten("one"), HIT)
    cluster.pod(rewritten("two"), {"terminated": ENDED}, node="gpu-2")
    stranger = rewritten("stranger")
    stranger["metadata"]["labels"] |= {"serving.kserve.io/inferenceservice": "other"}
    cluster.pod(stranger, HIT)
    run = cluster.explain("isvc/qwen-hf")
    assert run.status == 1  # one fell back
    assert run.out.count("AlreadyRewritten\n") == 1
    assert cells(run, "one")[-3:] == ["in", "0.01", "s"]
    assert "fell back" in " ".join(cells(run, "two"))
    assert "stranger" not in run.out
    found = cluster.explain("isvc/qwen-hf", "-o", "json").json
    assert [(p["name"], p["isServed"]) for p in found["pods"]] == [("one", True), ("two", False)]


def test_an_inference_service_without_pods_is_a_problem_and_a_missing_one_wrong_use(
    cluster: Cluster,
) -> None:
    run = cluster.explain("isvc/qwen-hf")
    sentence = "larder: isvc/qwen-hf is not there in namespace chat\n"
    assert (run.status, run.out, run.err) == (2, "", sentence)
    cluster.put("inferenceservices", "qwen-hf", "chat")
    run = cluster.explain("isvc/qwen-hf")
    assert (run.status, run.err) == (1, "")
    assert "isvc/qwen-hf has no pod in namespace chat" in run.out


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("/api/v1/nodes", "unknown: the nodes could not be listed", id="nodes"),
        pytest.param("/api/v1/namespaces/chat", "HostPathForbidden", id="the namespace"),
        pytest.param(
            f"/api/v1/namespaces/{SYSTEM}/configmaps",
            "nothing is reported of it",
            id="the nodes' reports",
        ),
        pytest.param("/api/v1/persistentvolumeclaims", "Cached", id="the claims"),
    ],
)
def test_what_may_not_be_read_is_named_as_unknown(cluster: Cluster, path: str, words: str) -> None:
    cluster.pod(of_kserve(), node="gpu-2")
    cluster.server.standing["GET", path] = refusing(403, "Forbidden")
    run = cluster.explain()
    assert run.status == 1
    assert f"unknown: GET {path}: not allowed" in run.out
    assert words in run.out


def test_what_a_cluster_says_cannot_act_on_a_terminal(cluster: Cluster) -> None:
    pod = rewritten()
    pod["metadata"]["annotations"]["larder.dev/keys"] = "\x1b[2J[red]\u202e"
    cluster.pod(pod, {"waiting": {"reason": "\x1b]0;x\x07"}})
    cluster.report("gpu-1", ModelReport(QWEN, "q", ModelState.FAILED, message="\x9b31m"))
    for form in ("table", "json"):
        run = cluster.explain("pod/qwen", "-o", form)
        assert run.status == 0
        assert ACTING.search(run.out) is None
        assert "[red]" in run.out


def test_a_pod_is_only_read(cluster: Cluster) -> None:
    cluster.pod(rewritten(), HIT)
    cluster.explain()
    assert {seen.method for seen in cluster.server.seen} == {"GET"}


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        pytest.param("qwen", "'qwen' is no target; accepted: pod/NAME or isvc/NAME", id="a name"),
        pytest.param("node/n", "'node/n' is no target", id="another kind"),
        pytest.param("pod/", "'pod/' is no target", id="no name"),
        pytest.param("pod/..", "'..' is not the name of a Kubernetes object", id="no name at all"),
        pytest.param("pod/a/b", "'a/b' is not the name of a Kubernetes object", id="a path"),
        pytest.param("isvc/a,b=c", "'a,b=c' is not the name", id="a selector"),
        pytest.param("pod/none", "pod/none is not there in namespace chat", id="a missing pod"),
    ],
)
def test_a_target_that_is_none_is_wrong_use(cluster: Cluster, target: str, sentence: str) -> None:
    run = cluster.explain(target)
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith(f"larder: {sentence}")
    assert run.err.count("\n") == 1


def test_options_that_do_not_go_together_are_wrong_use(cluster: Cluster, tmp_path: Path) -> None:
    run = larder("explain", "pod/qwen")
    assert run.err == "larder: pod/qwen needs its namespace; accepted: --namespace NAME\n"
    run = cluster.explain("pod/qwen", "-f", "pod.yaml")
    assert run.err.startswith("larder: pod/qwen is read from a cluster")
    run = larder("explain", "-n", "chat")
    assert run.err.startswith("larder: nothing to explain; accepted: pod/NAME, isvc/NAME, or")
    run = cluster.explain("pod/qwen", "--kubeconfig", tmp_path / "missing")
    assert run.status == 2
    assert run.err.endswith("missing: cannot be used to reach an API server\n")


def test_a_cluster_that_does_not_answer_is_one_sentence(cluster: Cluster) -> None:
    cluster.server.standing["GET", "/api/v1/namespaces/chat/pods/qwen"] = refusing(503)
    run = cluster.explain()
    sentence = "larder: GET /api/v1/namespaces/chat/pods/qwen: answered 503\n"
    assert (run.status, run.out, run.err) == (2, "", sentence)
