"""One AdmissionReview of a pod in, one answer out; nothing of HTTP but the status.

What is no review of a request gets 400 and one sentence. Every well-formed review is answered 200
with `allowed: true`: a decision either carries a patch or changes nothing, and the reason of a
"no" stays here (it would tell tenants what others cache).
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from larder.contract import DecisionReason
from webhook.admission_review import (
    MalformedReviewError,
    is_about,
    is_dry_run,
    request_in,
    review_of,
)
from webhook.mutation import AdmissionRequest, Decision, Json, View, decide
from webhook.mutation.raw import JsonObject, object_of, text_of

_LONGEST_NAME = 253  # RFC 1123; what is longer was not accepted yet, and is cut in logs


@dataclass(frozen=True, slots=True)
class Subject:
    """Which pod a review is about, for logs. `pod` may be the prefix that names are made from."""

    uid: str
    namespace: str
    pod: str
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. `failure` is what went wrong inside, told as `InternalError`."""

    status: int
    body: JsonObject
    subject: Subject | None = None
    decision: Decision | None = None
    failure: Exception | None = None


def serve_review(body: bytes, view_of: Callable[[str], View]) -> Answer:
    """Answer a review; `view_of` gives what is known for a namespace. Never raises."""
    try:
        request = _pod_request_in(body)
    except MalformedReviewError as error:
        return Answer(400, {"error": str(error)})
    uid, pod = text_of(request["uid"]), request["object"]
    subject = _subject(request, pod)
    asked = AdmissionRequest(pod, text_of(request.get("namespace")), _creates_pod(request))
    try:
        decision = decide(asked, view_of(asked.namespace))
        return Answer(200, _response(uid, decision), subject, decision)
    except Exception as error:  # noqa: BLE001 - promise P9: anything unexpected allows the pod
        decision = Decision(DecisionReason.INTERNAL_ERROR, type(error).__name__)
        return Answer(200, _response(uid, decision), subject, decision, error)


def _pod_request_in(body: bytes) -> JsonObject:
    request = request_in(body)
    if not isinstance(request.get("object"), dict):
        raise MalformedReviewError("the review's request has no object; accepted: a pod")
    return request


def _creates_pod(request: JsonObject) -> bool:
    return request.get("operation") == "CREATE" and is_about(request, "pods")


def _subject(request: JsonObject, pod: Json) -> Subject:
    metadata = object_of(object_of(pod).get("metadata"))
    name = text_of(metadata.get("name")) or text_of(metadata.get("generateName"))
    return Subject(
        uid=text_of(request.get("uid"))[:_LONGEST_NAME],
        namespace=text_of(request.get("namespace"))[:_LONGEST_NAME],
        pod=name[:_LONGEST_NAME],
        is_dry_run=is_dry_run(request),
    )


def _response(uid: str, decision: Decision) -> JsonObject:
    response: JsonObject = {"uid": uid, "allowed": True}
    if decision.operations:
        patch = orjson.dumps([operation.as_json() for operation in decision.operations])
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(patch).decode()
    return review_of(response)
