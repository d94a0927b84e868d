"""Secrets, read from where the catalog says when a fill starts, and handed on in memory."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from agent.sources.secret import (
    HF_TOKEN,
    HTTPS_HEADERS,
    HTTPS_HOST,
    IDENTITIES,
    IDENTITY_PLACES,
    NO_SECRET,
    Secret,
)
from larder.catalog import ModelEntry
from larder.errors import AccessDeniedError
from larder.storage_uri import host_of, is_tree, scheme_of

_SECRET_MAX_BYTES = 64 * 1024


class Secrets(Protocol):
    """Where the secrets of entries are."""

    def secret_of(self, entry: ModelEntry) -> Secret:
        """What an entry may prove itself with: nothing, if it names no place that is known here.

        Raises a `FillError` when the place is named and nothing usable is there. The sentence
        names the place, never its content.
        """


class LocalSecrets:
    """Files and variables of the agent, as standalone catalogs name them."""

    def secret_of(self, entry: ModelEntry) -> Secret:
        """What the file or variable holds. Raises `AccessDeniedError`."""
        credentials = entry.credentials
        if credentials is None:
            return NO_SECRET
        if credentials.workload_identity:
            return agent_identity(entry, os.environ)
        if credentials.token_env:
            place = f"variable {credentials.token_env}"
            text = os.environ.get(credentials.token_env)
        elif credentials.token_file:
            place, text = f"file {credentials.token_file}", _read(Path(credentials.token_file))
        else:
            return NO_SECRET
        secret = _secret(entry, (text or "").strip())
        if not secret.data or secret.missing_key(entry.storage_uri):
            raise AccessDeniedError(
                f"model {entry.name!r}: credentials: {place} holds no token;"
                f" accepted: {_accepted(entry.storage_uri)}"
            )
        return secret


def agent_identity(entry: ModelEntry, variables: Mapping[str, str]) -> Secret:
    """What the agent is at the cloud of an entry that wants that used.

    Raises `AccessDeniedError` if it is nothing there.
    """
    ways = IDENTITIES[scheme_of(entry.storage_uri)]
    for way in ways:
        if all(variables.get(name) for name in way):
            names = (*way, *IDENTITY_PLACES)
            return Secret(identity={n: variables[n] for n in names if variables.get(n)})
    accepted = ", or ".join(" and ".join(way) for way in ways)
    raise AccessDeniedError(
        f"model {entry.name!r}: credentials: the agent has no identity for its source;"
        f" accepted: the variables {accepted}"
    )


def _secret(entry: ModelEntry, text: str) -> Secret:
    """A token, or the keys of a Secret as one JSON object, for schemes that need several."""
    match scheme_of(entry.storage_uri):
        case "hf":
            return Secret({HF_TOKEN: text})
        case "https" if not is_tree(entry.storage_uri):
            headers = json.dumps({"Authorization": f"Bearer {text}"}) if text else ""
            return Secret(
                {HTTPS_HOST: host_of(entry.fetch_from or entry.storage_uri), HTTPS_HEADERS: headers}
            )
        case _:
            return _of_json(text)


def _of_json(text: str) -> Secret:
    try:
        keys = json.loads(text)
    except ValueError:
        return NO_SECRET
    is_flat = isinstance(keys, dict) and all(isinstance(value, str) for value in keys.values())
    return Secret(keys) if is_flat else NO_SECRET


def _accepted(storage_uri: str) -> str:
    if not is_tree(storage_uri):
        return "one line of text"
    return "a JSON object with the keys of KServe's Secret"


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_SECRET_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
