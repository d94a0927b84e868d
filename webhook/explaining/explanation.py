"""A decision about a pod in words: the reason, each URI, and each entry beside it. Pure.

What is said of an entry is what the matcher says when it has no other entry, so that words and
decisions cannot part. URIs of the pod lose what may hold credentials.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from larder.catalog import ModelEntry
from larder.contract import FALLBACK_VARIABLE, SLOTS_VARIABLE, DecisionReason
from larder.matching import CatalogIndex, Match, SourceView
from larder.reasons import meaning_of
from larder.storage_uri import (
    DEFAULT_ENDPOINTS,
    is_tree,
    normalise,
    parse_hub_uri,
    scheme_of,
)
from runtime.logs import without_secrets
from webhook.mutation import (
    AdmissionRequest,
    Decision,
    Json,
    Operation,
    View,
    apply_patch,
    decide,
)
from webhook.mutation.eligibility import Initializer, known_initializer
from webhook.mutation.patch import pointer
from webhook.mutation.pod import read_pod
from webhook.mutation.raw import list_of, object_of, text_of
from webhook.mutation.source import source_view

_SERVED: Final = frozenset({DecisionReason.CACHED, DecisionReason.ALREADY_REWRITTEN})
_NO_LINE_BREAKS: Final = 10**9
_HIDDEN: Final = "***"
_OUR_VARIABLES: Final = (SLOTS_VARIABLE, FALLBACK_VARIABLE)


@dataclass(frozen=True, slots=True)
class Considered:
    """One entry of the catalog, and why it answers for a URI or does not."""

    name: str
    key: str
    storage_uri: str
    is_chosen: bool
    because: str


@dataclass(frozen=True, slots=True)
class UriExplanation:
    """One URI of the pod; `reason` is None if an entry answers for it."""

    uri: str
    reason: DecisionReason | None
    sentence: str
    entry: str | None
    key: str | None
    subpath: str | None
    considered: tuple[Considered, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision as it is shown. `patch` is the JSON Patch, as it would be sent."""

    is_served: bool
    reason: DecisionReason
    sentence: str
    cure: str
    detail: str
    namespace: str
    uris: tuple[UriExplanation, ...]
    keys: tuple[str, ...]
    patch: tuple[Json, ...]
    catalog_problems: tuple[str, ...]


def explain_pod(
    request: AdmissionRequest, view: View, catalog_problems: tuple[str, ...]
) -> tuple[Explanation, Decision]:
    """What becomes of a pod, in words and as it was decided."""
    decision = decide(request, view)
    meaning = meaning_of(decision.reason)
    explanation = Explanation(
        is_served=decision.reason in _SERVED,
        reason=decision.reason,
        sentence=meaning.sentence,
        cure=meaning.cure,
        detail=decision.detail,
        namespace=request.namespace,
        uris=tuple(_uris(request, view, decision)),
        keys=decision.keys,
        patch=tuple(operation.as_json() for operation in decision.operations),
        catalog_problems=catalog_problems,
    )
    return explanation, decision


def _uris(request: AdmissionRequest, view: View, decision: Decision) -> Iterator[UriExplanation]:
    if view.index is None or not decision.uris:
        return
    index = view.index
    initializer = known_initializer(read_pod(request.pod), index.catalog.defaults)
    if not isinstance(initializer, Initializer):
        return
    for found in decision.uris:
        uri = found.uri.replace("$$", "$")  # as the kubelet hands it over, and as it was matched
        source = source_view(initializer.container, scheme_of(uri))
        asked = Asked(uri, request.namespace, source, found.outcome)
        yield _uri(index, asked)


@dataclass(frozen=True, slots=True)
class Asked:
    """One URI, who asks for it and how, and what the whole catalog said."""

    uri: str
    namespace: str
    source: SourceView
    outcome: Match | DecisionReason


def _uri(index: CatalogIndex, asked: Asked) -> UriExplanation:
    match asked.outcome:
        case Match(entry=entry, subpath=subpath):
            sentence = f"entry {entry.name} answers for it"
            subpath = _shown_part(entry, subpath)
            return UriExplanation(
                uri=without_secrets(asked.uri),
                reason=None,
                sentence=sentence + (f" with its part {subpath}" if subpath else ""),
                entry=entry.name,
                key=entry.key,
                subpath=subpath,
                considered=consider(index, asked),
            )
        case DecisionReason() as reason:
            return UriExplanation(
                uri=without_secrets(asked.uri),
                reason=reason,
                sentence=meaning_of(reason).sentence,
                entry=None,
                key=None,
                subpath=None,
                considered=consider(index, asked),
            )


def _shown_part(entry: ModelEntry, subpath: str) -> str:
    """A path below an entry's URI, without what may be a query."""
    parent = f"{entry.identity.storage_uri}/"
    return without_secrets(parent + subpath).removeprefix(parent)


