"""JSON Patch (RFC 6902) built operation by operation, and applied without copying the document.

Only `add`, `replace`, `remove` and `test` exist here. Applying copies what lies on the way to a
change and shares everything else with the original, which is never touched.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from webhook.mutation.raw import Json, JsonObject, object_of

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class PatchError(ValueError):
    """An operation that does not fit the document; `str()` says which and why."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a patch; `path` is a JSON pointer. `value` means nothing to `remove`."""

    op: Literal["add", "replace", "remove", "test"]
    path: str
    value: Json = None

    def as_json(self) -> JsonObject:
        """The operation as it is sent."""
        if self.op == "remove":
            return {"op": self.op, "path": self.path}
        return {"op": self.op, "path": self.path, "value": self.value}


def pointer(*names: str) -> str:
    """A JSON pointer (RFC 6901) to a value by the names on the way."""
    return "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in names)


def append(at: str, existing: Json, values: list[Json]) -> list[Operation]:
    """Operations that append to the list at a pointer, which is made if there is none."""
    if not values:
        return []
    if existing is None:
        return [Operation("add", at, values)]
    return [Operation("add", f"{at}/-", value) for value in values]


def set_members(at: str, existing: Json, wanted: JsonObject) -> list[Operation]:
    """Operations that give the object at a pointer its members; it is made if there is none."""
    if existing is None:
        return [Operation("add", at, wanted)]
    there = object_of(existing)
    return [
        Operation("add", at + pointer(name), value)
        for name, value in wanted.items()
        if there.get(name) != value
    ]


def apply_patch(document: Json, operations: Iterable[Operation]) -> Json:
    """The document after a patch. Raises `PatchError`; the original stays as it is."""
    for operation in operations:
        names = [
            part.replace("~1", "/").replace("~0", "~") for part in operation.path.split("/")[1:]
        ]
        document = _changed(document, names, operation) if names else _whole(document, operation)
    return document


def _whole(document: Json, operation: Operation) -> Json:
    match operation.op:
        case "add" | "replace":
            return operation.value
        case "test":
            return _tested(document, operation)
        case "remove":
            raise PatchError("remove needs a path below the document")


def _changed(node: Json, names: list[str], operation: Operation) -> Json:
    """A copy of a node in which the value that the names lead to is changed."""
    name, below = names[0], names[1:]
    if isinstance(node, dict):
        members = dict(node)
        if below:
            members[name] = _changed(_member(node, name, operation), below, operation)
        else:
            _change_member(members, name, operation)
        return members
    if isinstance(node, list):
        items = list(node)
        if below:
            i = _index(name, len(items) - 1, operation)
            items[i] = _changed(items[i], below, operation)
        else:
            _change_item(items, name, operation)
        return items
    raise PatchError(f"{operation.op} {operation.path}: {name!r} is not inside a list or object")


def _member(node: JsonObject, name: str, operation: Operation) -> Json:
    if name not in node:
        raise PatchError(f"{operation.op} {operation.path}: there is no {name!r}")
    return node[name]


def _change_member(members: JsonObject, name: str, operation: Operation) -> None:
    if operation.op != "add":
        _member(members, name, operation)
    match operation.op:
        case "add" | "replace":
            members[name] = operation.value
        case "remove":
            del members[name]
        case "test":
            _tested(members[name], operation)


def _change_item(items: list[Json], name: str, operation: Operation) -> None:
    if operation.op == "add":
        i = len(items) if name == "-" else _index(name, len(items), operation)
        items.insert(i, operation.value)
        return
    i = _index(name, len(items) - 1, operation)
    match operation.op:
        case "replace":
            items[i] = operation.value
        case "remove":
            del items[i]
        case "test":
            _tested(items[i], operation)


def _index(name: str, highest: int, operation: Operation) -> int:
    if not _INDEX.fullmatch(name) or int(name) > highest:
        raise PatchError(f"{operation.op} {operation.path}: there is no item {name!r}")
    return int(name)


def _tested(value: Json, operation: Operation) -> Json:
    if value != operation.value:
        raise PatchError(f"test {operation.path}: the value is another")
    return value
