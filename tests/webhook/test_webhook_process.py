"""The real process over real TLS."""

import base64
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

RECORDED = sorted(p.stem for p in (Path(__file__).parents[1] / "recorded").glob("*.json"))
REASONS = {
    "hf-raw.before-kserve": "NoStorageInitializer",
    "hf-raw.after-kserve": "Cached",
    "s3-raw.before-kserve": "NoStorageInitializer",
    "s3-raw.after-kserve": "Cached",
    "storage-uris.before-kserve": "Cached",
    "storage-uris.after-kserve": "Cached",
    "pvc.before-kserve": "NoStorageInitializer",
    "pvc.after-kserve": "NoStorageInitializer",
    "llm-single.before-kserve": "Cached",
    "llm-single.after-kserve": "Cached",
    "llm-decode-lora.before-kserve": "Cached",
    "llm-decode-lora.after-kserve": "Cached",
}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, catalog_text: str) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "catalog.yaml"
    path.write_text(catalog_text)
    return path


@pytest.fixture(scope="module")
def webhook(start_webhook: Any, catalog: Path) -> Any:
    return start_webhook("--catalog", str(catalog), "--log-level", "debug")


def test_every_recorded_review_has_an_expected_reason() -> None:
    assert sorted(REASONS) == RECORDED


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_review_is_answered_as_expected(
    webhook: Any, review: Callable[[str], Any], name: str
) -> None:
    asked = review(name)
    status, answer = webhook.post(json.dumps(asked).encode())
    assert status == 200
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = answer["response"]
    assert response["uid"] == asked["request"]["uid"]
    assert response["allowed"] is True
    line = webhook.wait_for("pod decided", uid=response["uid"])
    assert line["reason"] == REASONS[name]
    assert line["namespace"] == "chat"
    if REASONS[name] != "Cached":
        assert set(response) == {"uid", "allowed"}
        return
    assert response["patchType"] == "JSONPatch"
    patch = json.loads(base64.b64decode(response["patch"]))
    pod = jsonpatch.apply_patch(asked["request"]["object"], patch)
    assert pod["metadata"]["annotations"]["larder.dev/decision"] == "Cached"


def test_many_reviews_go_through_one_connection(webhook: Any, review: Callable[[str], Any]) -> None:
    body = json.dumps(review("hf-raw.after-kserve")).encode()
    connection = webhook.connect()
    for _ in range(3):
        connection.request("POST", "/mutate-pods", body)
        assert json.load(connection.getresponse())["response"]["allowed"] is True
        sock = connection.sock
    assert connection.sock is sock is not None
    connection.close()


def test_a_no_tells_tenants_nothing(webhook: Any, review: Callable[[str], Any]) -> None:
    asked = review("hf-raw.after-kserve")
    asked["request"]["uid"] = "not-for-chat"
    asked["request"]["object"]["spec"]["initContainers"][0]["args"][0] = "hf://org/secret"
    status, answer = webhook.post(json.dumps(asked).encode())
    assert (status, set(answer["response"])) == (200, {"uid", "allowed"})
    line = webhook.wait_for("pod decided", uid="not-for-chat")
    assert line["reason"] == "NamespaceNotAllowed"


def test_five_megabytes_are_refused_with_a_sentence(webhook: Any) -> None:
    status, answer = webhook.post(b" " * (5 * 1024 * 1024))
    assert status == 413
    assert answer == {"error": "the body is too large; accepted: up to 4194304 bytes"}


