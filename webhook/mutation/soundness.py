"""What an API server would refuse in a pod, looked for before it does.

`failurePolicy: Ignore` saves a pod from a webhook that fails, not from a patch that is wrong: that
pod is refused.
"""

import re
from collections.abc import Iterator, Mapping
from types import NoneType

from webhook.mutation.raw import Json, list_of, object_of, text_of

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123


def soundness_fault(pod: Json) -> str | None:
    """The first thing about volumes, containers and mounts that makes a pod invalid, or None."""
    return next(_faults(pod), None)


def _faults(pod: Json) -> Iterator[str]:
    spec = object_of(object_of(pod).get("spec"))
    metadata = object_of(object_of(pod).get("metadata"))
    if not isinstance(metadata.get("annotations"), (dict, NoneType)):
        yield "its annotations are no object"
    if not isinstance(spec.get("affinity"), (dict, NoneType)):
        yield "its affinity is no object"
    yield from _list_faults(spec, "volumes")
    volumes = [object_of(v).get("name") for v in list_of(spec.get("volumes"))]
    containers = [
        object_of(c) for kind in ("initContainers", "containers") for c in list_of(spec.get(kind))
    ]
    yield from _name_faults("volume", volumes)
    yield from _name_faults("container", [c.get("name") for c in containers])
    known = frozenset(name for name in volumes if isinstance(name, str))
    for container in containers:
        yield from _list_faults(container, "env", "volumeMounts")
        mounts = [object_of(m) for m in list_of(container.get("volumeMounts"))]
        if not known.issuperset([text_of(m.get("name")) for m in mounts]):
            yield "a mount of a container has no volume"
        yield from _twice("mount path", [m.get("mountPath") for m in mounts])


def _list_faults(parent: Mapping[str, Json], *names: str) -> Iterator[str]:
    for name in names:
        if not isinstance(parent.get(name), (list, NoneType)):
            yield f"its {name} is no list"


def _name_faults(kind: str, names: list[Json]) -> Iterator[str]:
    for name in names:
        if not isinstance(name, str) or not _DNS_LABEL.fullmatch(name):
            yield f"a {kind}'s name is no DNS label"
    yield from _twice(f"{kind} name", names)


def _twice(kind: str, names: list[Json]) -> Iterator[str]:
    texts = [name for name in names if isinstance(name, str)]
    if len(set(texts)) < len(texts):
        yield f"a {kind} is there twice"
