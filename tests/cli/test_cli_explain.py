"""`larder explain` says what the webhook decides about a pod, and why, entry by entry."""

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from cli_cases import ACTING, CATALOG, QWEN, RECORDED, larder, shape_fault

from cli.explain import JSON_EXAMPLE
from larder.catalog import read_catalog
from larder.contract import DecisionReason
from larder.matching import UNKNOWN, CatalogIndex, SourceView
from webhook.explaining.explanation import Asked, consider
from webhook.mutation import AdmissionRequest, Operation, View, apply_patch, decide

REVIEW = RECORDED / "hf-raw.after-kserve.json"
HEAD = "apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels:\n"


def recorded(name: str = "hf-raw.after-kserve") -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


@pytest.fixture
def pod() -> Any:
    return recorded()["request"]["object"]


def explain(document: Any, catalog: Path, *more: str) -> Any:
    text = document if isinstance(document, str) else json.dumps(document)
    return larder("explain", "-f", "-", "--catalog", catalog, *more, stdin=text)


def test_a_pod_that_is_served_shows_its_reason_its_entry_and_its_difference(catalog: Path) -> None:
    run = larder("explain", "-f", REVIEW, "--catalog", catalog)
    assert (run.status, run.err) == (0, "")
    lines = run.out.splitlines()
    assert lines[0] == "Cached"
    assert "hf://Qwen/Qwen2-0.5B-Instruct: Matched: entry qwen answers for it" in lines
    assert "+    larder.dev/decision: Cached" in lines
    assert f"+  - name: larder-{QWEN}" in lines
    changed = [line for line in lines if line.startswith("-") and not line.startswith("---")]
    assert changed == []


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(json.dumps, id="an AdmissionReview"),
        pytest.param(lambda review: json.dumps(review["request"]["object"]), id="a pod in JSON"),
        pytest.param(lambda review: yaml.safe_dump(review["request"]["object"]), id="in YAML"),
    ],
)
def test_a_pod_is_taken_in_every_form(form: Callable[[Any], str], catalog: Path) -> None:
    run = explain(form(recorded()), catalog, "-o", "json")
    assert run.status == 0
    assert (run.json["reason"], run.json["namespace"]) == ("Cached", "chat")
    assert run.json["keys"] == [QWEN]


@pytest.mark.parametrize("name", sorted(p.stem for p in RECORDED.glob("*.json")))
def test_every_recorded_review_is_decided_as_by_the_webhook(name: str, catalog: Path) -> None:
    request = recorded(name)["request"]
    index = CatalogIndex(read_catalog(CATALOG.encode(), standalone=True))
    view = View(index, PurePosixPath("/var/lib/larder"))
    decision = decide(AdmissionRequest(request["object"], request["namespace"]), view)
    run = larder("explain", "-f", RECORDED / f"{name}.json", "--catalog", catalog, "-o", "json")
    assert shape_fault({**run.json, "patch": []}, json.loads(JSON_EXAMPLE)) is None
    assert run.json["reason"] == decision.reason
    assert run.json["patch"] == [o.as_json() for o in decision.operations]
    assert run.status == (0 if decision.reason == "Cached" else 1)


def test_the_namespace_of_the_command_line_comes_first(catalog: Path) -> None:
    run = larder("explain", "-f", REVIEW, "--catalog", catalog, "-n", "search")
    assert run.status == 1
    assert run.out.startswith("NamespaceNotAllowed\n")
    assert "cure: Add the namespace" in run.out
    assert "it is for the namespaces chat" in run.out


def test_what_was_rewritten_already_is_fine(catalog: Path, pod: Any) -> None:
    first = explain(pod, catalog, "-o", "json").json
    patched = apply_patch(pod, [Operation(o["op"], o["path"], o["value"]) for o in first["patch"]])
    again = explain(patched, catalog)
    assert again.status == 0
    assert again.out.startswith("AlreadyRewritten\n")
    assert "+++" not in again.out


def test_without_a_good_catalog_the_webhook_knows_nothing(tmp_path: Path, pod: Any) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: Catalog\n")
    run = explain(pod, bad)
    assert run.status == 1
    assert run.out.startswith("CatalogNotLoaded\n")
    assert "catalog: line 1: the catalog lacks the required key 'apiVersion'" in run.out
    assert explain(pod, bad, "-o", "json").json["catalogProblems"]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        pytest.param([], "HostPathForbidden", id="a namespace that says nothing forbids hostPath"),
        pytest.param(
            ["--namespace-label", "larder.dev/volume=hostPath"], "Cached", id="one that allows it"
        ),
    ],
)
def test_labels_of_the_namespace_are_heard(
    labels: list[str], reason: str, catalog: Path, pod: Any
) -> None:
    run = explain(pod, catalog, "--volumes", "ByNamespace", "-o", "json", *labels)
    assert run.json["reason"] == reason
    assert run.status == (0 if reason == "Cached" else 1)


