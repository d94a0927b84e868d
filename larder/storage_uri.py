"""Storage URIs: what KServe calls the place a model comes from.

A URI is compared as text: the scheme is lower-cased, one trailing `/` is dropped, nothing else is
touched (no percent-decoding, no host folding), so that what we cache under a URI is what KServe
would have fetched for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from larder.manifest import path_fault

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HF_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,221}")
_AZURE_BLOB = re.compile(r"https://[^/]+\.blob\.core\.[^/]+/[^/]+(/.*)?")
_FOREIGN_FILES = re.compile(r"https://(?:[^/]+\.file\.core\.[^/]+/.*|.*\.git)")  # shares, git
_REPACKED = re.compile(r".*\.(?:gz|Z|bz2|xz|br|tbz2?|txz|taz|tz)")
_UNRESOLVED = re.compile(r"[\x00-\x1f\x7f]|\$\(")
_UNPRINTED = re.compile(r"[\s\x00-\x1f\x7f]")
MAX_URI_CHARACTERS: Final = 2048  # more than any place that can be cached needs

CACHEABLE_SCHEMES: Final = ("hf", "s3", "gs", "https")
TREE_SCHEMES: Final = frozenset({"s3", "gs"})  # a URI below an entry's URI is a part of it

ARCHIVES: Final = (".tar", ".tgz", ".tar.gz", ".zip")

DEFAULT_ENDPOINTS: Final[Mapping[str, str]] = {
    "hf": "https://huggingface.co",
    "s3": "https://s3.amazonaws.com",
    "gs": "https://storage.googleapis.com",
}
"""Endpoint of a scheme when nobody names one; schemes that are absent have no endpoint."""


def normalise(uri: str) -> str:
    """The URI as it is compared and hashed: scheme lower-cased, one trailing `/` dropped."""
    scheme = _SCHEME.match(uri)
    if scheme:
        uri = scheme[0].lower() + uri[scheme.end() :]
    return uri.removesuffix("/")


def scheme_of(uri: str) -> str:
    """The scheme in lower case, or an empty string for a URI without one."""
    scheme = _SCHEME.match(uri)
    return scheme[1].lower() if scheme else ""


def host_of(uri: str) -> str:
    """The host of an https:// URI, in lower case and without its port; empty if there is none."""
    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return ""


def is_unresolved(uri: str) -> bool:
    """Whether a URI holds a control character or a `$(` that the kubelet would expand."""
    return _UNRESOLVED.search(uri) is not None


def is_tree(uri: str) -> bool:
    """Whether URIs below this one are parts of it (object stores), rather than other models."""
    return scheme_of(uri) in TREE_SCHEMES or _AZURE_BLOB.fullmatch(normalise(uri)) is not None


def is_archive(uri: str) -> bool:
    """Whether KServe unpacks what a URI names, by its ending."""
    return normalise(uri).endswith(ARCHIVES)


@dataclass(frozen=True, slots=True)
class HubModel:
    """What an `hf://` URI names. `revision` is None when the URI carries none."""

    repo_id: str
    revision: str | None

    def uri(self, revision: str | None) -> str:
        """The same repository at another revision, as a URI."""
        return f"hf://{self.repo_id}" + (f":{revision}" if revision else "")


def parse_hub_uri(uri: str) -> HubModel | None:
    """Read `hf://owner/model[:revision]` (KServe splits at the first `:`); None for others."""
    normalised = normalise(uri)
    if not normalised.startswith("hf://"):
        return None
    repo_id, colon, revision = normalised.removeprefix("hf://").partition(":")
    if not _HF_REPO.fullmatch(repo_id) or (colon and not revision):
        return None
    return HubModel(repo_id, revision or None)


def subpath_below(entry_uri: str, uri: str) -> str | None:
    """The path of `uri` below an entry's URI: empty if equal, None if it is not below.

    Both are compared normalised, at a `/` boundary. A path that no manifest can hold (`..`, `//`)
    is not below anything.
    """
    parent, child = normalise(entry_uri), normalise(uri)
    if parent == child:
        return ""
    if not is_tree(parent) or not child.startswith(parent + "/"):
        return None
    subpath = child.removeprefix(parent + "/")
    return None if path_fault(subpath) else subpath


def entry_uri_fault(uri: str) -> str | None:
    """What makes a URI unfit for the catalog, as one clause, or None."""
    scheme = scheme_of(uri)
    if is_unresolved(uri) or _UNPRINTED.search(uri):
        return "holds white space, a control character or '$('"
    if len(uri) > MAX_URI_CHARACTERS:
        return f"is too long; accepted: up to {MAX_URI_CHARACTERS} characters"
    if scheme not in CACHEABLE_SCHEMES:
        named = f"scheme {scheme!r}" if scheme else "a URI without scheme"
        return f"{named} cannot be cached; accepted: {', '.join(CACHEABLE_SCHEMES)}"
    if scheme == "hf":
        model = parse_hub_uri(uri)
        if model is None:
            return "names no model; accepted: hf://OWNER/MODEL"
        if model.revision:
            return "carries a revision; give it as 'revision' instead"
        return None
    return _place_fault(uri, scheme)


def _place_fault(uri: str, scheme: str) -> str | None:
    """What is wrong with the URI of a bucket or host and a path in it."""
    place, _, path = uri.partition("://")[2].partition("/")
    path = path.removesuffix("/")
    if "?" in uri or "#" in uri or "@" in place:  # may be secret: never quoted
        return "carries a user, query or fragment; credentials go to 'credentials'"
    if scheme == "https" and (endpoint_fault(f"https://{place}") or not path):
        return "names no file on a host; accepted: https://HOST/PATH"
    if scheme == "https" and _FOREIGN_FILES.fullmatch(normalise(uri)):
        return "names a git repository or a file share; accepted: a single file or an Azure blob"
    if scheme == "https" and not is_archive(uri) and _REPACKED.fullmatch(normalise(uri)):
        return (
            f"is repacked by KServe in a way that cannot be cached; accepted: {', '.join(ARCHIVES)}"
        )
    if scheme != "https" and not _BUCKET.fullmatch(place):
        return f"names no bucket; accepted: {scheme}://BUCKET/PATH"
    fault = path_fault(path) if path else None
    return f"is unfit: {fault}" if fault else None


def normalise_endpoint(endpoint: str) -> str:
    """An endpoint as it is compared: scheme and host lower-cased, default port and `/` dropped.

    What is no URL stays as it is: it equals nothing that an entry says.
    """
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return endpoint
    host = parts.netloc.lower()
    if default_port := {"http": ":80", "https": ":443"}.get(parts.scheme.lower()):
        host = host.removesuffix(default_port)
    return f"{parts.scheme.lower()}://{host}{parts.path.rstrip('/')}"


def endpoint_fault(endpoint: str) -> str | None:
    """What makes a text unfit to be an endpoint URL, as one clause, or None."""
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError:
        return "is not a URL; accepted: http://HOST or https://HOST"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "is not a URL; accepted: http://HOST or https://HOST"
    if parts.query or parts.fragment or "@" in parts.netloc:
        return "carries a user, query or fragment; credentials go to 'credentials'"
    return "holds white space or a control character" if _UNPRINTED.search(endpoint) else None
