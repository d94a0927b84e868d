"""Matching: which entry of the catalog answers for a URI of a pod.

Pure and exact (no prefix without a `/`, no guess): only entries that name the pod's namespace
compete, the longest URI wins, and what the pod's own environment says about the source must agree
with the entry, since the same words can name other bytes. The cost does not grow with the catalog:
entries are found by URI, walking up a tree's parents.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from larder.catalog import ANY_ENDPOINT, Catalog, ModelEntry
from larder.contract import DecisionReason
from larder.storage_uri import (
    CACHEABLE_SCHEMES,
    DEFAULT_ENDPOINTS,
    MAX_URI_CHARACTERS,
    is_unresolved,
    normalise,
    normalise_endpoint,
    parse_hub_uri,
    scheme_of,
    subpath_below,
)


class Hearsay(Enum):
    """What a variable says that Larder cannot read (a Secret, `envFrom`, an unqualified host)."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Hearsay.UNKNOWN


@dataclass(frozen=True, slots=True)
class SourceView:
    """What the pod's initializer would see: None is "says nothing", UNKNOWN "cannot be read".

    `endpoint` is a URL; patterns are lists as `STORAGE_ALLOW_PATTERNS` and
    `STORAGE_IGNORE_PATTERNS` give them.
    """

    endpoint: str | Hearsay | None = None
    allow_patterns: tuple[str, ...] | Hearsay | None = None
    ignore_patterns: tuple[str, ...] | Hearsay | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """An entry, and the path below it that the URI asks for (empty for all of it)."""

    entry: ModelEntry
    subpath: str


class CatalogIndex:
    """A catalog made ready for matching. Immutable; make a new one for a new catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        by_uri: dict[str, list[ModelEntry]] = {}
        for entry in catalog.models:
            by_uri.setdefault(entry.identity.storage_uri, []).append(entry)
        self._by_uri: Final = by_uri

    def match(self, uri: str, namespace: str, source: SourceView) -> Match | DecisionReason:
        """The entry for one URI, or the reason why there is none."""
        if is_unresolved(uri):
            return DecisionReason.UNRESOLVED_URI
        if scheme_of(uri) not in CACHEABLE_SCHEMES:
            return DecisionReason.SCHEME_NOT_CACHEABLE
        if len(uri) > MAX_URI_CHARACTERS:  # walking up takes a step a slash
            return DecisionReason.MODEL_NOT_IN_CATALOG
        rivals = list(self._candidates(uri))
        if not rivals:
            return DecisionReason.MODEL_NOT_IN_CATALOG
        allowed = [m for m in rivals if m.entry.allows(namespace)]
        if not allowed:
            return DecisionReason.NAMESPACE_NOT_ALLOWED
        longest = len(allowed[0].entry.identity.storage_uri)
        return _agreeing(
            [m for m in allowed if len(m.entry.identity.storage_uri) == longest], source
        )

    def entries_for(self, uri: str) -> Iterator[ModelEntry]:
        """Entries that could answer for a URI, whoever asks and whatever else the pod says."""
        if scheme_of(uri) in CACHEABLE_SCHEMES and len(uri) <= MAX_URI_CHARACTERS:
            for match in self._candidates(uri):
                yield match.entry

    def _candidates(self, uri: str) -> Iterator[Match]:
        """Entries whose URI is the given one or above it, longest first."""
        model = parse_hub_uri(uri)
        if model is not None:
            for entry in self._by_uri.get(model.uri(None), ()):
                if model.revision in {None, entry.revision}:
                    yield Match(entry, "")
            return
        parent = normalise(uri)
        while "://" in parent:
            for entry in self._by_uri.get(parent, ()):
                subpath = subpath_below(entry.storage_uri, uri)
                if subpath is not None:
                    yield Match(entry, subpath)
            parent = parent.rpartition("/")[0]


def _agreeing(rivals: list[Match], source: SourceView) -> Match | DecisionReason:
    """The one of several entries of a URI that agrees with what the pod says of its source."""
    reasons = [_endpoint_fault(m.entry, source) for m in rivals]
    agreeing = [m for m, reason in zip(rivals, reasons, strict=True) if reason is None]
    if not agreeing:
        return reasons[0] or DecisionReason.ENDPOINT_DIFFERS
    if len(agreeing) > 1:  # the pod says nothing: the default endpoint's entry, or nobody's
        agreeing = [m for m in agreeing if m.entry.identity.endpoint is None]
        if not agreeing:
            return DecisionReason.ENDPOINT_UNKNOWN
    match = agreeing[0]
    for said, wanted in (
        (source.allow_patterns, match.entry.allow_patterns),
        (source.ignore_patterns, match.entry.ignore_patterns),
    ):
        if said is not None and (said is UNKNOWN or list(said) != wanted):
            return DecisionReason.PATTERNS_DIFFER
    return match


def _endpoint_fault(entry: ModelEntry, source: SourceView) -> DecisionReason | None:
    if entry.endpoint == ANY_ENDPOINT or source.endpoint is None:
        return None
    if isinstance(source.endpoint, Hearsay):
        return DecisionReason.ENDPOINT_UNKNOWN
    default = DEFAULT_ENDPOINTS.get(scheme_of(entry.storage_uri))
    wanted = entry.identity.endpoint or default
    if normalise_endpoint(source.endpoint) != wanted:
        return DecisionReason.ENDPOINT_DIFFERS
    return None
