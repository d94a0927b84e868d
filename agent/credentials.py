"""Tokens, read from where the catalog says at the moment a fill starts, and handed on in memory."""

import os
from pathlib import Path
from typing import Protocol

from larder.catalog import ModelEntry
from larder.errors import AccessDeniedError

_TOKEN_MAX_BYTES = 16 * 1024


class Tokens(Protocol):
    """Where the tokens of entries are."""

    def token_of(self, entry: ModelEntry) -> str | None:
        """The token for an entry, or None if it names no place that is known here.

        Raises a `FillError` when the place is named and nothing usable is there. The sentence
        names the place, never its content.
        """


class LocalTokens:
    """Files and variables of the agent, as standalone catalogs name them."""

    def token_of(self, entry: ModelEntry) -> str | None:
        """The token for an entry. Raises `AccessDeniedError`."""
        credentials = entry.credentials
        if credentials is None:
            return None
        if credentials.token_env:
            place = f"variable {credentials.token_env}"
            token = os.environ.get(credentials.token_env)
        elif credentials.token_file:
            place, token = f"file {credentials.token_file}", _read(Path(credentials.token_file))
        else:
            return None
        token = (token or "").strip()
        if not token or not token.isascii() or not token.isprintable():
            raise AccessDeniedError(
                f"model {entry.name!r}: credentials: {place} holds no token;"
                " accepted: one line of text"
            )
        return token


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_TOKEN_MAX_BYTES).decode("ascii", "replace")
    except OSError:
        return None
