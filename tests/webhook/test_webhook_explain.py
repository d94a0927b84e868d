"""`/explain` says what `larder explain` says, to who may ask, and only what they may see."""

import asyncio
import base64
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from larder.contract import INITIALIZER_COMMAND, SYSTEM_NAMESPACE
from larder.node_report import ModelReport
from larder.status import ModelState
from tests.fakes.kubeconfig import write_kubeconfig
from tests.fuzz.odd_reviews import OddReviews
from tests.runtime.kube.api_server import ApiServer, dropping, hanging, refusing
from tests.webhook.explain_cluster import (
    ACCESS_REVIEWS,
    ADMIN,
    COMMIT,
    HEAD,
    LABELS,
    OTHERS_ENTRY,
    OURS,
    OWN_ENTRY,
    QWEN,
    READS_CATALOG,
    READY,
    RECORDED,
    SECRET,
    STRANGER,
    TENANT,
    TOKEN_REVIEWS,
    ExplainCluster,
    of_kserve,
)
from webhook.certificates import SECRET as SECRET_NAME
from webhook.explaining.explainer import MAX_AT_ONCE
from webhook.mutation import AdmissionRequest, apply_patch, decide

SECRET_READY = ModelReport(SECRET, "hush", ModelState.READY, revision=COMMIT)
POD_PATH = "/api/v1/namespaces/chat/pods/qwen"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.stop()


@pytest.fixture
def cluster(server: ApiServer) -> Iterator[ExplainCluster]:
    cluster = ExplainCluster(server)
    yield cluster
    cluster.client.close()


@pytest.fixture
def larder(server: ApiServer, tmp_path: Path) -> Callable[..., str]:
    """What the command line says."""
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", {"server": server.host})

    def run(*arguments: object, stdin: str = "") -> str:
        words = [str(a) for a in ("explain", *arguments)]
        if not stdin:
            words += ["--kubeconfig", str(kubeconfig), "-n", "chat"]
        return CliRunner().invoke(app, words, input=stdin).stdout

    return run


def rewritten(cluster: ExplainCluster, state: object = None) -> Any:
    pod = of_kserve()
    del pod["spec"]["nodeName"]
    decision = decide(AdmissionRequest(pod, "chat"), cluster.state.view_of("chat"))
    assert decision.reason == "Cached"
    pod = apply_patch(pod, decision.operations)
    pod["spec"]["nodeName"] = "gpu-1"
    status = {"name": "storage-initializer", "state": state or {}}
    return pod | {"status": {"initContainerStatuses": [status]}}


# --- what is said ---------------------------------------------------------------------------------


async def test_of_a_pod_of_the_cluster_it_says_what_the_command_line_says(
    cluster: ExplainCluster, larder: Callable[..., str]
) -> None:
    cluster.node("gpu-1", READY)
    cluster.node("gpu-2", ModelReport(QWEN, "qwen", ModelState.QUEUED), SECRET_READY)
    hit = {"terminated": {"exitCode": 0, "message": "hit 0.01s"}}
    for pod in (rewritten(cluster, hit), of_kserve("plain"), of_kserve("other", "hf://org/secret")):
        outcome, text = await cluster.ask(ADMIN, cluster.pod(pod))
        assert outcome == "explained"
        assert text == larder(f"pod/{pod['metadata']['name']}")
        assert "gpu-1" in text
    assert "it is for the namespaces search" in text