def test_five_megabytes_in_chunks_are_refused_with_a_sentence(webhook: Any) -> None:
    connection = webhook.connect()
    chunks = (b" " * 65536 for _ in range(80))
    connection.request("POST", "/mutate-pods", chunks, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    assert "accepted: up to" in json.load(response)["error"]
    connection.close()


def test_a_body_that_is_no_review_is_refused_with_a_sentence(webhook: Any) -> None:
    status, answer = webhook.post(b"{")
    assert (status, answer) == (
        400,
        {"error": "the body is not JSON; accepted: an AdmissionReview"},
    )


def test_it_is_alive_ready_and_measured(webhook: Any, review: Callable[[str], Any]) -> None:
    webhook.post(json.dumps(review("hf-raw.after-kserve")).encode())
    assert webhook.get("/livez") == (200, "ok")
    assert webhook.get("/readyz") == (200, "ok")
    status, text = webhook.get("/metrics")
    assert status == 200
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(figures['larder_webhook_decisions_total{reason="Cached"}']) >= 1
    assert figures["larder_webhook_catalog_loaded"] == "1.0"
    assert figures["larder_webhook_catalog_problems"] == "0.0"
    assert float(figures["larder_webhook_request_seconds_count"]) >= 1


def test_a_client_that_hangs_up_in_the_middle_leaves_no_trace(webhook: Any) -> None:
    connection = webhook.connect()
    connection.putrequest("POST", "/mutate-pods")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"{")
    connection.close()
    webhook.post(b"{")
    levels = set()
    while (line := webhook.wait_for_any())["event"] != "malformed review":
        levels.add(line["level"])
    assert "error" not in levels


