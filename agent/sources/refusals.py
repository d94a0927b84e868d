"""What it means when a server of files says no: its HTTP status, as our errors.

For sources that are no hub (`hf_refusals` knows that one's codes). Sentences name the host and
what was asked for, never a URL.
"""

from dataclasses import dataclass

from agent.sources.web import Answer, Origin, retry_after_seconds
from larder.errors import (
    AccessDeniedError,
    FillError,
    ModelNotFoundError,
    SourceUnavailableError,
)
from runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Asked:
    """Who was asked, for what, with credentials or without."""

    origin: Origin
    what: str
    has_secret: bool
    clock: Clock


def refusal(asked: Asked, answer: Answer, code: str = "") -> FillError:
    """The error that an answer without the bytes means. `code` is the server's own word for it."""
    host, what = asked.origin.host, asked.what + (f" ({code})" if code else "")
    if answer.origin == asked.origin:
        match answer.status:
            case 401:
                fault = "refuses the credentials" if asked.has_secret else "wants credentials"
                return AccessDeniedError(f"{host} {fault} for {what}")
            case 403:
                how = "" if asked.has_secret else " without credentials"
                return AccessDeniedError(f"{host} denies access to {what}{how}")
            case 404 | 410:
                return ModelNotFoundError(f"{host} does not have {what}")
            case _:
                pass
    # Of another origin: a link that a redirect gave, say, and that is too old by now.
    seconds = retry_after_seconds(answer.header("Retry-After"), None, asked.clock)
    return SourceUnavailableError(
        f"{answer.origin.host} answers HTTP {answer.status} for {what}", seconds
    )