async def test_of_a_pod_that_is_sent_it_says_what_the_command_line_says(
    cluster: ExplainCluster, larder: Callable[..., str], tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(HEAD + OWN_ENTRY + OTHERS_ENTRY)
    words = ["-f", "-", "--catalog", catalog, "--volumes", "ByNamespace"]
    words += [f"--namespace-label={name}={value}" for name, value in LABELS.items()]
    for uri in ("hf://Qwen/Qwen2-0.5B-Instruct", "hf://org/secret"):
        pod = of_kserve("qwen", uri)
        assert await cluster.ask(ADMIN, pod) == ("explained", larder(*words, stdin=json.dumps(pod)))


async def test_without_a_catalog_it_says_so(cluster: ExplainCluster) -> None:
    cluster.state.index = None
    for token in (ADMIN, TENANT):
        assert (await cluster.ask(token, of_kserve()))[1].startswith("CatalogNotLoaded\n")


async def test_of_a_large_cluster_it_reads_the_nodes_that_are_shown(
    cluster: ExplainCluster,
) -> None:
    for i in range(30):
        cluster.node(f"gpu-{i}", READY if i >= 20 else ModelReport(QWEN, "qwen", ModelState.QUEUED))
    outcome, text = await cluster.ask(ADMIN, cluster.pod(of_kserve()))
    assert outcome == "explained"
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("gpu-")]
    assert rows == ["gpu-1", *(f"gpu-{i}" for i in range(20, 30)), "gpu-0"]
    assert "18 more nodes that have or get the model" in text
    assert sum("/nodes/" in path for path in cluster.asked_with(ADMIN)) == 12


async def test_a_node_that_went_and_one_that_may_not_be_read_are_told(
    cluster: ExplainCluster, server: ApiServer
) -> None:
    cluster.node("gpu-1", READY)
    cluster.node("gpu-2", READY)
    question = cluster.pod(of_kserve())
    server.standing["GET", "/api/v1/nodes/gpu-2"] = refusing(404)
    assert "there is no such node" in (await cluster.ask(ADMIN, question))[1]
    server.standing["GET", "/api/v1/nodes/gpu-2"] = refusing(403)
    assert "unknown: nodes: not allowed to read them" in (await cluster.ask(ADMIN, question))[1]


# --- what a tenant sees ---------------------------------------------------------------------------


async def test_a_tenant_sees_their_own_models_and_no_node(cluster: ExplainCluster) -> None:
    cluster.node("gpu-9", READY, SECRET_READY)
    hit = {"terminated": {"exitCode": 0, "message": "hit 0.01s"}}
    outcome, text = await cluster.ask(TENANT, cluster.pod(rewritten(cluster, hit)))
    assert outcome == "explained"
    assert text.startswith("AlreadyRewritten\n")
    assert "entry qwen answers for it" in text
    assert "hit in 0.01 s" in text
    assert "COULD TAKE THE POD" not in text
    assert "who may read ConfigMap larder-catalog" in text
    assert not {"hush", "search", "secret", "gpu-9", SECRET} & set(text.replace("/", " ").split())


def _with_marker(name: str) -> Any:
    """A pod that says for itself that it was pointed at somebody else's model."""
    pod = of_kserve(name, "hf://org/secret")
    row = "\t".join(("hf://org/secret", f"/larder/{SECRET}", "", "hf://org/secret"))
    pod["metadata"]["annotations"] = {"larder.dev/keys": SECRET, "larder.dev/decision": "Cached"}
    initializer = pod["spec"]["initContainers"][0]
    initializer["command"] = list(INITIALIZER_COMMAND)
    initializer["env"] = [{"name": "LARDER_SLOTS", "value": f"1\n{row}\n"}]
    return pod


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: of_kserve("p", "hf://org/secret"), id="a pod that asks for the model"),
        pytest.param(lambda: of_kserve("p", "hf://org/secret:main"), id="by its revision"),
        pytest.param(lambda: of_kserve("p", "hf://org/other"), id="a pod that asks for another"),
        pytest.param(lambda: of_kserve("p"), id="a pod with a model of its own"),
        pytest.param(lambda: _with_marker("p"), id="a pod that spoofs our marks"),
    ],
)
@pytest.mark.parametrize("is_sent", [True, False], ids=["sent", "in the cluster"])
async def test_what_others_cache_changes_nothing_of_what_a_tenant_is_told(
    cluster: ExplainCluster, make: Callable[[], Any], is_sent: bool
) -> None:
    question = make() if is_sent else cluster.pod(make())
    cluster.node("gpu-1")
    with_others = await cluster.ask(TENANT, question)
    admins = await cluster.ask(ADMIN, question)
    cluster.node("gpu-2", SECRET_READY)
    with_more = await cluster.ask(TENANT, question)
    cluster.catalog(HEAD + OWN_ENTRY)
    alone = await cluster.ask(TENANT, question)
    assert with_others == with_more == alone
    assert alone[0] == "explained"
    assert "NamespaceNotAllowed" not in alone[1]
    assert "\ndetail: " not in alone[1]  # a decision's, which is for admins
    assert admins != alone


