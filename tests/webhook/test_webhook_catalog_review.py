"""Edits of the catalog: a bad one is refused with every mistake, a good one may be warned."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.catalog import read_catalog
from larder.errors import CatalogError
from webhook import catalog_review
from webhook.catalog_review import (
    MAX_PROBLEM_CHARACTERS,
    MAX_PROBLEMS,
    MAX_WARNING_CHARACTERS,
    MAX_WARNINGS,
    serve_catalog_review,
)

HEAD = "apiVersion: larder.dev/v1alpha1\nkind: Catalog\n"
COMMIT = "c540970f9e29518b1d8f06ab8b24cba66ad77b6d"


def entry(number: int, revision: str = COMMIT, more: str = "") -> str:
    return (
        f"- {{name: m{number}, storageUri: 'hf://o/m{number}', revision: {revision},"
        f" namespaces: [chat]{more}}}\n"
    )


GOOD = f"{HEAD}models:\n{entry(1)}"
BAD = f"{HEAD}typo: 1\nmodels:\n{entry(1, more=', fill: Lazy')}"


def body(catalog: str | None = GOOD, **fields: object) -> bytes:
    config_map: dict[str, Any] = {"metadata": {"name": "larder-catalog"}}
    if catalog is not None:
        config_map["data"] = {"catalog.yaml": catalog}
    request = {
        "uid": "u",
        "operation": "UPDATE",
        "namespace": "larder-system",
        "name": "larder-catalog",
        "resource": {"group": "", "version": "v1", "resource": "configmaps"},
        "object": config_map,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return json.dumps(review | {"request": request | fields}).encode()


def response(asked: bytes) -> dict[str, Any]:
    answer = serve_catalog_review(asked)
    assert answer.status == 200
    assert answer.failure is None
    assert answer.body["kind"] == "AdmissionReview"
    said: Any = answer.body["response"]
    assert said["uid"] == "u"
    return dict(said)


def test_a_good_catalog_is_allowed() -> None:
    assert response(body()) == {"uid": "u", "allowed": True}


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_a_bad_catalog_is_refused_with_the_report_of_the_command(operation: str) -> None:
    with pytest.raises(CatalogError) as found:
        read_catalog(BAD.encode(), standalone=False)
    problems = found.value.problems
    assert len(problems) == 2
    status = response(body(BAD, operation=operation))["status"]
    assert status["message"].split("\n") == ["the catalog cannot be used: 2 problems", *problems]
    assert status["code"] == 422
    assert response(body(BAD, operation=operation))["allowed"] is False


@pytest.mark.parametrize(
    ("catalog", "sentence"),
    [
        pytest.param(None, "has no key 'catalog.yaml'", id="no catalog"),
        pytest.param("", "", id="an empty one"),
        pytest.param("a: [", "line ", id="no YAML"),
        pytest.param(
            f"{HEAD}models:\n{entry(1, more=', credentials: {tokenFile: /t}')}",
            "secretName",
            id="what only a file's catalog may say",
        ),
    ],
)
def test_what_no_cluster_can_use_is_refused(catalog: str | None, sentence: str) -> None:
    said = response(body(catalog))
    assert said["allowed"] is False
    first, problem = said["status"]["message"].split("\n")
    assert first == "the catalog cannot be used: 1 problem"
    assert sentence in problem


def test_a_refusal_is_bounded() -> None:
    long = "x" * 900
    bad = f"{HEAD}models:\n" + "".join(entry(i, more=f", {long}{i}: 1") for i in range(40))
    lines = response(body(bad))["status"]["message"].split("\n")
    assert lines[0] == "the catalog cannot be used: 40 problems"
    assert len(lines) == MAX_PROBLEMS + 2
    assert lines[-1] == "and 20 more"
    assert max(map(len, lines)) == MAX_PROBLEM_CHARACTERS


def test_what_a_good_catalogs_admin_should_know_comes_as_warnings() -> None:
    (warning,) = response(body(f"{HEAD}models:\n{entry(1, revision='main')}"))["warnings"]
    assert warning.startswith("model 'm1': revision 'main' is no commit;")


def test_a_secret_has_its_effect_in_a_cluster() -> None:
    assert "warnings" not in response(
        body(f"{HEAD}models:\n{entry(1, more=', credentials: {secretName: hf}')}")
    )


@pytest.mark.parametrize(
    ("entries", "last"),
    [
        pytest.param(MAX_WARNINGS, "model 'm15'", id="as many as fit"),
        pytest.param(MAX_WARNINGS + 1, "and 2 more", id="one too many"),
    ],
)
def test_warnings_are_bounded(entries: int, last: str) -> None:
    models = "".join(entry(i, revision="main" + "x" * 180) for i in range(entries))
    warnings = response(body(f"{HEAD}models:\n{models}"))["warnings"]
    assert len(warnings) == MAX_WARNINGS
    assert warnings[-1].startswith(last)
    assert max(map(len, warnings)) == MAX_WARNING_CHARACTERS


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"operation": "DELETE", "object": None}, id="the catalog goes"),
        pytest.param({"name": "larder-requests"}, id="another name"),
        pytest.param({"namespace": "chat"}, id="another namespace"),
        pytest.param({"resource": {"group": "", "resource": "secrets"}}, id="another resource"),
        pytest.param({"resource": {"group": "x", "resource": "configmaps"}}, id="another group"),
        pytest.param({"subResource": "status"}, id="a part of it"),
        pytest.param({"name": None, "object": "odd"}, id="an odd object"),
    ],
)
def test_what_is_not_the_catalog_is_allowed(fields: dict[str, object]) -> None:
    assert response(body(BAD, **fields)) == {"uid": "u", "allowed": True}


def test_a_catalog_whose_name_stands_only_in_its_metadata_is_checked() -> None:
    assert response(body(BAD, name="", operation="CREATE"))["allowed"] is False


def test_what_is_no_review_gets_one_sentence() -> None:
    answer = serve_catalog_review(b"{")
    assert answer.status == 400
    assert answer.body == {"error": "the body is not JSON; accepted: an AdmissionReview"}


def test_a_bug_allows_the_edit_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(catalog_review, "read_catalog", broken)
    answer = serve_catalog_review(body(BAD))
    assert isinstance(answer.failure, ZeroDivisionError)
    assert answer.body["response"] == {"uid": "u", "allowed": True}


@given(st.binary() | st.text().map(str.encode))
def test_no_body_raises(body: bytes) -> None:
    assert serve_catalog_review(body).status == 400


@given(st.text() | st.none())
def test_no_text_raises(text: str | None) -> None:
    answer = serve_catalog_review(body(text))
    assert (answer.status, answer.failure) == (200, None)
