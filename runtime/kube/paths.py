"""Paths of collections and objects in the Kubernetes API.

Names come from outside: one that would lead elsewhere is refused before it becomes part of a path.
"""

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def collection_path(group_version: str, plural: str, *, namespace: str | None = None) -> str:
    """Of all objects of a kind, in one namespace or (None) all of them, or of a cluster-wide kind.

    `group_version` is "v1" or "group/version". Raises ValueError for a name that is none.
    """
    root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
    if namespace is None:
        return f"{root}/{plural}"
    return f"{root}/namespaces/{_checked(namespace)}/{plural}"


def object_path(group_version: str, plural: str, name: str, *, namespace: str | None = None) -> str:
    """Of one object. Raises ValueError for a name that is none."""
    return f"{collection_path(group_version, plural, namespace=namespace)}/{_checked(name)}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a Kubernetes object")
    return name
