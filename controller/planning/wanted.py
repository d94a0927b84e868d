"""Which claims there should be: from the catalog, the namespaces, and the services in them.

An entry that names namespaces is for those; `["*"]` is for each namespace where an InferenceService
or LLMInferenceService says a URI that the entry answers for. Namespaces that allow hostPath volumes
have them, too: when such a namespace's labels change, its next pod could not wait for the binding.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from larder.catalog import ANY_NAMESPACE, Catalog, ModelEntry
from larder.claims import Claim
from larder.layout import Key
from larder.matching import CatalogIndex

Uris = frozenset[str]
MAX_URIS: Final = 1000  # of one service, whose author could write a megabyte of them


@dataclass(frozen=True, slots=True)
class Wanted:
    """The claims that should be there; of `undecided` models, nobody can say which ones yet."""

    claims: frozenset[Claim] = frozenset()
    undecided: frozenset[Key] = frozenset()


def wanted_claims(
    catalog: Catalog, namespaces: frozenset[str], services: Mapping[str, Uris] | None
) -> Wanted:
    """The claims of a catalog in the namespaces that are there.

    `services` has the URIs of each namespace's services; None while they are unknown.
    """
    public = [entry for entry in catalog.models if ANY_NAMESPACE in entry.namespaces]
    asked = _asked_for(catalog, services) if public and services else {}
    claims = [
        claim
        for entry in catalog.models
        for namespace in {*entry.namespaces, *asked.get(entry.key, ())} & namespaces
        for claim in _claims_of(entry, namespace)
    ]
    undecided = {entry.key for entry in public} if services is None else set()
    return Wanted(frozenset(claims), frozenset(undecided))


def uris_in(content: object) -> Uris:
    """The texts in a part of an object that may be storage URIs, wherever they stand."""
    found, rest = set[str](), [content]
    while rest and len(found) < MAX_URIS:
        match rest.pop():
            case dict() as fields:
                rest.extend(fields.values())
            case list() as items:
                rest.extend(items)
            case str() as text if "://" in text:
                found.add(text)
            case _:
                pass
    return frozenset(found)


def spec_of(content: Mapping[str, Any]) -> object:
    """The part of a service that its author writes."""
    return content.get("spec")


def _asked_for(catalog: Catalog, services: Mapping[str, Uris]) -> Mapping[Key, set[str]]:
    """The namespaces whose services ask for a model that everybody may have."""
    index, asked = CatalogIndex(catalog), dict[Key, set[str]]()
    for namespace, uris in services.items():
        for uri in uris:
            for entry in index.entries_for(uri):
                if ANY_NAMESPACE in entry.namespaces:
                    asked.setdefault(entry.key, set()).add(namespace)
    return asked


def _claims_of(entry: ModelEntry, namespace: str) -> Iterator[Claim]:
    yield Claim(namespace, entry.key)
    if entry.placement == "Require":
        yield Claim(namespace, entry.key, is_content=True)
