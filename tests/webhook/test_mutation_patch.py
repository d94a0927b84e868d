"""JSON Patch: our small implementation against the library's, and the pointers."""

import copy
from typing import Any

import jsonpatch
import jsonpointer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.mutation import Operation, PatchError, apply_patch
from webhook.mutation.patch import append, pointer

DOCUMENT: Any = {"a": {"b": [1, {"c": 2}, 3]}, "x/y": 1, "m~n": 2, "~1": 3, "": 4}


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(Operation("add", "/new", [1]), id="add a member"),
        pytest.param(Operation("add", "/a", 1), id="add over a member"),
        pytest.param(Operation("add", "/a/b/-", 4), id="append an item"),
        pytest.param(Operation("add", "/a/b/0", 0), id="insert an item"),
        pytest.param(Operation("add", "/a/b/3", 4), id="insert an item at the end"),
        pytest.param(Operation("add", "/a/b/1/d", 4), id="add below a list"),
        pytest.param(Operation("add", "", {"whole": 1}), id="add the document"),
        pytest.param(Operation("replace", "/a/b/1/c", None), id="replace a member"),
        pytest.param(Operation("replace", "/a/b/2", "z"), id="replace an item"),
        pytest.param(Operation("replace", "", []), id="replace the document"),
        pytest.param(Operation("remove", "/x~1y"), id="remove a member with a slash"),
        pytest.param(Operation("remove", "/m~0n"), id="remove a member with a tilde"),
        pytest.param(Operation("remove", "/~01"), id="remove a member with an escape's look"),
        pytest.param(Operation("remove", "/"), id="remove the member without a name"),
        pytest.param(Operation("remove", "/a/b/0"), id="remove an item"),
        pytest.param(Operation("test", "/a/b/0", 1), id="test an item"),
        pytest.param(Operation("test", "/a/b/1", {"c": 2}), id="test a member"),
        pytest.param(Operation("test", "/x~1y", 1), id="test a member with a slash"),
        pytest.param(Operation("test", "", DOCUMENT), id="test the document"),
    ],
)
def test_an_operation_does_what_the_library_does(operation: Operation) -> None:
    before = copy.deepcopy(DOCUMENT)
    expected = jsonpatch.apply_patch(DOCUMENT, [operation.as_json()])
    assert apply_patch(DOCUMENT, [operation]) == expected
    assert before == DOCUMENT


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(Operation("replace", "/none", 1), id="replace what is not there"),
        pytest.param(Operation("remove", "/none"), id="remove what is not there"),
        pytest.param(Operation("add", "/none/x", 1), id="add below what is not there"),
        pytest.param(Operation("add", "/a/b/4", 1), id="insert past the end"),
        pytest.param(Operation("replace", "/a/b/3", 1), id="replace past the end"),
        pytest.param(Operation("remove", "/a/b/-"), id="remove the item after the last"),
        pytest.param(Operation("add", "/a/b/01", 1), id="an index with a leading zero"),
        pytest.param(Operation("add", "/a/b/x", 1), id="an index that is no number"),
        pytest.param(Operation("add", "/a/b/5/x", 1), id="add below an item that is not there"),
        pytest.param(Operation("add", "/x~1y/z", 1), id="add below a number"),
        pytest.param(Operation("add", "/x~1y/z/w", 1), id="add deep below a number"),
        pytest.param(Operation("test", "/a/b/0", 2), id="test another value"),
        pytest.param(Operation("test", "", {}), id="test another document"),
        pytest.param(Operation("test", "/none", None), id="test what is not there"),
        pytest.param(Operation("remove", ""), id="remove the document"),
    ],
)
def test_an_operation_that_does_not_fit_is_refused(operation: Operation) -> None:
    before = copy.deepcopy(DOCUMENT)
    with pytest.raises(PatchError, match=f"^{operation.op} {operation.path}"):
        apply_patch(DOCUMENT, [operation])
    assert before == DOCUMENT


def test_what_does_not_change_is_shared() -> None:
    after: Any = apply_patch(DOCUMENT, [Operation("add", "/a/new", 1)])
    assert after["a"]["b"] is DOCUMENT["a"]["b"]
    assert after["a"] is not DOCUMENT["a"]


def test_operations_build_on_each_other_and_stay_as_they_are() -> None:
    added: Any = {"list": []}
    operations = [
        Operation("add", "/a/new", added),
        Operation("add", "/a/new/list/-", 1),
        Operation("add", "/again", added),
        Operation("remove", "/a/b"),
    ]
    after: Any = apply_patch(DOCUMENT, operations)
    assert (after["a"], after["again"]) == ({"new": {"list": [1]}}, {"list": []})
    assert added == {"list": []}
    assert "b" in DOCUMENT["a"]


@given(st.lists(st.text()))
def test_a_pointer_is_read_as_it_was_written(names: list[str]) -> None:
    assert jsonpointer.JsonPointer(pointer(*names)).parts == names


def test_remove_carries_no_value() -> None:
    assert Operation("remove", "/a").as_json() == {"op": "remove", "path": "/a"}
    assert Operation("add", "/a", None).as_json() == {"op": "add", "path": "/a", "value": None}


def test_appending_makes_the_list_if_there_is_none() -> None:
    assert append("/l", None, [1, 2]) == [Operation("add", "/l", [1, 2])]
    assert append("/l", [0], [1, 2]) == [Operation("add", "/l/-", 1), Operation("add", "/l/-", 2)]
    assert append("/l", None, []) == []