async def test_odd_pods_are_explained_and_tell_a_tenant_nothing_of_others(
    cluster: ExplainCluster,
) -> None:
    cluster.rights |= {("tenant", "create", "pods", "chat", "")}
    odd = OddReviews(seed=11)
    pods = [p for n in range(60) if isinstance(p := odd.review(n)["request"].get("object"), dict)]
    questions = [
        pod | {"kind": "Pod", "metadata": pod["metadata"] | {"namespace": "chat"}}
        for pod in pods
        if isinstance(pod.get("metadata"), dict)
    ]
    assert len(questions) > 40
    answers = {}
    for entries in (OWN_ENTRY, OWN_ENTRY + OTHERS_ENTRY):
        cluster.catalog(HEAD + entries)
        answers[entries] = [await cluster.ask(TENANT, question) for question in questions]
    with_others, alone = answers.values()
    assert with_others == alone
    assert {outcome for outcome, _ in alone} <= {"explained", "malformed"}


async def test_who_may_read_the_catalog_sees_the_entries_of_others(cluster: ExplainCluster) -> None:
    pod = of_kserve("p", "hf://org/secret")
    assert (await cluster.ask(TENANT, pod))[1].startswith("ModelNotInCatalog\n")
    cluster.rights.add(("tenant", *READS_CATALOG[1:]))
    assert (await cluster.ask(TENANT, pod))[1].startswith("NamespaceNotAllowed\n")


# --- who may ask ----------------------------------------------------------------------------------


async def test_a_token_that_stands_for_nobody_is_refused_before_anything_is_read(
    cluster: ExplainCluster, server: ApiServer
) -> None:
    assert await cluster.ask("unknown", of_kserve()) == (
        "unauthenticated",
        "the API server does not accept the token",
    )
    assert [seen.path for seen in server.seen] == [TOKEN_REVIEWS]


async def test_who_may_not_read_the_pod_learns_nothing_not_even_whether_it_is_there(
    cluster: ExplainCluster,
) -> None:
    there = await cluster.ask(STRANGER, cluster.pod(of_kserve()))
    missing = await cluster.ask(STRANGER, {"namespace": "chat", "pod": "nope"})
    assert there == (
        "forbidden",
        "not allowed: it takes the right to get pods qwen in namespace chat",
    )
    assert missing == (there[0], there[1].replace("qwen", "nope"))
    assert await cluster.ask(STRANGER, of_kserve()) == (
        "forbidden",
        "not allowed: it takes the right to create pods in namespace chat",
    )
    assert cluster.asked_with(STRANGER) == set()


async def test_the_pod_is_read_with_the_callers_token_and_reviews_are_the_webhooks(
    cluster: ExplainCluster,
) -> None:
    cluster.node("gpu-1", READY)
    await cluster.ask(ADMIN, cluster.pod(of_kserve()))
    assert cluster.asked_with(ADMIN) == {POD_PATH, "/api/v1/nodes/gpu-1"}
    configmaps = "/api/v1/namespaces/larder-system/configmaps"
    assert cluster.asked_with(OURS) == {TOKEN_REVIEWS, ACCESS_REVIEWS, configmaps}


