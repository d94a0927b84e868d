"""Raw JSON and the accessors it is read through; none of them raises.

What has another type than Kubernetes gives it reads as absent.
"""

from collections.abc import Mapping
from typing import Final

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
JsonObject = dict[str, Json]

_NOTHING: Final[Mapping[str, Json]] = {}


def object_of(value: Json) -> Mapping[str, Json]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def list_of(value: Json) -> list[Json]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text_of(value: Json) -> str:
    """The value if it is text, else an empty one."""
    return value if isinstance(value, str) else ""
