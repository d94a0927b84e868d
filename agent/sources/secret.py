"""What a source may prove itself with: a Secret, in the shape in which KServe takes it.

Keys and annotations are KServe's, so that the Secret which an initializer would have been given
serves here unchanged. Each source reads its own keys and ignores the others. Values of `data` are
never shown; annotations are settings, not secrets. `identity` are the variables of the agent that
say what it is at its cloud, for entries that want that used: places of tokens, no token.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from larder.storage_uri import is_tree, scheme_of

HF_TOKEN: Final = "HF_TOKEN"  # noqa: S105 - a key's name
HTTPS_HOST: Final = "https-host"
HTTPS_HEADERS: Final = "headers"
ANNOTATIONS: Final = "serving.kserve.io/"
IDENTITIES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "s3": (
        ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    ),
    "gs": ((),),  # the metadata server is where it always is
    "https": (("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"),),
}
"""By scheme, the variables of the agent that say what it is at its cloud: one line of them."""
IDENTITY_PLACES: Final = (
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_STS"),
    *("GCE_METADATA_HOST", "AZURE_AUTHORITY_HOST"),
)
"""Variables that say where that is shown."""
_NEEDED: Final = {"hf": (HF_TOKEN,), "https": (HTTPS_HOST, HTTPS_HEADERS)}
_WORD: Final = re.compile(r"[^\s\"',:;{}]{8,}")  # shorter ones would mask ordinary speech


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret's data, decoded, and its annotations of KServe without their prefix."""

    data: Mapping[str, str] = field(default_factory=dict, repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, str] | None = None

    def line(self, *names: str) -> str | None:
        """The first of these keys that holds one line of printable ASCII, or None."""
        for name in names:
            value = self.data.get(name, "").strip()
            if value and value.isascii() and value.isprintable():
                return value
        return None

    def missing_key(self, storage_uri: str) -> str | None:
        """A key that the URI's scheme cannot do without and that holds no line of text."""
        for name in () if is_tree(storage_uri) else _NEEDED.get(scheme_of(storage_uri), ()):
            given = self.data.get(name, "").strip() if name == HTTPS_HEADERS else self.line(name)
            if not given:
                return name
        return None

    def hidden_in(self, text: str) -> str:
        """A text from outside with no secret in it: a source may send back what it was sent."""
        for name, value in self.data.items():
            if name != HTTPS_HOST:
                for word in _WORD.findall(value):
                    text = text.replace(word, "***")
        return text


NO_SECRET: Final = Secret()
