"""AdmissionReviews without HTTP: bad ones get a sentence, well-formed ones are always allowed."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.contract import DecisionReason
from larder.matching import CatalogIndex, Match, SourceView
from webhook.mutation import View
from webhook.review import serve_review
from webhook.state import State

REVIEW: dict[str, Any] = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {"uid": "u", "object": {}},
}


def review_with(**fields: object) -> bytes:
    return json.dumps(REVIEW | fields).encode()


def request_with(**fields: object) -> bytes:
    return review_with(request=REVIEW["request"] | fields)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        pytest.param(b"", "the body is not JSON", id="nothing"),
        pytest.param(b"{", "the body is not JSON", id="half of JSON"),
        pytest.param(b"\xff\xfe", "the body is not JSON", id="no text"),
        pytest.param(b"[" * 100_000, "the body is not JSON", id="deep nesting"),
        pytest.param(b"[]", "the body is no JSON object", id="a list"),
        pytest.param(b"null", "the body is no JSON object", id="null"),
        pytest.param(
            review_with(apiVersion="admission.k8s.io/v1beta1"),
            "the body has another apiVersion; accepted: admission.k8s.io/v1",
            id="another version",
        ),
        pytest.param(
            review_with(kind="Review"),
            "the body has another kind; accepted: AdmissionReview",
            id="another kind",
        ),
        pytest.param(review_with(request=None), "the review has no request", id="no request"),
        pytest.param(review_with(request=[]), "the review has no request", id="an odd request"),
        pytest.param(request_with(uid=""), "the review's request has no uid", id="an empty uid"),
        pytest.param(request_with(uid=5), "the review's request has no uid", id="an odd uid"),
        pytest.param(request_with(object=None), "the review's request has no object", id="no pod"),
        pytest.param(
            request_with(object="pod"), "the review's request has no object", id="an odd pod"
        ),
    ],
)
def test_what_is_no_review_gets_one_sentence(body: bytes, sentence: str, view: View) -> None:
    answer = serve_review(body, lambda _: view)
    assert (answer.status, answer.decision) == (400, None)
    (error,) = answer.body.values()
    assert str(error).startswith(sentence)
    assert "accepted: " in str(error)
    assert "\n" not in str(error)


def test_a_patch_is_answered_as_the_api_server_wants_it(
    review: Callable[[str], Any], view: View
) -> None:
    asked = review("hf-raw.after-kserve")
    answer = serve_review(json.dumps(asked).encode(), lambda _: view)
    assert answer.decision
    assert answer.body["response"]["patchType"] == "JSONPatch"  # type: ignore[index, call-overload] - raw JSON
    patch = json.loads(base64.b64decode(answer.body["response"]["patch"]))  # type: ignore[index, call-overload, arg-type] - raw JSON
    assert patch == [o.as_json() for o in answer.decision.operations]
    jsonpatch.apply_patch(asked["request"]["object"], patch)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"operation": "UPDATE"}, id="an update"),
        pytest.param({"operation": "DELETE"}, id="a deletion"),
        pytest.param({"operation": None}, id="no operation"),
        pytest.param({"subResource": "ephemeralcontainers"}, id="a subresource"),
        pytest.param({"resource": {"group": "apps", "resource": "pods"}}, id="another group"),
        pytest.param({"resource": {"group": "", "resource": "services"}}, id="another resource"),
        pytest.param({"resource": "pods"}, id="a resource of an odd type"),
    ],
)
def test_what_does_not_create_a_pod_is_allowed_unchanged(
    fields: dict[str, object], review: Callable[[str], Any], view: View
) -> None:
    asked = review("hf-raw.after-kserve")
    asked["request"] |= fields
    answer = serve_review(json.dumps(asked).encode(), lambda _: view)
    assert answer.decision
    assert answer.decision.reason is DecisionReason.NOT_A_PREDICTOR
    assert answer.body["response"] == {"uid": asked["request"]["uid"], "allowed": True}


def test_a_dry_run_is_answered_as_any_other(review: Callable[[str], Any], view: View) -> None:
    asked = review("hf-raw.after-kserve")
    bodies = [
        serve_review(json.dumps(asked).encode(), lambda _: view).body
        for asked["request"]["dryRun"] in (False, True)
    ]
    assert bodies[0] == bodies[1]


class BrokenIndex(CatalogIndex):
    """A bug."""

    def match(self, uri: str, namespace: str, source: SourceView) -> Match | DecisionReason:
        raise ZeroDivisionError(uri + namespace + str(source))


def test_a_bug_allows_the_pod_unchanged_and_is_told(
    review: Callable[[str], Any], view: View
) -> None:
    assert view.index
    broken = replace(view, index=BrokenIndex(view.index.catalog))
    asked = review("hf-raw.after-kserve")
    answer = serve_review(json.dumps(asked).encode(), lambda _: broken)
    assert answer.status == 200
    assert answer.body["response"] == {"uid": asked["request"]["uid"], "allowed": True}
    assert answer.decision
    assert answer.decision.reason is DecisionReason.INTERNAL_ERROR
    assert answer.decision.detail == "ZeroDivisionError"
    assert isinstance(answer.failure, ZeroDivisionError)


def test_a_name_of_megabytes_is_cut_in_logs_and_the_uid_is_returned_whole(
    review: Callable[[str], Any], view: View
) -> None:
    asked = review("hf-raw.after-kserve")
    asked["request"] |= {"uid": "u" * 1000, "namespace": "n" * 1000}
    asked["request"]["object"]["metadata"]["generateName"] = "p" * 1000
    answer = serve_review(json.dumps(asked).encode(), lambda _: view)
    assert answer.subject
    assert {len(answer.subject.uid), len(answer.subject.namespace), len(answer.subject.pod)} == {
        253
    }
    assert answer.body["response"] == {"uid": "u" * 1000, "allowed": True}


def test_the_labels_are_those_of_the_requests_namespace(
    review: Callable[[str], Any], view: View
) -> None:
    assert view.index
    labels = {"chat": {"larder.dev/mode": "Observe"}, "models": {"larder.dev/cache": "disabled"}}
    state = State(view.cache_root, view.volumes, view.index, labels)
    asked = review("hf-raw.after-kserve")
    asked["request"]["object"]["metadata"]["namespace"] = "models"
    answer = serve_review(json.dumps(asked).encode(), state.view_of)
    assert answer.decision
    assert answer.decision.reason is DecisionReason.OBSERVING


@given(st.binary() | st.text().map(str.encode))
def test_no_body_raises(view: View, body: bytes) -> None:
    assert serve_review(body, lambda _: view).status == 400