def test_an_edit_of_the_catalog_is_checked_and_counted(webhook: Any, catalog_text: str) -> None:
    def edit(catalog: str) -> Any:
        request = {
            "uid": "u",
            "operation": "UPDATE",
            "namespace": "larder-system",
            "name": "larder-catalog",
            "resource": {"group": "", "resource": "configmaps"},
            "object": {"data": {"catalog.yaml": catalog}},
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        body = json.dumps(review | {"request": request}).encode()
        status, answer = webhook.post(body, "/validate-catalog")
        assert status == 200
        return answer["response"]

    assert edit(catalog_text)["allowed"] is True
    assert edit("kind: Pantry")["allowed"] is False
    assert webhook.wait_for("edit of the catalog refused")["problems"]
    text = webhook.get("/metrics")[1]
    assert 'larder_webhook_catalog_reviews_total{allowed="true"} 1.0' in text
    assert 'larder_webhook_catalog_reviews_total{allowed="false"} 1.0' in text
    assert webhook.post(b"{", "/validate-catalog")[0] == 400
    assert webhook.post(b" " * (5 * 1024 * 1024), "/validate-catalog")[0] == 413


def figures_of(webhook: Any) -> dict[str, float]:
    """What is counted, without what the process itself takes and how long requests took."""
    lines = (line for line in webhook.get("/metrics")[1].splitlines() if line[0] != "#")
    figures = dict(line.rsplit(" ", 1) for line in lines)
    return {
        name: float(value)
        for name, value in figures.items()
        if name.startswith("larder_") and "_seconds" not in name and "_created" not in name
    }


@pytest.mark.parametrize("name", ["hf-raw.after-kserve", "pvc.after-kserve"])
def test_a_dry_run_of_a_pod_gets_the_same_answer_and_is_counted_apart(
    webhook: Any, review: Callable[[str], Any], name: str
) -> None:
    asked = review(name)
    asked["request"]["uid"] = f"dry-{name}"
    before = figures_of(webhook)
    asked["request"]["dryRun"] = True
    dry = webhook.post(json.dumps(asked).encode())
    line = webhook.wait_for("pod decided", uid=f"dry-{name}")
    assert (line["reason"], line["dry_run"]) == (REASONS[name], True)
    runs = "larder_webhook_dry_runs_total"
    assert figures_of(webhook) == before | {runs: before[runs] + 1}
    asked["request"]["dryRun"] = False
    assert webhook.post(json.dumps(asked).encode()) == dry


def test_a_dry_run_of_an_edit_gets_the_same_answer_and_is_counted_apart(webhook: Any) -> None:
    request = {
        "uid": "dry-edit",
        "operation": "UPDATE",
        "dryRun": True,
        "namespace": "larder-system",
        "name": "larder-catalog",
        "resource": {"group": "", "resource": "configmaps"},
        "object": {"data": {"catalog.yaml": "kind: Pantry"}},
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    before = figures_of(webhook)
    dry = webhook.post(json.dumps(review).encode(), "/validate-catalog")
    assert webhook.wait_for("edit of the catalog refused")["dry_run"] is True
    runs = "larder_webhook_dry_runs_total"
    assert figures_of(webhook) == before | {runs: before[runs] + 1}
    request["dryRun"] = False
    assert webhook.post(json.dumps(review).encode(), "/validate-catalog") == dry
    assert dry[1]["response"]["allowed"] is False


def test_without_a_cluster_nobody_can_say_who_asks_so_explain_is_not_there(webhook: Any) -> None:
    assert webhook.post(b"{}", "/explain")[0] == 404


def test_other_paths_and_methods_are_not_served(webhook: Any) -> None:
    assert webhook.get("/mutate-pods")[0] == 405
    assert webhook.get("/docs")[0] == 404
    assert webhook.get("/openapi.json")[0] == 404


def test_it_is_ready_once_a_catalog_comes_and_keeps_the_last_good_one(
    start_webhook: Any, review: Callable[[str], Any], tmp_path: Path, catalog_text: str
) -> None:
    path = tmp_path / "catalog.yaml"
    webhook = start_webhook("--catalog", str(path))
    body = json.dumps(review("hf-raw.after-kserve")).encode()
    assert webhook.get("/readyz") == (503, "no good catalog was loaded yet")
    webhook.post(body)
    assert webhook.wait_for("pod decided")["reason"] == "CatalogNotLoaded"

    path.write_text(catalog_text)
    webhook.wait_for("catalog loaded")
    assert webhook.get("/readyz") == (200, "ok")
    webhook.post(body)
    assert webhook.wait_for("pod decided")["reason"] == "Cached"

    path.write_text(catalog_text.replace("kind: Catalog", "kind: Pantry\ntypo: 1"))
    refusal = webhook.wait_for("catalog refused")
    assert len(refusal["problems"]) == 2
    assert refusal["in_force"] == "the last good catalog"
    assert "larder_webhook_catalog_problems 2.0" in webhook.get("/metrics")[1]
    webhook.post(body)
    assert webhook.wait_for("pod decided")["reason"] == "Cached"

    path.write_text(catalog_text.replace("Qwen/Qwen2", "Qwen/Qwen3"))
    webhook.wait_for("catalog loaded")
    assert "larder_webhook_catalog_problems 0.0" in webhook.get("/metrics")[1]
    webhook.post(body)
    assert webhook.wait_for("pod decided")["reason"] == "ModelNotInCatalog"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_fails_readiness_first_and_ends_well(
    start_webhook: Any, catalog: Path, number: int
) -> None:
    webhook = start_webhook("--catalog", str(catalog), "--stop-delay", "1")
    connection = webhook.connect()
    connection.connect()
    webhook.process.send_signal(number)
    webhook.wait_for("stopping")
    connection.request("GET", "/readyz")
    response = connection.getresponse()
    assert (response.status, response.read()) == (503, b"stopping")
    connection.close()
    assert webhook.process.wait(30) == 0


def test_from_the_stop_on_reviews_are_answered_and_their_connections_closed(
    start_webhook: Any, catalog: Path, review: Callable[[str], Any]
) -> None:
    body = json.dumps(review("hf-raw.after-kserve")).encode()
    webhook = start_webhook("--catalog", str(catalog), "--stop-delay", "1")
    connection = webhook.connect()
    connection.request("POST", "/mutate-pods", body)
    response = connection.getresponse()
    assert (response.status, response.getheader("Connection")) == (200, None)
    response.read()
    webhook.process.send_signal(signal.SIGTERM)
    webhook.wait_for("stopping")
    connection.request("POST", "/mutate-pods", body)
    response = connection.getresponse()
    assert (response.status, response.getheader("Connection")) == (200, "close")
    assert "patch" in json.load(response)["response"]
    assert connection.sock is None
    assert webhook.process.wait(30) == 0
