"""The catalog's edits: a bad one is refused with the report of `larder catalog validate`.

Pure: a review in, an answer out. What is not the catalog's ConfigMap is none of our business and
allowed, and so is its deletion: the last good catalog stays in force. What a good catalog's admin
should know comes as warnings. What a user sees is bounded: an API server cuts longer warnings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from larder.catalog import read_catalog
from larder.catalog_rules import catalog_notes
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from larder.errors import CatalogError
from larder.node_facts import NodeFacts
from runtime.catalog_config_map import catalog_document
from runtime.kube.objects import KubeObject
from webhook.admission_review import (
    MalformedReviewError,
    is_about,
    is_dry_run,
    request_in,
    review_of,
)
from webhook.mutation.raw import JsonObject, object_of, text_of

MAX_PROBLEMS: Final = 20
MAX_PROBLEM_CHARACTERS: Final = 500
MAX_WARNINGS: Final = 16
MAX_WARNING_CHARACTERS: Final = 256
_UNPROCESSABLE: Final = 422


@dataclass(frozen=True, slots=True)
class CatalogAnswer:
    """What is sent back. `problems` are all of a refused edit's; `failure` is a defect of ours."""

    status: int
    body: JsonObject
    problems: tuple[str, ...] = ()
    failure: Exception | None = None
    is_dry_run: bool = False


def serve_catalog_review(body: bytes, nodes: Sequence[NodeFacts] = ()) -> CatalogAnswer:
    """Answer a review of a ConfigMap, by what is known of the nodes. Never raises."""
    try:
        request = request_in(body)
    except MalformedReviewError as error:
        return CatalogAnswer(400, {"error": str(error)})
    answered = partial(CatalogAnswer, 200, is_dry_run=is_dry_run(request))
    response: JsonObject = {"uid": text_of(request["uid"]), "allowed": True}
    try:
        if _writes_catalog(request):
            response |= _warnings(_notes(request, nodes))
    except CatalogError as error:
        refusal: JsonObject = {
            "code": _UNPROCESSABLE,
            "reason": "Invalid",
            "message": report_of(error.problems),
        }
        response |= {"allowed": False, "status": refusal}
        return answered(review_of(response), error.problems)
    except Exception as error:  # noqa: BLE001 - a defect of ours must not stop an admin
        return answered(review_of(response), failure=error)
    return answered(review_of(response))


def _writes_catalog(request: JsonObject) -> bool:
    metadata = object_of(object_of(request.get("object")).get("metadata"))
    name = text_of(request.get("name")) or text_of(metadata.get("name"))
    return (
        request.get("operation") in {"CREATE", "UPDATE"}
        and is_about(request, "configmaps")
        and (text_of(request.get("namespace")), name) == (SYSTEM_NAMESPACE, CATALOG_CONFIG_MAP)
    )


def _notes(request: JsonObject, nodes: Sequence[NodeFacts]) -> tuple[str, ...]:
    """What a good catalog's admin should know. Raises `CatalogError` for a bad one."""
    content = cast("KubeObject", object_of(request.get("object")))
    catalog = read_catalog(catalog_document(content), standalone=False)
    return catalog_notes(catalog, standalone=False, nodes=nodes)


def report_of(problems: Sequence[str]) -> str:
    """What is wrong with a catalog, a line each, bounded."""
    shown = [_cut(problem, MAX_PROBLEM_CHARACTERS) for problem in problems[:MAX_PROBLEMS]]
    if more := len(problems) - len(shown):
        shown.append(f"and {more} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return "\n".join([f"the catalog cannot be used: {count}", *shown])


def _warnings(notes: tuple[str, ...]) -> JsonObject:
    if not notes:
        return {}
    shown = notes if len(notes) <= MAX_WARNINGS else notes[: MAX_WARNINGS - 1]
    more = [] if shown is notes else [f"and {len(notes) - len(shown)} more"]
    return {"warnings": [*(_cut(note, MAX_WARNING_CHARACTERS) for note in shown), *more]}


def _cut(sentence: str, characters: int) -> str:
    return sentence if len(sentence) <= characters else f"{sentence[: characters - 1]}…"
