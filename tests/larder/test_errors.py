"""Errors carry a reason from the closed list, and say whether trying again can help."""

import pytest

from larder import errors
from larder.contract import FillFailure
from larder.errors import CatalogError, FillError, LarderError, PermanentError, TransientError


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (errors.SourceUnavailableError("x", 3.0), TransientError, FillFailure.SOURCE_UNAVAILABLE),
        (errors.StalledError("x"), TransientError, FillFailure.STALLED),
        (errors.DiskFullError("x"), TransientError, FillFailure.DISK_FULL),
        (errors.IntegrityError("x", "a", "b"), TransientError, FillFailure.INTEGRITY_MISMATCH),
        (errors.AccessDeniedError("x"), PermanentError, FillFailure.ACCESS_DENIED),
        (errors.ModelNotFoundError("x"), PermanentError, FillFailure.MODEL_NOT_FOUND),
        (errors.SourceDriftedError("x"), PermanentError, FillFailure.SOURCE_DRIFTED),
        (errors.BudgetExceededError("x"), PermanentError, FillFailure.BUDGET_EXCEEDED),
    ],
)
def test_a_fault_has_its_reason(error: FillError, kind: type, reason: FillFailure) -> None:
    assert isinstance(error, kind)
    assert isinstance(error, LarderError)
    assert error.reason is reason
    assert "x" in str(error)


def test_a_source_may_say_when_to_come_back() -> None:
    assert errors.SourceUnavailableError("x", 3.0).retry_after_seconds == 3.0
    assert errors.StalledError("x").retry_after_seconds is None


def test_differing_bytes_name_file_and_both_digests() -> None:
    error = errors.IntegrityError("a/b", "aaa", "bbb")

    assert (str(error), error.expected, error.observed) == (
        "a/b: expected aaa, got bbb",
        "aaa",
        "bbb",
    )


def test_a_catalog_error_holds_every_problem() -> None:
    error = CatalogError(("one", "two"))

    assert (str(error), error.problems) == ("one; two", ("one", "two"))