def test_the_cache_root_is_the_one_that_pods_get(catalog: Path, pod: Any) -> None:
    run = explain(pod, catalog, "--cache-root", "/mnt/nvme")
    assert f"+      path: /mnt/nvme/slots/{QWEN}" in run.out.splitlines()


def test_values_of_variables_and_queries_of_urls_are_not_shown(catalog: Path, pod: Any) -> None:
    secret = "s3cr3t"  # noqa: S105 - that it is none is the point
    catalog.write_text(CATALOG.replace("https://h/tree.zip", "s3://models/tree"))
    initializer = pod["spec"]["initContainers"][0]
    initializer["env"].append({"name": "HF_TOKEN", "value": secret})
    initializer["args"] += [f"https://user:{secret}@host/m?sig={secret}", "/mnt/other"]
    initializer["args"] += [f"s3://models/tree/part?sig={secret}", "/mnt/other"]
    initializer["args"] += [f"hf://Qwen/Qwen2-0.5B-Instruct:v2?sig={secret}", "/mnt/other"]
    mount = {"name": "kserve-provision-location", "mountPath": "/mnt/other"}
    initializer["volumeMounts"].append(mount)
    run = explain(pod, catalog)
    assert run.out.startswith("Cached\n")
    assert "HF_TOKEN" in run.out
    assert secret not in run.out
    document = explain(pod, catalog, "-o", "json").json
    assert secret not in json.dumps({**document, "patch": []})  # which is what would be sent
    assert document["uris"][2]["subpath"] == "part?***"


def test_what_a_pod_says_cannot_act_on_a_terminal(catalog: Path, pod: Any) -> None:
    hostile = "hf://\x1b[31m[red]\x9b\u202e\ud800/m"
    pod["spec"]["initContainers"][0]["args"] += [hostile, "/mnt/models/x"]
    pod["metadata"]["annotations"]["zz\x1b[2J"] = "\x07"
    for form in ("table", "json"):
        run = explain(pod, catalog, "-o", form)
        assert run.status == 0
        assert ACTING.search(run.out) is None
        assert "[red]" in run.out


def test_a_long_catalog_shows_few_strangers_in_a_table_and_all_in_json(
    tmp_path: Path, pod: Any
) -> None:
    catalog = tmp_path / "long.yaml"
    entry = '- {{name: m{0}, storageUri: "s3://b/m{0}", namespaces: [chat]}}\n'
    catalog.write_text(HEAD + "".join(entry.format(i) for i in range(50)))
    run = explain(pod, catalog)
    assert run.status == 1
    assert "and 40 more entries with other URIs" in run.out
    assert len(explain(pod, catalog, "-o", "json").json["uris"][0]["considered"]) == 50


SILENT = SourceView()
HF_URL = "https://hub.example.com"
TWO_ENDPOINTS = """
- {name: default, storageUri: "s3://b/c", namespaces: [chat]}
- {name: minio, storageUri: "s3://b/c", namespaces: [chat], endpoint: "http://minio.local:9000"}
"""
TWO_NAMED = """
- {name: one, storageUri: "s3://b/c", namespaces: [chat], endpoint: "http://one.local"}
- {name: two, storageUri: "s3://b/c", namespaces: [chat], endpoint: "http://two.local"}
"""
NESTED = """
- {name: outer, storageUri: "s3://b", namespaces: [chat]}
- {name: inner, storageUri: "s3://b/c", namespaces: [chat]}
"""
HUB = '- {name: hub, storageUri: "hf://o/m", revision: v1, namespaces: [chat, search]}\n'


