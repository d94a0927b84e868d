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
_AZURE_BLOB = re.compile(r"https://[^/]+\.blob\.core\.[^/]+/[^/]+(/.*)?")
_UNRESOLVED = re.compile(r"[\x00-\x1f\x7f]|\$\(")

CACHEABLE_SCHEMES: Final = ("hf", "s3", "gs", "https")
TREE_SCHEMES: Final = frozenset({"s3", "gs"})  # a URI below an entry's URI is a part of it

DEFAULT_ENDPOINTS: Final[Mapping[str, str]] = {
    "hf": "https://huggingface.co",
    "s3": "https://s3.amazonaws.com",
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


def is_unresolved(uri: str) -> bool:
    """Whether a URI holds a control character or a `$(` that the kubelet would expand."""
    return _UNRESOLVED.search(uri) is not None


def is_tree(uri: str) -> bool:
    """Whether URIs below this one are parts of it (object stores), rather than other models."""
    return scheme_of(uri) in TREE_SCHEMES or _AZURE_BLOB.fullmatch(normalise(uri)) is not None


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
    if is_unresolved(uri) or " " in uri:
        return "holds white space, a control character or '$('"
    if scheme not in CACHEABLE_SCHEMES:
        named = f"scheme {scheme!r}" if scheme else "a URI without scheme"
        return f"{named} cannot be cached; accepted: {', '.join(CACHEABLE_SCHEMES)}"
    if scheme == "hf":
        model = parse_hub_uri(uri)
        if model is None:
            return "is not hf://OWNER/MODEL"
        if model.revision:
            return "carries a revision; give it as 'revision' instead"
        return None
    parts = urlsplit(uri)
    if not parts.netloc:
        return f"names no {'host' if scheme == 'https' else 'bucket'}"
    if parts.query or parts.fragment or "@" in parts.netloc:
        return "carries a user, query or fragment; credentials go to 'credentials'"
    path = normalise(uri).split("://", 1)[1].partition("/")[2]
    fault = path_fault(path) if path else None
    return fault.replace("path ", "has a path that is unfit: ", 1) if fault else None


def normalise_endpoint(endpoint: str) -> str:
    """An endpoint as it is compared: scheme and host lower-cased, default port and `/` dropped."""
    parts = urlsplit(endpoint)
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
        return "is not a URL"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "is not an http:// or https:// URL"
    if parts.query or parts.fragment or "@" in parts.netloc:
        return "carries a user, query or fragment"
    return "holds white space" if re.search(r"\s", endpoint) else None