# --- the entries ----------------------------------------------------------------------------------


def consider(index: CatalogIndex, asked: Asked) -> tuple[Considered, ...]:
    """Every entry and what speaks for or against it: those with another URI last."""
    candidates = set(map(id, index.entries_for(asked.uri)))
    strangers = _alone(index, None, asked)  # asked once: a catalog may have thousands
    alone = [
        (entry, _alone(index, entry, asked) if id(entry) in candidates else strangers)
        for entry in index.catalog.models
    ]
    related = [pair for pair in alone if pair[1] is not DecisionReason.MODEL_NOT_IN_CATALOG]
    others = [pair for pair in alone if pair[1] is DecisionReason.MODEL_NOT_IN_CATALOG]
    return tuple(_considered(entry, outcome, asked) for entry, outcome in (*related, *others))


def _alone(index: CatalogIndex, entry: ModelEntry | None, asked: Asked) -> Match | DecisionReason:
    """What a catalog of this one entry, or of none, would say."""
    models = [entry] if entry else []
    alone = CatalogIndex(index.catalog.model_copy(update={"models": models}))
    return alone.match(asked.uri, asked.namespace, asked.source)


def _considered(entry: ModelEntry, alone: Match | DecisionReason, asked: Asked) -> Considered:
    chosen = asked.outcome.entry if isinstance(asked.outcome, Match) else None
    is_chosen = chosen is entry
    because = "it answers for the URI" if is_chosen else _because(entry, alone, asked)
    return Considered(entry.name, entry.key, entry.storage_uri, is_chosen, because)


def _because(entry: ModelEntry, alone: Match | DecisionReason, asked: Asked) -> str:
    """Why an entry does not answer, as a clause."""
    match alone:
        case Match():
            return _outranked(entry, asked)
        case DecisionReason.MODEL_NOT_IN_CATALOG:
            return _uri_differs(entry, without_secrets(asked.uri))
        case DecisionReason.NAMESPACE_NOT_ALLOWED:
            return f"it is for the namespaces {', '.join(entry.namespaces)}"
        case DecisionReason.ENDPOINT_DIFFERS:
            wanted = entry.identity.endpoint or DEFAULT_ENDPOINTS.get(scheme_of(asked.uri))
            said = without_secrets(str(asked.source.endpoint))
            return f"the pod's endpoint is {said}, the entry's is {wanted or 'not given'}"
        case reason:
            sentence = meaning_of(reason).sentence.rstrip(".")
            return sentence[0].lower() + sentence[1:]


def _outranked(entry: ModelEntry, asked: Asked) -> str:
    """Why an entry that would do alone does not among the others."""
    if asked.outcome is DecisionReason.ENDPOINT_UNKNOWN and asked.source.endpoint is None:
        return "the pod names no endpoint, and several entries of this URI would do"
    if isinstance(asked.outcome, Match):
        chosen = asked.outcome.entry
        if chosen.identity.storage_uri == entry.identity.storage_uri:
            return f"the pod names no endpoint, and {chosen.name} is of the default one"
    return "an entry with a longer URI comes first"


def _uri_differs(entry: ModelEntry, uri: str) -> str:
    """How an entry's URI is another one, in the words of the likeliest mistake."""
    wanted, said = entry.identity.storage_uri, normalise(uri)
    model = parse_hub_uri(uri)
    if model is not None and model.uri(None) == wanted:
        return f"the pod asks for revision {model.revision}, the entry is about {entry.revision}"
    if said.casefold() == wanted.casefold():
        return "its URI differs in upper and lower case"
    if is_tree(wanted) and wanted.startswith(f"{said}/"):
        return "it is a part of what the pod asks for"
    return "its URI is another"


# --- the difference -------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes a value as often as it occurs, rather than referring to it."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def difference(pod: Json, decision: Decision) -> Iterable[str]:
    """The lines of the difference that a decision makes to a pod; none if it changes nothing."""
    if not decision.operations:
        return ()
    shown = _without_values(pod)
    before, after = (_lines(p) for p in (shown, apply_patch(shown, decision.operations)))
    lines = difflib.unified_diff(before, after, "pod", "pod, pointed at its slots", lineterm="")
    return map(without_secrets, lines)


def _without_values(pod: Json) -> Json:
    """The pod without the values of its variables, which may be tokens; Larder's own stay."""
    changes = [
        Operation("replace", container.at + pointer("env", str(i), "value"), _HIDDEN)
        for container in read_pod(pod).all_containers
        for i, variable in enumerate(map(object_of, list_of(container.raw.get("env"))))
        if "value" in variable and text_of(variable.get("name")) not in _OUR_VARIABLES
    ]
    return apply_patch(pod, changes)


def _lines(pod: Json) -> list[str]:
    text = yaml.dump(pod, Dumper=_Dumper, sort_keys=False, width=_NO_LINE_BREAKS)
    return text.splitlines()
