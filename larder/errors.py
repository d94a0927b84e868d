"""Larder's errors: one class a fault, one sentence a user can act on.

Foreign exceptions are translated once, in the adapter that met them, with `from` kept. A
`TransientError` is tried again; a `PermanentError` needs somebody to change something first (it is
tried again all the same, rarely). `reason` is what status, metrics and events show
(design: reasons of a failed fill).
"""

from larder.contract import FillFailure


class LarderError(Exception):
    """Base of every error that Larder raises on purpose; `str()` is one sentence for a user."""


class CatalogError(LarderError):
    """A catalog that cannot be used. `problems` holds every mistake found, in document order."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class CacheRootError(LarderError):
    """The cache root cannot be used: not a directory, read-only, foreign, newer, or held."""


class FillError(LarderError):
    """A fill that ended without a model; `reason` says why, from a closed list."""

    def __init__(self, reason: FillFailure, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TransientError(FillError):
    """Worth another try. `retry_after_seconds` is the source's own wish, where it named one."""

    def __init__(
        self, reason: FillFailure, message: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(reason, message)
        self.retry_after_seconds = retry_after_seconds


class PermanentError(FillError):
    """Will fail again until the catalog, a credential or the source changes."""


class SourceUnavailableError(TransientError):
    """The source did not answer, answered 5xx or 429, or broke off."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(FillFailure.SOURCE_UNAVAILABLE, message, retry_after_seconds)


class StalledError(TransientError):
    """No byte arrived for longer than the stall limit."""

    def __init__(self, message: str) -> None:
        super().__init__(FillFailure.STALLED, message)


class IntegrityError(TransientError):
    """Bytes differ from what the source said. Transient: another copy may be right."""

    def __init__(self, path: str, expected: str, observed: str) -> None:
        super().__init__(
            FillFailure.INTEGRITY_MISMATCH, f"{path}: expected {expected}, got {observed}"
        )
        self.expected = expected
        self.observed = observed


class DiskFullError(TransientError):
    """The filesystem ran out of room although it was reserved (somebody else writes there)."""

    def __init__(self, message: str) -> None:
        super().__init__(FillFailure.DISK_FULL, message)


class AccessDeniedError(PermanentError):
    """The source refuses the credentials, or wants some."""

    def __init__(self, message: str) -> None:
        super().__init__(FillFailure.ACCESS_DENIED, message)


class ModelNotFoundError(PermanentError):
    """The source knows no such model, revision or file."""

    def __init__(self, message: str) -> None:
        super().__init__(FillFailure.MODEL_NOT_FOUND, message)


class SourceDriftedError(PermanentError):
    """What the source serves is not what it listed at that revision, or cannot be kept safely."""

    def __init__(self, message: str) -> None:
        super().__init__(FillFailure.SOURCE_DRIFTED, message)


class BudgetExceededError(PermanentError):
    """The model is larger than it may be (`maxSize`, or the node's whole budget)."""

    def __init__(self, message: str) -> None:
        super().__init__(FillFailure.BUDGET_EXCEEDED, message)
