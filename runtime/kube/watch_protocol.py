"""What a watch asks for, and what its lines mean. Pure: bytes in, values out.

An error comes as a line of its own, under HTTP 200; 410 among them is routine (an API server that
restarted no longer knows our resource version).
"""

from dataclasses import dataclass

import orjson

from runtime.kube.errors import LostPlaceError, error_of
from runtime.kube.mirror import Change
from runtime.kube.objects import KubeObject, ObjectName, name_of


@dataclass(frozen=True, slots=True)
class Target:
    """The collection that a watch follows, and which part of it."""

    path: str
    field_selector: str = ""
    label_selector: str = ""
    metadata_only: bool = False

    @property
    def selectors(self) -> list[tuple[str, str]]:
        """As parameters of a request."""
        given = [("fieldSelector", self.field_selector), ("labelSelector", self.label_selector)]
        return [(name, value) for name, value in given if value]

    def __str__(self) -> str:
        return " ".join([self.path, *(f"{name}={value}" for name, value in self.selectors)])


@dataclass(frozen=True, slots=True)
class Event:
    """One line: the place in the stream after it, and what changed (a bookmark changes nothing)."""

    resource_version: str
    change: Change | None


def read_event(line: bytes, what: str) -> Event:
    """Read a line of a watch.

    Raises the error that an ERROR line tells; `LostPlaceError` for a line that is no event.
    """
    try:
        event = orjson.loads(line)
        kind, content = event["type"], event["object"]
        if kind == "ERROR":
            raise error_of(what, int(content["code"]), reason=str(content.get("reason", "")))
        resource_version = content["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return Event(str(resource_version), None)
        name = name_of(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LostPlaceError(f"{what}: a line is no event") from error
    return Event(str(resource_version), _change(kind, name, content))


def _change(kind: str, name: ObjectName, content: KubeObject) -> Change | None:
    match kind:
        case "ADDED" | "MODIFIED":
            return Change(name, content)
        case "DELETED":
            return Change(name, None)
        case _:
            return None
