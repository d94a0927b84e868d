"""What is known, and when that is enough to be asked."""

from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest

from larder.layout import Key
from larder.matching import CatalogIndex
from webhook.mutation import View, VolumeMode
from webhook.state import State

ROOT = PurePosixPath("/r")
Labels = Mapping[str, str]


@pytest.mark.parametrize(
    ("namespaces", "labels"),
    [
        pytest.param(None, None, id="no namespace is known yet"),
        pytest.param({}, None, id="there is no cluster"),
        pytest.param({"search": {"a": "b"}}, None, id="this one is not known yet"),
        pytest.param({"chat": {}}, {}, id="it has none"),
        pytest.param({"search": {}, "chat": {"a": "b"}}, {"a": "b"}, id="it has some"),
    ],
)
def test_a_view_has_the_labels_of_its_namespace(
    namespaces: Mapping[str, Labels] | None, labels: Labels | None, view: View
) -> None:
    state = State(ROOT, VolumeMode.BY_NAMESPACE, view.index, namespaces)
    assert state.view_of("chat") == View(view.index, ROOT, VolumeMode.BY_NAMESPACE, labels)


@pytest.mark.parametrize(
    ("has_catalog", "namespaces", "is_stopping", "fault"),
    [
        pytest.param(False, None, False, "no good catalog was loaded yet", id="at the start"),
        pytest.param(False, {}, False, "no good catalog was loaded yet", id="without a catalog"),
        pytest.param(
            True, None, False, "the namespaces were not listed yet", id="without namespaces"
        ),
        pytest.param(True, {}, False, None, id="with all that it needs"),
        pytest.param(True, {}, True, "stopping", id="at the end"),
    ],
)
def test_it_is_ready_when_it_has_what_it_decides_by(
    *,
    has_catalog: bool,
    namespaces: Mapping[str, Labels] | None,
    is_stopping: bool,
    fault: str | None,
    view: View,
) -> None:
    index: CatalogIndex | None = view.index if has_catalog else None
    state = State(ROOT, VolumeMode.HOST_PATH, index, namespaces, is_stopping=is_stopping)
    assert state.readiness_fault == fault


@pytest.mark.parametrize(
    ("known", "asked", "answered"),
    [
        pytest.param("", "", True, id="without a cluster the plain path"),
        pytest.param("", "x", False, id="without a cluster no other"),
        pytest.param("0123abcd", "0123abcd", True, id="in a cluster the one that is kept"),
        pytest.param("0123abcd", "0123abce", False, id="in a cluster no other"),
        pytest.param("0123abcd", "", False, id="in a cluster not the plain one"),
        pytest.param("0123abcd", "\u00e9", False, id="in a cluster none that is no ASCII"),
        pytest.param(None, "", False, id="none while it is not known"),
    ],
)
def test_reviews_are_answered_at_the_admission_path(
    *, known: str | None, asked: str, answered: bool
) -> None:
    state = State(ROOT, VolumeMode.HOST_PATH, admission_path=known)
    assert state.is_admission_path(asked) is answered


def test_without_certificates_it_is_not_ready(view: View) -> None:
    state = State(ROOT, VolumeMode.BY_NAMESPACE, view.index, {}, admission_path=None)
    assert state.readiness_fault == "the certificates were not read yet"


def test_a_view_has_the_models_that_some_node_has_ready(view: View) -> None:
    state = State(ROOT, VolumeMode.HOST_PATH, view.index, ready=frozenset({Key("0" * 16)}))
    assert state.view_of("chat").ready == {"0" * 16}