@pytest.mark.parametrize(
    ("code", "outcome", "sentence"),
    [
        pytest.param(401, "unauthenticated", "the token ended meanwhile", id="ended"),
        pytest.param(403, "forbidden", f"GET {POD_PATH}: not allowed", id="not allowed after all"),
        pytest.param(404, "not_found", "pod/qwen is not there in namespace chat", id="no such pod"),
        pytest.param(500, "unavailable", f"GET {POD_PATH}: answered 500", id="a failing server"),
    ],
)
async def test_what_the_api_server_says_to_the_caller_is_handed_on(
    cluster: ExplainCluster, server: ApiServer, code: int, outcome: str, sentence: str
) -> None:
    question = cluster.pod(of_kserve())
    server.standing["GET", POD_PATH] = refusing(code)
    assert await cluster.ask(ADMIN, question) == (outcome, sentence)


@pytest.mark.parametrize("path", [TOKEN_REVIEWS, ACCESS_REVIEWS])
@pytest.mark.parametrize(
    "fault", [refusing(403), refusing(500), dropping], ids=["refused", "failing", "broken"]
)
async def test_a_review_that_cannot_be_had_is_told_without_the_token(
    cluster: ExplainCluster, server: ApiServer, path: str, fault: Any
) -> None:
    server.standing["POST", path] = fault
    outcome, text = await cluster.ask(TENANT, of_kserve())
    assert outcome == "unavailable"
    assert text.startswith(f"POST {path}: ")
    assert "token-of" not in text
    assert "secret-token" not in text


# --- bad input ------------------------------------------------------------------------------------

ACCEPTED = 'accepted: {"namespace": …, "pod": NAME}, or a Pod'


def _deep(levels: int) -> Any:
    pod = of_kserve()
    for _ in range(levels):
        pod["spec"] = {"spec": pod["spec"]}
    return pod


def _with_uris(count: int) -> Any:
    pod = of_kserve()
    pod["spec"]["initContainers"][0]["args"] *= count
    return pod


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        pytest.param(b"", f"the body is not JSON; {ACCEPTED}", id="nothing"),
        pytest.param(b"\xff", f"the body is not JSON; {ACCEPTED}", id="no text"),
        pytest.param(b"[" * 10_000, f"the body is not JSON; {ACCEPTED}", id="depth without end"),
        pytest.param(b"[]", f"the body is no JSON object; {ACCEPTED}", id="a list"),
        pytest.param({}, f"the body asks for something else; {ACCEPTED}", id="an empty object"),
        pytest.param(
            {"namespace": "chat", "pod": "x", "isvc": "y"},
            f"the body asks for something else; {ACCEPTED}",
            id="more than is known",
        ),
        pytest.param(
            {"kind": "Deployment"}, f"the body asks for something else; {ACCEPTED}", id="no pod"
        ),
        pytest.param(
            {"namespace": "chat", "pod": ["x"]},
            f"namespace and pod are names; {ACCEPTED}",
            id="an odd name",
        ),
        pytest.param(
            {"namespace": "chat", "pod": "../../secrets/x"},
            "'../../secrets/x' is not the name of a Kubernetes object",
            id="a name that leads elsewhere",
        ),
        pytest.param(
            {"namespace": "a/b", "pod": "x"},
            "'a/b' is not the name of a Kubernetes object",
            id="an odd namespace",
        ),
        pytest.param(
            {"kind": "Pod", "spec": {}},
            "the pod names no namespace; accepted: metadata.namespace",
            id="a pod of nowhere",
        ),
        pytest.param(
            _deep(100), "the pod is nested too deeply; accepted: up to 100 levels", id="deep"
        ),
        pytest.param(
            _with_uris(33), "the pod asks for too many models; accepted: up to 32 URIs", id="many"
        ),
    ],
)
async def test_what_is_no_question_gets_one_sentence_and_asks_nobody(
    cluster: ExplainCluster, server: ApiServer, question: object, sentence: str
) -> None:
    assert await cluster.ask(ADMIN, question) == ("malformed", sentence)
    assert server.seen == []


