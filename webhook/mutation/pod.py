"""A pod read once, whatever its shape.

The raw JSON stays what it is; positions are kept (a container knows its JSON pointer) because
operations name them, but things are found by name, never by position. What a pod has dozens of is
a named tuple: making a frozen dataclass takes five times as long.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from webhook.mutation.raw import Json, list_of, object_of, text_of

PathParts = tuple[str, ...]
_LONGEST_KNOWN_PATH: Final = 256  # what is remembered is bounded in number and size


def path_parts(path: str) -> PathParts:
    """A path inside a container as names from the root; `.`, `..` and `//` are resolved."""
    return _known_parts(path) if len(path) <= _LONGEST_KNOWN_PATH else _parts(path)


def _parts(path: str) -> PathParts:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return tuple(parts)


_known_parts = lru_cache(maxsize=1024)(_parts)  # pods of one kind repeat theirs


def is_below(path: PathParts, parent: PathParts) -> bool:
    """Whether a path is the parent or below it."""
    return path[: len(parent)] == parent


class Mount(NamedTuple):
    """One of a container's volume mounts."""

    raw: Json
    volume: str
    path: PathParts

    @property
    def is_read_only(self) -> bool:
        """Whether the container cannot write through it."""
        return object_of(self.raw).get("readOnly") is True

    @property
    def has_subpath(self) -> bool:
        """Whether only a part of the volume is mounted."""
        raw = object_of(self.raw)
        return bool(raw.get("subPath") or raw.get("subPathExpr"))


class Container(NamedTuple):
    """A container or init container, and where it stands in the pod."""

    at: str
    raw: Mapping[str, Json]
    name: str
    mounts: tuple[Mount, ...]

    @property
    def variables(self) -> Mapping[str, Mapping[str, Json]]:
        """Its environment's entries by name; of several with one name the last, as it is at run."""
        entries = [object_of(entry) for entry in list_of(self.raw.get("env"))]
        return {text_of(entry.get("name")): entry for entry in entries}


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod read once. `init_containers` and `containers` leave out what is no object."""

    labels: Mapping[str, Json]
    annotations: Mapping[str, Json]
    raw_annotations: Json
    spec: Mapping[str, Json]
    init_containers: tuple[Container, ...]
    containers: tuple[Container, ...]

    @property
    def all_containers(self) -> tuple[Container, ...]:
        """Init containers, then containers."""
        return self.init_containers + self.containers

    @property
    def volumes(self) -> list[Json]:
        """The pod's volumes as they stand."""
        return list_of(self.spec.get("volumes"))

    def volumes_named(self, name: str) -> list[Mapping[str, Json]]:
        """The volumes of a name: one in every pod that an API server accepts."""
        volumes = [object_of(v) for v in self.volumes]
        return [v for v in volumes if v.get("name") == name]


def read_pod(raw: Json) -> Pod:
    """Read a pod of any shape."""
    metadata = object_of(object_of(raw).get("metadata"))
    spec = object_of(object_of(raw).get("spec"))
    return Pod(
        labels=object_of(metadata.get("labels")),
        annotations=object_of(metadata.get("annotations")),
        raw_annotations=metadata.get("annotations"),
        spec=spec,
        init_containers=tuple(_containers(spec, "initContainers")),
        containers=tuple(_containers(spec, "containers")),
    )


def _containers(spec: Mapping[str, Json], kind: str) -> Iterator[Container]:
    for i, raw in enumerate(list_of(spec.get(kind))):
        if isinstance(raw, dict):
            yield Container(
                at=f"/spec/{kind}/{i}",
                raw=raw,
                name=text_of(raw.get("name")),
                mounts=tuple(map(_mount, list_of(raw.get("volumeMounts")))),
            )


def _mount(raw: Json) -> Mount:
    fields = object_of(raw)
    path = path_parts(text_of(fields.get("mountPath")))
    return Mount(raw, text_of(fields.get("name")), path)
