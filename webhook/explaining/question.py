"""What a body asks `/explain`: a pod of the cluster by its name, or one that is sent. Pure.

{"namespace": "chat", "pod": "llama-predictor-6d5c7"}
{"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "chat", …}, "spec": …}
"""

from dataclasses import dataclass
from typing import Final, NoReturn

import orjson

from larder.contract import STORAGE_INITIALIZER
from runtime.kube.paths import object_path
from webhook.explaining.answer import ExplainError, Outcome
from webhook.mutation.pod import read_pod
from webhook.mutation.raw import Json, JsonObject, list_of, object_of, text_of

MAX_DEPTH: Final = 100  # a pod has a dozen
MAX_URIS: Final = 32  # a pod has one or two; each is told beside every entry
_ACCEPTED: Final = 'accepted: {"namespace": …, "pod": NAME}, or a Pod'


@dataclass(frozen=True, slots=True)
class Question:
    """Which pod is asked about. `pod` is None for one of the cluster, `name` may be of neither."""

    namespace: str
    name: str
    pod: JsonObject | None = None


def question_in(body: bytes) -> Question:
    """What a body asks. Raises `ExplainError`."""
    try:
        document: Json = orjson.loads(body)
    except orjson.JSONDecodeError:
        _refuse(f"the body is not JSON; {_ACCEPTED}")
    if not isinstance(document, dict):
        _refuse(f"the body is no JSON object; {_ACCEPTED}")
    question = _sent(document) if document.get("kind") == "Pod" else _named(document)
    try:
        object_path("v1", "pods", question.name or "x", namespace=question.namespace)
    except ValueError as error:
        _refuse(str(error))
    return question


def _named(document: JsonObject) -> Question:
    if document.keys() != {"namespace", "pod"}:
        _refuse(f"the body asks for something else; {_ACCEPTED}")
    question = Question(text_of(document["namespace"]), text_of(document["pod"]))
    if not question.namespace or not question.name:
        _refuse(f"namespace and pod are names; {_ACCEPTED}")
    return question


def _sent(pod: JsonObject) -> Question:
    if not is_within(pod, MAX_DEPTH):
        _refuse(f"the pod is nested too deeply; accepted: up to {MAX_DEPTH} levels")
    metadata = object_of(pod.get("metadata"))
    namespace = text_of(metadata.get("namespace"))
    if not namespace:
        _refuse("the pod names no namespace; accepted: metadata.namespace")
    check_uris(pod)
    return Question(namespace, text_of(metadata.get("name")), pod)


def check_uris(pod: Json) -> None:
    """Raises `ExplainError` for a pod that asks for more models than are told one by one."""
    for container in read_pod(pod).init_containers:
        arguments = list_of(container.raw.get("args"))
        if container.name == STORAGE_INITIALIZER and len(arguments) > 2 * MAX_URIS:
            _refuse(f"the pod asks for too many models; accepted: up to {MAX_URIS} URIs")


def is_within(value: Json, levels: int) -> bool:
    """Whether a value is nested no deeper than so many levels."""
    children = value.values() if isinstance(value, dict) else list_of(value)
    return levels > 0 and all(is_within(child, levels - 1) for child in children)


def _refuse(sentence: str) -> NoReturn:
    raise ExplainError(Outcome.MALFORMED, sentence)
