"""What can go wrong between us and the API server: a small closed family, one sentence each.

A sentence names the request (method and path, never its query) and what came of it. Neither the
bodies of answers nor tokens are ever part of it. Trying again is the caller's decision;
`UnavailableError` is what is worth it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from kubernetes.client.exceptions import ApiException
from urllib3 import exceptions as urllib3

from larder.errors import LarderError

_ALREADY_EXISTS: Final = "AlreadyExists"  # the status' reason, the one we tell apart


class KubeError(LarderError):
    """Base of everything that the API server, or the way to it, refuses."""


class KubeConfigError(KubeError):
    """Nothing says where the API server is, or what says it cannot be used."""


class NotFoundError(KubeError):
    """404: no such object, or no such resource."""


class ConflictError(KubeError):
    """409: somebody else changed the object since it was read."""


class AlreadyExistsError(ConflictError):
    """409 on a create: somebody else was first."""


class GoneError(KubeError):
    """410: the resource version or continue token is too old. Routine: list again."""


class UnauthorizedError(KubeError):
    """401: the token is not accepted, the one read anew neither."""


class ForbiddenError(KubeError):
    """403: no permission, or an admission policy said no."""


class InvalidError(KubeError):
    """400, 422 and other refusals that will be the same the next time."""


class UnavailableError(KubeError):
    """No answer, a broken one, 429 or 5xx. `retry_after_seconds` is the server's wish, if any."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class LostPlaceError(UnavailableError):
    """A watch that cannot go on from where it was: it fell silent, or what came is no event."""


def error_of(
    what: str, code: int, *, reason: str = "", retry_after_seconds: float | None = None
) -> KubeError:
    """The error for an HTTP status, or for the status object of a watch; `what` is the request."""
    match code:
        case 401:
            return UnauthorizedError(f"{what}: our credentials are not accepted")
        case 403:
            return ForbiddenError(f"{what}: not allowed")
        case 404:
            return NotFoundError(f"{what}: not found")
        case 409 if reason == _ALREADY_EXISTS:
            return AlreadyExistsError(f"{what}: exists already")
        case 409:
            return ConflictError(f"{what}: was changed by somebody else")
        case 410:
            return GoneError(f"{what}: the resource version is too old")
        case 408 | 429:
            return UnavailableError(f"{what}: answered {code}", retry_after_seconds)
        case _ if 400 <= code < 500:  # noqa: PLR2004 - the range of client errors
            return InvalidError(f"{what}: refused with {code}")
        case _:
            return UnavailableError(f"{what}: answered {code}", retry_after_seconds)


@contextmanager
def translated(what: str) -> Generator[None]:
    """Turn the faults of the HTTP library into `UnavailableError`."""
    try:
        yield
    except (urllib3.HTTPError, ApiException, OSError) as error:
        raise UnavailableError(f"{what}: {_fault(error)}") from error


def _fault(error: Exception) -> str:
    match error:
        case urllib3.ReadTimeoutError():
            return "no answer in time"
        case urllib3.NewConnectionError() | urllib3.ConnectTimeoutError():
            return "the API server cannot be reached"
        case urllib3.ProxyError():
            return "the proxy on the way to the API server fails"
        case urllib3.SSLError() | ApiException():  # the latter is how the package hands it on
            return "no TLS connection could be made"
        case _:
            return "the connection broke"