@pytest.mark.parametrize(
    ("models", "uri", "source", "verdicts"),
    [
        pytest.param(
            HUB, "hf://o/m", SILENT, {"hub": "it answers for the URI"}, id="the one entry"
        ),
        pytest.param(
            HUB,
            "hf://o/m:v2",
            SILENT,
            {"hub": "the pod asks for revision v2, the entry is about v1"},
            id="another revision",
        ),
        pytest.param(
            HUB,
            "hf://O/m",
            SILENT,
            {"hub": "its URI differs in upper and lower case"},
            id="another case",
        ),
        pytest.param(HUB, "hf://x/y", SILENT, {"hub": "its URI is another"}, id="another URI"),
        pytest.param(
            HUB,
            "hf://o/m",
            SourceView(endpoint=HF_URL),
            {"hub": f"the pod's endpoint is {HF_URL}, the entry's is https://huggingface.co"},
            id="another endpoint",
        ),
        pytest.param(
            HUB,
            "hf://o/m",
            SourceView(endpoint=UNKNOWN),
            {"hub": "nobody can tell from the pod which endpoint it downloads from"},
            id="an endpoint that cannot be read",
        ),
        pytest.param(
            HUB,
            "hf://o/m",
            SourceView(allow_patterns=("*.json",)),
            {"hub": "the pod downloads other files of the model than the entry keeps"},
            id="other patterns",
        ),
        pytest.param(
            NESTED,
            "s3://b/c/d",
            SILENT,
            {"inner": "it answers for the URI", "outer": "an entry with a longer URI comes first"},
            id="the longer URI wins",
        ),
        pytest.param(
            NESTED,
            "s3://b/",
            SILENT,
            {"outer": "it answers for the URI", "inner": "it is a part of what the pod asks for"},
            id="an entry below the URI",
        ),
        pytest.param(
            TWO_ENDPOINTS,
            "s3://b/c",
            SILENT,
            {
                "default": "it answers for the URI",
                "minio": "the pod names no endpoint, and default is of the default one",
            },
            id="the default endpoint wins",
        ),
        pytest.param(
            TWO_NAMED,
            "s3://b/c",
            SILENT,
            dict.fromkeys(
                ("one", "two"),
                "the pod names no endpoint, and several entries of this URI would do",
            ),
            id="nobody can choose",
        ),
    ],
)
def test_each_entry_says_why_it_answers_or_not(
    models: str, uri: str, source: SourceView, verdicts: dict[str, str]
) -> None:
    catalog = read_catalog((HEAD + models).encode(), standalone=True)
    index = CatalogIndex(catalog)
    outcome = index.match(uri, "chat", source)
    considered = consider(index, Asked(uri, "chat", source, outcome))
    assert {c.name: c.because for c in considered} == verdicts
    chosen = [c.name for c in considered if c.is_chosen]
    assert chosen == ([] if isinstance(outcome, DecisionReason) else [outcome.entry.name])


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        pytest.param("kind: Deployment", "holds no pod; accepted: a Pod, or", id="another kind"),
        pytest.param("[]", "holds no pod", id="a list"),
        pytest.param("{}", "holds no pod", id="an empty object"),
        pytest.param(
            '{"kind": "AdmissionReview", "request": 1}', "holds no pod", id="a review of nothing"
        ),
        pytest.param("a: [", "line 2: not YAML", id="no YAML"),
        pytest.param("{" + '"a": {' * 200 + "}" * 201, "is nested deeper than", id="deep JSON"),
        pytest.param('{"a":' * 5000 + "1" + "}" * 5000, "nested deeper than", id="deeper JSON"),
        pytest.param(
            "kind: Pod", "names no namespace; accepted: --namespace NAME", id="no namespace"
        ),
        pytest.param("x" * 1_048_577, "is larger than 1048576 bytes", id="too large"),
        pytest.param(b"\xff\xfe", "is not UTF-8", id="no text"),
    ],
)
def test_a_file_that_is_no_pod_is_wrong_use(
    document: str | bytes, sentence: str, catalog: Path
) -> None:
    run = larder("explain", "-f", "-", "--catalog", catalog, stdin=document)
    assert (run.status, run.out) == (2, "")
    assert sentence in run.err
    assert run.err.startswith("larder: standard input")
    assert run.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        pytest.param(
            ["--namespace-label", "x"],
            "larder: --namespace-label 'x' is not a label; accepted: key=value\n",
            id="a label without value",
        ),
        pytest.param(
            ["--cache-root", "here"],
            "larder: --cache-root here; accepted: an absolute path without '..'\n",
            id="a relative root",
        ),
    ],
)
def test_options_that_are_unfit_are_wrong_use(
    more: list[str], sentence: str, catalog: Path, pod: Any
) -> None:
    run = explain(pod, catalog, *more)
    assert (run.status, run.out, run.err) == (2, "", sentence)


def test_pod_and_catalog_cannot_both_be_standard_input() -> None:
    run = larder("explain", "-f", "-", "--catalog", "-", stdin="")
    assert (run.status, run.err) == (2, "larder: pod and catalog cannot both be standard input\n")
