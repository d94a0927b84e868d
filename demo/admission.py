"""A pod's way through admission, seen from the API server: the review, the answer, the new pod.

`review.json` was recorded on a cluster: what the API server sends to webhooks that come after
KServe's. The demo puts its own model and hub into it and changes nothing else.
"""

import base64
import difflib
import json
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from importlib.resources import files
from typing import Any, Final

import yaml

from demo.processes import DemoError
from demo.tls import HOST, Certificate
from larder.contract import DECISION_ANNOTATION, STORAGE_INITIALIZER
from webhook.mutation import Operation, apply_patch

Json = Any
PATH: Final = "/mutate-pods"
ANSWER_SECONDS: Final = 10.0
YAML_COLUMNS: Final = 100
CONTEXT_LINES: Final = 1
_RECORDED_URI: Final = "hf://Qwen/Qwen2-0.5B-Instruct"
_RECORDED_NAME: Final = "qwen-hf"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A pod as KServe made it, and as it is after the webhook's patch."""

    before: Json
    after: Json
    decision: str


def recorded_namespace() -> str:
    """The namespace that the recorded pod is made in."""
    return str(_recorded("", "")["request"]["namespace"])


def make_review(name: str, storage_uri: str, endpoint: str) -> Json:
    """The recorded AdmissionReview, for a model of a hub."""
    review = _recorded(name, storage_uri)
    container = initializer_of(review["request"]["object"])
    container["env"] = [*container.get("env", []), {"name": "HF_ENDPOINT", "value": endpoint}]
    return review


def initializer_of(pod: Json) -> Json:
    """The container that KServe adds."""
    named = (c for c in pod["spec"]["initContainers"] if c["name"] == STORAGE_INITIALIZER)
    return next(named)


def admit(review: Json, port: int, certificate: Certificate) -> Admitted | None:
    """Ask the webhook, and patch the pod as the API server would; None for a pod left alone.

    Raises: DemoError if the answer is none that an API server takes.
    """
    response = _asked(review, port, certificate)["response"]
    if not response["allowed"] or response["uid"] != review["request"]["uid"]:
        raise DemoError("the webhook did not allow the pod, which it promises to always do")
    if "patch" not in response:
        return None
    operations = [Operation(**step) for step in json.loads(base64.b64decode(response["patch"]))]
    before = review["request"]["object"]
    after: Json = apply_patch(before, operations)
    return Admitted(before, after, after["metadata"]["annotations"][DECISION_ANNOTATION])


def pod_diff(admitted: Admitted) -> list[str]:
    """What changed in the pod, as YAML: lines that begin with `+`, `-` or a space; `@` is a gap."""
    before, after = (
        yaml.safe_dump(pod, sort_keys=False, width=YAML_COLUMNS).splitlines()
        for pod in (admitted.before, admitted.after)
    )
    lines = list(difflib.unified_diff(before, after, n=CONTEXT_LINES, lineterm=""))[2:]
    return ["@" if line.startswith("@") else line for line in lines]


def _recorded(name: str, storage_uri: str) -> Json:
    text = files("demo").joinpath("review.json").read_text("utf-8")
    return json.loads(text.replace(_RECORDED_URI, storage_uri).replace(_RECORDED_NAME, name))


def _asked(review: Json, port: int, certificate: Certificate) -> Json:
    connection = HTTPSConnection(HOST, port, context=certificate.client(), timeout=ANSWER_SECONDS)
    try:
        body = json.dumps(review).encode()
        connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, HTTPException) as error:
        raise DemoError(f"the webhook does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:  # noqa: PLR2004 - OK
        raise DemoError(f"the webhook answered {answer.status}: {text.decode(errors='replace')}")
    return json.loads(text)