async def test_a_pod_of_the_cluster_with_too_many_models_is_no_question_either(
    cluster: ExplainCluster,
) -> None:
    outcome, sentence = await cluster.ask(ADMIN, cluster.pod(_with_uris(33)))
    assert (outcome, sentence[:36]) == ("malformed", "the pod asks for too many models; ac")


async def test_an_odd_pod_is_explained_all_the_same(cluster: ExplainCluster) -> None:
    long = "n" * 253
    for odd in ({"nodeName": long}, {"initContainers": 5}, {"nodeName": "../x"}):
        pod = of_kserve() | {"spec": of_kserve()["spec"] | odd}
        for question in (pod, cluster.pod(pod)):
            assert (await cluster.ask(ADMIN, question))[0] == "explained"


async def test_a_defect_is_told_and_handed_to_the_log(cluster: ExplainCluster) -> None:
    cluster.state.namespaces = cast("Any", [1])  # of a type that it never has
    answer = await cluster.explainer.answer(TENANT, json.dumps(of_kserve()).encode())
    assert answer.outcome == "failed"
    assert answer.text == (
        "the explanation ended by a defect of Larder's; the webhook's log has it"
    )
    assert isinstance(answer.failure, AttributeError)
    assert (await cluster.ask(STRANGER, of_kserve()))[0] == "forbidden"


# --- few at once, and not for ever ----------------------------------------------------------------


async def test_few_are_answered_at_once_and_the_others_told_to_come_back(
    cluster: ExplainCluster, server: ApiServer
) -> None:
    go_on = threading.Event()
    review = server.standing["POST", TOKEN_REVIEWS]
    arrived = threading.Semaphore(0)

    def wait(handler: Any) -> None:
        arrived.release()
        go_on.wait()
        review(handler)

    server.standing["POST", TOKEN_REVIEWS] = wait
    waiting = [asyncio.create_task(cluster.ask(TENANT, of_kserve())) for _ in range(MAX_AT_ONCE)]
    try:
        for _ in waiting:
            await asyncio.to_thread(arrived.acquire)
        one_more = await cluster.ask(TENANT, of_kserve())
        assert one_more == ("busy", "others are asking: try again in a second")
    finally:
        go_on.set()
    assert {(await answer)[0] for answer in waiting} == {"explained"}
    assert (await cluster.ask(TENANT, of_kserve()))[0] == "explained"


async def test_a_server_that_hangs_is_given_up_and_its_thread_counts_until_it_ends(
    server: ApiServer,
) -> None:
    cluster = ExplainCluster(server, within_seconds=0.2)
    go_on = threading.Event()
    server.standing["POST", TOKEN_REVIEWS] = hanging(go_on)
    outcome, sentence = await cluster.ask(TENANT, of_kserve())
    assert (outcome, sentence) == ("unavailable", "it takes too long: try again")
    go_on.set()
    async with asyncio.timeout(30):
        for work in list(cluster.explainer._at_work):
            with contextlib.suppress(asyncio.CancelledError):
                await work
    assert not cluster.explainer._at_work
    cluster.client.close()


# --- over HTTP ------------------------------------------------------------------------------------


class Http:
    """The real process, asked as anybody on the pod network may."""

    def __init__(self, webhook: Any) -> None:
        self.webhook = webhook

    def post(self, token: str | None, body: bytes, path: str = "/explain") -> Any:
        connection = self.webhook.connect()
        headers = {} if token is None else {"Authorization": token}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.status, response.read().decode(), response.headers
        connection.close()
        return answer

    def explains(self) -> dict[str, float]:
        text = self.webhook.get("/metrics")[1]
        found = re.findall(r'larder_webhook_explains_total{outcome="(\w+)"} (\S+)', text)
        return {name: float(count) for name, count in found if float(count)}


@pytest.fixture
def http(cluster: ExplainCluster, start_webhook: Any, tmp_path: Path) -> Iterator[Http]:
    to = {"server": cluster.server.host}
    kubeconfig = write_kubeconfig(tmp_path / "config", to, OURS)
    webhook = start_webhook("--kubeconfig", str(kubeconfig), "--log-level", "debug")
    webhook.wait_first_for("catalog loaded")
    webhook.wait_first_for("namespaces known")
    yield Http(webhook)
    if webhook.process.poll() is None:
        assert webhook.stop() == 0


