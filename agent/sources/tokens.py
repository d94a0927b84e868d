"""Access tokens of OAuth 2.0, for the stores that take those: asked for once a child.

What an authority answers is no part of a sentence: it may repeat what it was sent.
"""

import json
from collections.abc import Mapping
from typing import Final

from agent.sources.web import Web, retry_after_seconds
from larder.errors import AccessDeniedError, SourceUnavailableError
from runtime.clock import Clock

_ANSWER_MAX_BYTES: Final = 64 * 1024
_REFUSALS: Final = frozenset({400, 401, 403})


def access_token(url: str, fields: Mapping[str, str], web: Web, clock: Clock) -> str:
    """The token that an authority gives for a form. Raises `FillError`s."""
    with web.post(url, fields) as answer:
        host = answer.origin.host
        if answer.status in _REFUSALS:
            raise AccessDeniedError(f"{host} gives no token for the credentials")
        if not answer.is_success:
            wish = retry_after_seconds(answer.header("Retry-After"), None, clock)
            raise SourceUnavailableError(f"{host} answers HTTP {answer.status} for a token", wish)
        text = answer.text(_ANSWER_MAX_BYTES)
    try:
        token = json.loads(text)["access_token"]
    except (ValueError, KeyError, TypeError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise SourceUnavailableError(f"{host} answers what is no token")
    return token
