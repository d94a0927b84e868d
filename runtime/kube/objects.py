"""Objects of the API stay JSON, read by name; fields we do not know are none of our business."""

from typing import Any

KubeObject = dict[str, Any]
ObjectName = tuple[str, str]  # namespace ("" for cluster-wide kinds), name


def name_of(content: KubeObject) -> ObjectName:
    """Namespace and name of an object."""
    metadata = content["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def labels_only(content: KubeObject) -> KubeObject:
    """What a mirror compares, and the labels: annotations are often many times as large."""
    kept = ("namespace", "name", "uid", "resourceVersion", "labels")
    metadata = content["metadata"]
    return {"metadata": {field: metadata[field] for field in kept if field in metadata}}


def without_managed_fields(content: KubeObject) -> KubeObject:
    """The same object less what only the API server needs, half of its size. Changes `content`."""
    content["metadata"].pop("managedFields", None)
    return content