def test_over_http_a_question_is_answered_in_text_and_no_token_is_in_any_log(
    http: Http, cluster: ExplainCluster
) -> None:
    question = json.dumps(cluster.pod(of_kserve())).encode()
    status, text, headers = http.post(f"Bearer {TENANT}", question)
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert text.startswith("Cached\n")
    assert text.endswith("larder-system\n")
    refused = [
        http.post(said, question)
        for said in (None, "", "Basic eDp5", "Bearer", "Bearer a b", "Bearer unknown")
    ]
    assert {answer[0] for answer in refused} == {401}
    asked = [seen for seen in cluster.server.seen if seen.path == TOKEN_REVIEWS]
    assert len(asked) == 2  # of the tenant and of the one that is unknown
    assert {answer[2]["WWW-Authenticate"] for answer in refused} == {"Bearer"}
    assert refused[0][1] == (
        "a token is missing; accepted: the header Authorization: Bearer TOKEN\n"
    )
    assert http.post(f"Bearer {STRANGER}", question)[0] == 403
    assert http.post(f"bearer {ADMIN}", b"{}")[:2] == (
        400,
        'the body asks for something else; accepted: {"namespace": …, "pod": NAME}, or a Pod\n',
    )
    large = b" " * (128 * 1024 + 1)
    assert http.post(f"Bearer {ADMIN}", large)[:2] == (
        413,
        "the body is too large; accepted: up to 131072 bytes\n",
    )
    gone = json.dumps({"namespace": "chat", "pod": "gone"}).encode()
    cluster.rights.add(("admin", "get", "pods", "chat", "gone"))
    assert http.post(f"Bearer {ADMIN}", gone)[0] == 404
    cluster.server.standing["POST", TOKEN_REVIEWS] = refusing(500)
    assert http.post(f"Bearer {ADMIN}", question)[0] == 503
    assert http.webhook.get("/explain")[0] == 405
    assert http.explains() == {
        "explained": 1,
        "unauthenticated": 6,
        "forbidden": 1,
        "malformed": 1,
        "too_large": 1,
        "not_found": 1,
        "unavailable": 1,
    }
    assert http.webhook.stop() == 0
    http.webhook.reader.join()
    said = "".join(json.dumps(line) for line in http.webhook.lines.queue)
    assert '"outcome": "forbidden"' in said
    assert "token-of" not in said
    assert "eDp5" not in said


def test_while_explanations_hang_pods_are_admitted(http: Http, cluster: ExplainCluster) -> None:
    go_on = threading.Event()
    arrived = threading.Semaphore(0)

    def wait(handler: Any) -> None:
        arrived.release()
        go_on.wait()
        handler.refuse(500)

    cluster.server.standing["POST", TOKEN_REVIEWS] = wait
    body = json.dumps(of_kserve()).encode()
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(http.post, f"Bearer {TENANT}", body) for _ in range(MAX_AT_ONCE)]
        try:
            for _ in asked:
                arrived.acquire()
            status, text, headers = http.post(f"Bearer {TENANT}", body)
            assert (status, headers["Retry-After"]) == (429, "1")
            assert text == "others are asking: try again in a second\n"
            http.webhook.wait_first_for("admission path known")
            secret = cluster.server.world.objects["secrets", SYSTEM_NAMESPACE, SECRET_NAME]
            path = base64.b64decode(secret["data"]["path"]).decode()
            review = (RECORDED / "hf-raw.after-kserve.json").read_bytes()
            status, answer, _ = http.post(None, review, f"/{path}/mutate-pods")
            assert (status, json.loads(answer)["response"]["patchType"]) == (200, "JSONPatch")
        finally:
            go_on.set()
        assert {answer.result()[0] for answer in asked} == {503}
