"""What the pod's initializer says about where its models come from.

The same URI names other bytes at another endpoint or with other patterns, so what a variable says
must agree with the catalog (`larder.matching`). What cannot be read here is unknown, never assumed:
a value from a Secret or ConfigMap, anything of `envFrom`, a storage spec (fact T17), a value the
kubelet would expand, and a host that the pod's DNS search path would complete.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import orjson

from larder.matching import UNKNOWN, Hearsay, SourceView
from larder.storage_uri import endpoint_fault, normalise_endpoint
from webhook.mutation.pod import Container
from webhook.mutation.raw import Json, text_of

_Variables = Mapping[str, Mapping[str, Json]]

_STORAGE_SPEC: Final = "STORAGE_CONFIG"
_ENDPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "hf": ("HF_ENDPOINT",),
    "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT"),
    "gs": ("STORAGE_EMULATOR_HOST",),
}
"""The variables that the clients of a scheme take an endpoint from; botocore reads the second."""
_ALLOW: Final = "STORAGE_ALLOW_PATTERNS"
_IGNORE: Final = "STORAGE_IGNORE_PATTERNS"
_READ: Final = frozenset({_STORAGE_SPEC, _ALLOW, _IGNORE}.union(*_ENDPOINTS.values()))
_SAYS_NOTHING: Final = SourceView()


def source_view(initializer: Container, scheme: str) -> SourceView:
    """What the initializer would see for URIs of a scheme."""
    if initializer.raw.get("envFrom"):
        return SourceView(UNKNOWN, UNKNOWN, UNKNOWN)
    variables = initializer.variables
    if _READ.isdisjoint(variables):
        return _SAYS_NOTHING
    return SourceView(
        endpoint=UNKNOWN if _STORAGE_SPEC in variables else _endpoint(variables, scheme),
        allow_patterns=_patterns(_said(variables, _ALLOW)),
        ignore_patterns=_patterns(_said(variables, _IGNORE)),
    )


def _said(variables: _Variables, name: str) -> str | Hearsay | None:
    """A variable's value; None if it is absent or empty, which clients take alike."""
    entry = variables.get(name)
    if entry is None:
        return None
    value = entry.get("value")
    is_readable = entry.get("valueFrom") is None and (value is None or isinstance(value, str))
    if not is_readable or "$" in text_of(value):
        return UNKNOWN
    return text_of(value).strip() or None


def _endpoint(variables: _Variables, scheme: str) -> str | Hearsay | None:
    """The endpoint that all of a scheme's variables name; unknown if they differ."""
    named = {_url(_named(variables, name)) for name in _ENDPOINTS.get(scheme, ())} - {None}
    if not named:
        return None
    return named.pop() if len(named) == 1 else UNKNOWN


def _named(variables: _Variables, name: str) -> str | Hearsay | None:
    """What a variable names; `S3_ENDPOINT` comes without scheme, another variable gives it."""
    said = _said(variables, name)
    if name != "S3_ENDPOINT" or said is None or isinstance(said, Hearsay) or "://" in said:
        return said
    match _said(variables, "S3_USE_HTTPS"):
        case Hearsay():
            return UNKNOWN
        case "0" | "false":
            return f"http://{said}"
        case _:
            return f"https://{said}"


def _url(said: str | Hearsay | None) -> str | Hearsay | None:
    """A URL that means one place, whoever resolves it."""
    if said is None or isinstance(said, Hearsay):
        return said
    if endpoint_fault(said):
        return UNKNOWN
    host = urlsplit(said).hostname or ""
    return normalise_endpoint(said) if "." in host or ":" in host else UNKNOWN


def _patterns(said: str | Hearsay | None) -> tuple[str, ...] | Hearsay | None:
    """Patterns as KServe reads them: a JSON list, or texts between commas."""
    if said is None or isinstance(said, Hearsay):
        return said
    try:
        listed = orjson.loads(said)
    except ValueError:
        listed = said.split(",")
    if not isinstance(listed, list) or not all(isinstance(p, str) for p in listed):
        return UNKNOWN
    return tuple(p.strip() for p in listed if p.strip())
