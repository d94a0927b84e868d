"""JSON Patch (RFC 6902) built operation by operation, and applied without copying the document.

Only `add`, `replace`, `remove` and `test` exist here. Applying copies what lies on the way to a
change, each part once, and shares everything else with the original, which is never touched.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from webhook.mutation.raw import Json, JsonObject, object_of

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_Copies = dict[int, Json]
"""What was copied, by its identity; kept, so that nothing else gets that identity."""


class PatchError(ValueError):
    """An operation that does not fit the document; `str()` says which and why."""


class Operation(NamedTuple):
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
    copies: _Copies = {}
    for operation in operations:
        names = _names(operation.path)
        if not names:
            document = _whole(document, operation)
            continue
        document = node = _own(document, copies)
        last = names.pop()
        for name in names:
            node = _own_part(node, name, operation, copies)
        _change_part(node, last, operation)
    return document


def _names(path: str) -> list[str]:
    names = path.split("/")[1:]
    if "~" not in path:
        return names
    return [name.replace("~1", "/").replace("~0", "~") for name in names]


def _whole(document: Json, operation: Operation) -> Json:
    match operation.op:
        case "add" | "replace":
            return operation.value
        case "test":
            return _tested(document, operation)
        case "remove":
            raise PatchError("remove needs a path below the document")


def _own(node: Json, copies: _Copies) -> Json:
    """A node that may be changed in place: the copy, if there is none yet."""
    if id(node) in copies or not isinstance(node, (dict, list)):
        return node
    copy = node.copy()
    copies[id(copy)] = copy
    return copy


def _own_part(node: Json, name: str, operation: Operation, copies: _Copies) -> Json:
    """What has a name inside a node that may be changed, itself ready to be changed."""
    if isinstance(node, dict):
        node[name] = part = _own(_member(node, name, operation), copies)
        return part
    if isinstance(node, list):
        i = _index(name, len(node) - 1, operation)
        node[i] = part = _own(node[i], copies)
        return part
    raise _misplaced(name, operation)


def _change_part(node: Json, name: str, operation: Operation) -> None:
    if isinstance(node, dict):
        _change_member(node, name, operation)
    elif isinstance(node, list):
        _change_item(node, name, operation)
    else:
        raise _misplaced(name, operation)


def _misplaced(name: str, operation: Operation) -> PatchError:
    at = f"{operation.op} {operation.path}"
    return PatchError(f"{at}: {name!r} is not inside a list or object")


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
