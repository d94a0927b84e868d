"""What it means when a hub says no: HTTP status and the hub's error code, as our errors.

One table for its API and for its files (library facts A1). A hub answers 401 for a model that does
not exist, too, unless the asker is known: the code tells which, and `GatedRepo` comes first.
Sentences name the model, never a URL.
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent.sources.web import retry_after_seconds
from larder.errors import (
    AccessDeniedError,
    FillError,
    ModelNotFoundError,
    SourceUnavailableError,
)
from runtime.clock import Clock

_FIRST_CLIENT_ERROR = 400


@dataclass(frozen=True, slots=True)
class Asked:
    """What a hub was asked: of whom, for which model, with a token or without."""

    host: str
    repo_id: str
    has_token: bool
    clock: Clock


def refusal(asked: Asked, status: int, header: Callable[[str], str | None]) -> FillError | None:
    """The error that an answer of the hub's own origin means; None for one that is none."""
    if status < _FIRST_CLIENT_ERROR:
        return None
    repo_id = asked.repo_id
    match status, header("X-Error-Code"):
        case ((401 | 403), "GatedRepo"):
            return AccessDeniedError(
                f"{repo_id} is gated: "
                + (
                    "the token's owner was not granted access"
                    if asked.has_token
                    else "give a token"
                )
            )
        case ((401 | 404), "RepoNotFound"):
            return ModelNotFoundError(
                f"{asked.host} knows no model {repo_id}"
                + ("" if status == 404 else " (one that is private needs a token)")  # noqa: PLR2004 - HTTP's
            )
        case _, "RevisionNotFound":
            return ModelNotFoundError(f"{asked.host} knows no such revision of {repo_id}")
        case 401, _:
            fault = "refuses the token" if asked.has_token else "wants a token"
            return AccessDeniedError(f"{asked.host} {fault} for {repo_id}")
        case 403, _:
            return AccessDeniedError(f"{asked.host} denies access to {repo_id}")
        case 404, _:
            return ModelNotFoundError(f"{asked.host} does not have what was asked of {repo_id}")
        case _:
            return unavailable(asked, status, header)


def unavailable(
    asked: Asked, status: int, header: Callable[[str], str | None]
) -> SourceUnavailableError:
    """The error for an answer that says: not now."""
    seconds = retry_after_seconds(header("Retry-After"), header("RateLimit"), asked.clock)
    return SourceUnavailableError(
        f"{asked.host} answers HTTP {status} for {asked.repo_id}", seconds
    )
