"""`larder explain`: what the webhook would decide about a pod, and why, from files alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from cli import OutputForm
from cli.inputs import (
    STANDARD_INPUT,
    check_cache_root,
    labels_of,
    read_catalog_file,
    read_document,
    shown,
)
from cli.output import FOUND_A_PROBLEM, console, refuse, show_json
from larder.matching import CatalogIndex
from larder.yaml_tree import YamlFault, read_yaml
from webhook.explaining.explanation import difference, explain_pod
from webhook.explaining.question import MAX_DEPTH, is_within
from webhook.explaining.text import show_difference, show_explanation
from webhook.mutation import AdmissionRequest, Json, View, VolumeMode
from webhook.mutation.raw import object_of, text_of

JSON_EXAMPLE: Final = """\
{
  "isServed": true,
  "reason": "Cached",
  "sentence": "The pod is pointed at its node's copy.",
  "cure": "",
  "detail": "1 of its 1 URIs are served",
  "namespace": "chat",
  "uris": [
    {
      "uri": "hf://org/llama", "reason": null, "sentence": "entry llama answers for it",
      "entry": "llama", "key": "52a2d80d4bc5fa16", "subpath": "",
      "considered": [
        {
          "name": "llama", "key": "52a2d80d4bc5fa16", "storageUri": "hf://org/llama",
          "isChosen": true, "because": "it answers for the URI"
        }
      ]
    }
  ],
  "keys": ["52a2d80d4bc5fa16"],
  "patch": [{"op": "add", "path": "/spec/volumes/-", "value": {}}],
  "catalogProblems": []
}"""


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line says. An empty namespace is the pod's own."""

    pod: Path
    catalog: Path
    namespace: str
    namespace_labels: tuple[str, ...]
    cache_root: PurePosixPath
    volumes: str


def explain(question: Question, output: OutputForm) -> int:
    """Print the decision about a pod. Returns the exit status."""
    if question.pod == question.catalog == STANDARD_INPUT:
        refuse("pod and catalog cannot both be standard input")
    check_cache_root(question.cache_root)
    labels = labels_of("--namespace-label", question.namespace_labels)
    request = _request(question)
    read = read_catalog_file(question.catalog)
    view = View(
        index=CatalogIndex(read.catalog) if read.catalog else None,
        cache_root=question.cache_root,
        volumes=VolumeMode(question.volumes),
        namespace_labels=labels or None,
    )
    explanation, decision = explain_pod(request, view, read.problems)
    if output == "json":
        show_json(explanation)
    else:
        show_explanation(console(), explanation)
        show_difference(console(), difference(request.pod, decision))
    return 0 if explanation.is_served else FOUND_A_PROBLEM


def _request(question: Question) -> AdmissionRequest:
    """The pod of a file, or the request of a review in it."""
    document = object_of(_document(question.pod))
    pod: Json = dict(document)
    namespace = text_of(object_of(document.get("metadata")).get("namespace"))
    if document.get("kind") == "AdmissionReview":
        review = object_of(document.get("request"))
        pod, namespace = review.get("object"), text_of(review.get("namespace")) or namespace
    kind = object_of(pod).get("kind")
    if not isinstance(pod, dict) or kind != "Pod":
        refuse(f"{shown(question.pod)} holds no pod; accepted: a Pod, or an AdmissionReview of one")
    namespace = question.namespace or namespace
    if not namespace:
        refuse(f"{shown(question.pod)} names no namespace; accepted: --namespace NAME")
    return AdmissionRequest(pod, namespace)


def _document(path: Path) -> Json:
    data = read_document(path)
    if data.lstrip().startswith(b"{"):
        try:
            loaded: Json = json.loads(data)
        except (ValueError, RecursionError):
            pass  # YAML begins like this, too
        else:
            if not is_within(loaded, MAX_DEPTH):
                refuse(f"{shown(path)} is nested deeper than {MAX_DEPTH} levels")
            return loaded
    try:
        return _as_json(read_yaml(data).value)
    except YamlFault as fault:
        refuse(f"{shown(path)}: {fault}")


def _as_json(value: object) -> Json:
    """What YAML was read into, as JSON."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return value if isinstance(value, (str, int)) else None
