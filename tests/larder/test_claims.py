"""What the claims are called, and which of them a pod may be given."""

from pathlib import PurePosixPath
from typing import Any

import pytest

from larder.claims import (
    LABELS,
    RETIRING_ANNOTATION,
    Claim,
    claim_named,
    claim_of_volume,
    is_usable,
    retiring_since,
)
from larder.layout import Key

KEY = Key("0123456789abcdef")
ROOT = PurePosixPath("/var/lib/larder")
SLOT, CONTENT = Claim("chat", KEY), Claim("chat", KEY, is_content=True)


def content(**changes: Any) -> dict[str, Any]:
    """A claim of ours as the API server has it, Bound."""
    metadata = {"namespace": "chat", "name": SLOT.name, "labels": dict(LABELS)}
    spec = {"accessModes": ["ReadOnlyMany"], "volumeName": SLOT.volume_name}
    status = {"phase": "Bound"}
    return {
        "metadata": metadata | changes.get("metadata", {}),
        "spec": spec | changes.get("spec", {}),
        "status": status | changes.get("status", {}),
    }


def test_names_say_namespace_and_key() -> None:
    assert (SLOT.name, SLOT.volume_name) == (f"larder-{KEY}", f"larder-chat-{KEY}")
    assert CONTENT.name == f"larder-{KEY}-content"
    assert CONTENT.volume_name == f"larder-chat-{KEY}-content"


def test_a_claim_shows_one_slot_or_its_content_and_nothing_beside_it() -> None:
    assert str(SLOT.path(ROOT)) == f"/var/lib/larder/slots/{KEY}"
    assert str(CONTENT.path(ROOT)) == f"/var/lib/larder/slots/{KEY}/content"


@pytest.mark.parametrize(
    "claim",
    [SLOT, CONTENT, Claim("a-0123456789abcdef", KEY), Claim("n" * 63, KEY, is_content=True)],
)
def test_names_lead_back_to_the_claim(claim: Claim) -> None:
    assert claim_named(claim.namespace, claim.name) == claim
    assert claim_of_volume(claim.volume_name) == claim
    assert len(claim.volume_name) <= 253


@pytest.mark.parametrize(
    "name",
    ["larder", f"larder-{KEY}x", f"larder-{KEY}-tree", f"larder-{KEY.upper()}", f"{KEY}", "data"],
)
def test_other_names_are_nobodys_claims(name: str) -> None:
    assert claim_named("chat", name) is None


@pytest.mark.parametrize("name", ["larder", f"larder-{KEY}", "pvc-1", f"larder-chat-{KEY}-tree"])
def test_other_names_are_nobodys_volumes(name: str) -> None:
    assert claim_of_volume(name) is None


def test_a_claim_that_is_bound_and_stays_is_usable() -> None:
    assert is_usable(content())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": {"phase": "Pending"}}, id="not bound yet"),
        pytest.param({"status": {"phase": "Lost"}}, id="lost its volume"),
        pytest.param({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, id="terminating"),
        pytest.param(
            {"metadata": {"annotations": {RETIRING_ANNOTATION: "2026-01-01T00:00:00Z"}}},
            id="on its way out",
        ),
        pytest.param({"metadata": {"labels": {}}}, id="not made by the controller"),
        pytest.param({"metadata": {"labels": None}}, id="without labels"),
        pytest.param({"metadata": {"name": "data"}}, id="of another name"),
        pytest.param({"spec": {"volumeName": "pvc-1"}}, id="a tenant's own volume"),
        pytest.param({"spec": {"volumeName": f"larder-other-{KEY}"}}, id="another namespace's"),
        pytest.param({"spec": {"accessModes": ["ReadWriteMany"]}}, id="writable"),
    ],
)
def test_any_other_claim_is_not(changes: dict[str, Any]) -> None:
    assert not is_usable(content(**changes))


def test_a_claim_without_spec_or_status_is_not() -> None:
    assert not is_usable({"metadata": content()["metadata"]})
    assert not is_usable({**content(), "status": None})


@pytest.mark.parametrize(
    ("annotations", "since"),
    [
        (None, None),
        ({}, None),
        ({RETIRING_ANNOTATION: "1970-01-01T00:01:00Z"}, 60.0),
        ({RETIRING_ANNOTATION: "soon"}, 0.0),
    ],
)
def test_the_mark_says_since_when(annotations: Any, since: float | None) -> None:
    assert retiring_since(content(metadata={"annotations": annotations})) == since
