"""The envelope of a review, whatever it is about: the request in a body, the answer to it."""

import orjson

from webhook.mutation.raw import JsonObject, object_of, text_of

_API_VERSION = "admission.k8s.io/v1"
_KIND = "AdmissionReview"


class MalformedReviewError(ValueError):
    """A body that is no AdmissionReview of a request; `str()` is one sentence."""


def request_in(body: bytes) -> JsonObject:
    """The request of a review; it has a uid. Raises `MalformedReviewError`."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedReviewError("the body is not JSON; accepted: an AdmissionReview") from None
    if not isinstance(review, dict):
        raise MalformedReviewError("the body is no JSON object; accepted: an AdmissionReview")
    for key, accepted in (("apiVersion", _API_VERSION), ("kind", _KIND)):
        if review.get(key) != accepted:
            raise MalformedReviewError(f"the body has another {key}; accepted: {accepted}")
    request = review.get("request")
    if not isinstance(request, dict):
        raise MalformedReviewError("the review has no request; accepted: an object")
    if not text_of(request.get("uid")):
        raise MalformedReviewError("the review's request has no uid; accepted: text")
    return request


def is_about(request: JsonObject, plural: str) -> bool:
    """Whether a request is about objects of the core API of that name, and no part of them."""
    resource = object_of(request.get("resource"))
    named = (resource.get("group"), resource.get("resource"))
    return named == ("", plural) and not request.get("subResource")


def is_dry_run(request: JsonObject) -> bool:
    """Whether nothing will come of a request, whatever it is answered."""
    return request.get("dryRun") is True


def review_of(response: JsonObject) -> JsonObject:
    """The review that an answer is sent in."""
    return {"apiVersion": _API_VERSION, "kind": _KIND, "response": response}
