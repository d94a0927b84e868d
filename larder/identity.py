"""The identity of cached bytes, and the key made from it.

Identity is a text: the storage URI, then for each part that is given a line, in this order:
`endpoint=…`, `revision=…`, `allow=<JSON>`, `ignore=<JSON>`. The key is the first 16 hex digits of
its SHA-256: for a bare URI the same as KServe's own local model cache (facts 2.4). A change of any
part is another key: a slot is written once.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from larder.layout import Key
from larder.storage_uri import DEFAULT_ENDPOINTS, normalise, normalise_endpoint, scheme_of

_KEY_HEX_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """Which bytes a slot holds. Build it with `identity_of`, which normalises."""

    storage_uri: str
    endpoint: str | None = None
    revision: str | None = None
    allow_patterns: tuple[str, ...] = ()
    ignore_patterns: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is hashed. Patterns are JSON without spaces, in the order they were given."""
        lines = [self.storage_uri]
        if self.endpoint:
            lines.append(f"endpoint={self.endpoint}")
        if self.revision:
            lines.append(f"revision={self.revision}")
        for word, patterns in (("allow", self.allow_patterns), ("ignore", self.ignore_patterns)):
            if patterns:
                text = json.dumps(patterns, ensure_ascii=False, separators=(",", ":"))
                lines.append(f"{word}={text}")
        return "\n".join(lines)

    @property
    def key(self) -> Key:
        """The name of the slot."""
        return Key(hashlib.sha256(self.text.encode()).hexdigest()[:_KEY_HEX_DIGITS])


def identity_of(
    storage_uri: str,
    *,
    endpoint: str | None = None,
    revision: str | None = None,
    allow_patterns: Sequence[str] = (),
    ignore_patterns: Sequence[str] = (),
) -> Identity:
    """The identity of what a URI names; an endpoint that is the scheme's default is left out."""
    if endpoint is not None:
        endpoint = normalise_endpoint(endpoint)
        if endpoint == DEFAULT_ENDPOINTS.get(scheme_of(storage_uri)):
            endpoint = None
    return Identity(
        normalise(storage_uri), endpoint, revision, tuple(allow_patterns), tuple(ignore_patterns)
    )
