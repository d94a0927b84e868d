"""Rules of the catalog that one field alone cannot break, and what a good catalog should know.

A fault is a path and a clause; `larder.catalog` adds the line. Two entries that could match the
same pod are refused here, so that matching never has to choose.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from larder.catalog import (
    ANY_ENDPOINT,
    ANY_NAMESPACE,
    Catalog,
    Eviction,
    ModelEntry,
    Network,
    NodeGroup,
)
from larder.node_facts import NodeFacts, room_notes
from larder.storage_uri import (
    CACHEABLE_SCHEMES,
    endpoint_fault,
    entry_uri_fault,
    is_archive,
    is_tree,
    normalise,
    scheme_of,
)
from larder.yaml_tree import Path

Fault = tuple[Path, str]

COMMIT_HEX_DIGITS = 40
_CREDENTIALS = ("secretName", "workloadIdentity")
_STANDALONE_CREDENTIALS = ("tokenFile", "tokenEnv")
MAX_ENTRIES_OF_A_URI = 100  # they are compared with one another, each pair
_BRACKETS = re.compile(r"\[!?+\]?+[^\]]*\]")  # as fnmatch reads them: `[]a]` and `[!]a]` are closed


def eviction_faults(eviction: Eviction) -> Iterator[Fault]:
    """What is wrong between the thresholds."""
    if eviction.low_threshold_percent >= eviction.high_threshold_percent:
        yield (
            ("defaults", "eviction", "lowThresholdPercent"),
            f"is not below highThresholdPercent; accepted: below {eviction.high_threshold_percent}",
        )


def network_faults(at: Path, network: Network) -> Iterator[Fault]:
    """What is wrong with the way out to the sources."""
    if network.proxy and (
        not network.proxy.startswith("http://") or endpoint_fault(network.proxy) is not None
    ):
        yield (*at, "proxy"), "is not a proxy; accepted: http://HOST:PORT"
    if network.ca_bundle and not network.ca_bundle.startswith("/"):
        yield (*at, "caBundle"), "is not an absolute path; accepted: a file of the agent"


def group_faults(at: Path, group: NodeGroup) -> Iterator[Fault]:
    """What is wrong with one node group by itself: a selector that can never mean what it says."""
    for i, expression in enumerate(group.node_selector.match_expressions):
        where = (*at, "nodeSelector", "matchExpressions", i, "values")
        if expression.operator in {"In", "NotIn"} and not expression.values:
            yield where, f"is empty, which operator {expression.operator} needs; accepted: a list"
        if expression.operator in {"Exists", "DoesNotExist"} and expression.values:
            yield where, f"is given, which operator {expression.operator} excludes; accepted: none"


def entry_faults(at: Path, entry: ModelEntry, *, standalone: bool) -> Iterator[Fault]:
    """What is wrong with one entry by itself."""
    if fault := entry_uri_fault(entry.storage_uri):
        yield (*at, "storageUri"), fault
    else:
        yield from _revision_faults(at, entry)
    if entry.placement == "Require" and entry.fill == "OnDemand":
        yield (*at, "fill"), "is OnDemand, which placement Require excludes; accepted: Eager"
    is_cacheable = scheme_of(entry.storage_uri) in CACHEABLE_SCHEMES
    if entry.placement == "Require" and is_cacheable and _is_unmeasured(entry):
        yield (
            (*at, "placement"),
            "is Require, but no archive is filled without maxSize; accepted: Prefer, or maxSize",
        )
    for name, value in (("fetchFrom", entry.fetch_from), ("endpoint", entry.endpoint)):
        is_any = name == "endpoint" and value == ANY_ENDPOINT
        if value is not None and not is_any and (fault := endpoint_fault(value)):
            yield (*at, name), fault
    if entry.endpoint and scheme_of(entry.storage_uri) == "https":
        yield (*at, "endpoint"), "is not for https://, whose URIs name a host; accepted: fetchFrom"
    if entry.network is not None:
        yield from network_faults((*at, "network"), entry.network)
    yield from _namespace_faults(at, entry)
    yield from _credential_faults(at, entry, standalone=standalone)
    yield from _pattern_faults((*at, "allowPatterns"), entry.allow_patterns)
    yield from _pattern_faults((*at, "ignorePatterns"), entry.ignore_patterns)


def _revision_faults(at: Path, entry: ModelEntry) -> Iterator[Fault]:
    is_hub = scheme_of(entry.storage_uri) == "hf"
    if is_hub and not entry.revision:
        yield at, "lacks 'revision', which hf:// needs; accepted: a commit, branch or tag"
    elif not is_hub and entry.revision:
        yield (*at, "revision"), "is for hf:// only; accepted: no revision"
    elif ".." in (entry.revision or ""):  # it becomes a part of URLs
        yield (*at, "revision"), "holds '..'; accepted: a commit, branch or tag"


def _pattern_faults(at: Path, patterns: list[str]) -> Iterator[Fault]:
    for i, pattern in enumerate(patterns):
        if fault := _pattern_fault(pattern):
            yield (*at, i), fault


def _namespace_faults(at: Path, entry: ModelEntry) -> Iterator[Fault]:
    for i, namespace in enumerate(entry.namespaces):
        if namespace != ANY_NAMESPACE and not _is_dns_label(namespace):
            yield (
                (*at, "namespaces", i),
                f"{namespace!r} is not a namespace's name; accepted: names, or ['*'] alone",
            )
    if ANY_NAMESPACE in entry.namespaces and len(entry.namespaces) > 1:
        yield (*at, "namespaces"), "has '*' beside names; accepted: names, or ['*'] alone"


def _credential_faults(at: Path, entry: ModelEntry, *, standalone: bool) -> Iterator[Fault]:
    if entry.credentials is None:
        return
    said = entry.credentials.model_dump(by_alias=True)
    given = {name: value for name, value in said.items() if value not in (None, False)}
    accepted = ", ".join(_CREDENTIALS + (_STANDALONE_CREDENTIALS if standalone else ()))
    where = (*at, "credentials", *given)
    if len(given) != 1:
        yield (*at, "credentials"), f"names {len(given)} places; accepted: one of {accepted}"
    elif not standalone and where[-1] in _STANDALONE_CREDENTIALS:
        yield where, f"is for standalone use; accepted in a cluster: {accepted}"
    elif entry.credentials.workload_identity and not is_tree(entry.storage_uri):
        yield where, "is for s3://, gs:// and Azure blobs; accepted: secretName"
    elif "" in given.values():
        yield where, "is empty"
    if ANY_NAMESPACE in entry.namespaces and not entry.public:
        yield (
            (*at, "namespaces"),
            "gives everyone what is fetched with credentials; say public: true, or name them",
        )


def _is_dns_label(name: str) -> bool:
    return re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) is not None  # RFC 1123


def _pattern_fault(pattern: str) -> str | None:
    """What makes a glob useless: it is empty, leaves the model, or has an open bracket."""
    if not pattern:
        return "is an empty pattern"
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return f"{pattern!r} leaves the model; accepted: globs of paths inside it"
    if not pattern.isprintable():
        return f"{pattern!r} holds a control character"
    if "[" in _BRACKETS.sub("", pattern):
        return f"{pattern!r} opens a bracket and does not close it"
    return None


def spanning_faults(
    group_names: Mapping[int, str],
    model_names: Mapping[int, str],
    entries: Mapping[int, ModelEntry],
) -> Iterator[Fault]:
    """What is wrong between parts; indices are those of the document."""
    yield from _duplicates("nodeGroups", group_names)
    yield from _duplicates("models", model_names)
    names = sorted(set(group_names.values()))
    for i, entry in entries.items():
        for j, group in enumerate(entry.node_groups):
            if group not in names:
                accepted = ", ".join(names) or "none is defined"
                yield (
                    ("models", i, "nodeGroups", j),
                    f"{group!r} is not a node group; accepted: {accepted}",
                )
    same_uri: dict[str, list[tuple[int, ModelEntry]]] = {}
    for i, entry in entries.items():
        same_uri.setdefault(normalise(entry.storage_uri), []).append((i, entry))
    for rivals in same_uri.values():
        yield from _rival_faults(rivals)


def _rival_faults(rivals: list[tuple[int, ModelEntry]]) -> Iterator[Fault]:
    if len(rivals) > MAX_ENTRIES_OF_A_URI:
        yield (
            ("models", rivals[MAX_ENTRIES_OF_A_URI][0], "storageUri"),
            f"is in {len(rivals)} entries; accepted: up to {MAX_ENTRIES_OF_A_URI}",
        )
        return
    for (_, first), (j, second) in combinations(rivals, 2):
        if fault := _rivalry(first, second):
            yield ("models", j), fault


def _duplicates(key: str, names: Mapping[int, str]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for i, name in names.items():
        if name in first:
            yield (key, i, "name"), f"{name!r} is already the name of {key}[{first[name]}]"
        first.setdefault(name, i)


def _rivalry(first: ModelEntry, second: ModelEntry) -> str | None:
    """Why two entries of one URI cannot stand side by side, or None."""
    if first.key == second.key:
        return f"has the identity of {first.name!r}; name all namespaces in one entry"
    shared = _shared_namespaces(first, second)
    same_endpoint = first.identity.endpoint == second.identity.endpoint
    if shared and (same_endpoint or ANY_ENDPOINT in {first.endpoint, second.endpoint}):
        return f"could match the same pods as {first.name!r} (namespaces: {', '.join(shared)})"
    return None


def _shared_namespaces(first: ModelEntry, second: ModelEntry) -> list[str]:
    if ANY_NAMESPACE in first.namespaces:
        return sorted(second.namespaces)
    if ANY_NAMESPACE in second.namespaces:
        return sorted(first.namespaces)
    return sorted(set(first.namespaces) & set(second.namespaces))


def catalog_notes(
    catalog: Catalog, *, standalone: bool = True, nodes: Sequence[NodeFacts] = ()
) -> tuple[str, ...]:
    """What a good catalog's admin should know, one sentence each, in document order.

    `nodes` are what is known of a cluster's nodes, where it is.
    """
    notes = []
    for entry in catalog.models:
        notes += [
            f"model {entry.name!r}: {note}" for note in _entry_notes(entry, standalone=standalone)
        ]
    return (*notes, *room_notes(catalog, nodes))


def _entry_notes(entry: ModelEntry, *, standalone: bool) -> Iterator[str]:
    scheme = scheme_of(entry.storage_uri)
    if _is_unmeasured(entry):
        yield "an archive is not filled without maxSize; its pods download as before"
    revision = entry.revision or ""
    if scheme == "hf" and not is_commit(revision):
        yield (
            f"revision {revision!r} is no commit; each node freezes it at its first fill, "
            "so that nodes may differ"
        )
    if entry.fill == "OnDemand":
        yield "fill OnDemand has no effect yet; it is filled eagerly"
    if standalone and entry.credentials is not None and entry.credentials.secret_name:
        yield "credentials.secretName has no effect outside a cluster; it is fetched without"
    if ANY_NAMESPACE in entry.namespaces and entry.credentials is not None:
        yield "everyone gets what is fetched with credentials (public: true)"


def _is_unmeasured(entry: ModelEntry) -> bool:
    """Whether nobody says how much an entry's archive may hold."""
    is_one = scheme_of(entry.storage_uri) != "hf" and is_archive(entry.storage_uri)
    return is_one and entry.max_size is None


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit hash, which never moves."""
    return len(revision) == COMMIT_HEX_DIGITS and all(c in "0123456789abcdef" for c in revision)
