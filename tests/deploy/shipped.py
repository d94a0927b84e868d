"""What `deploy/` holds, read file by file.

base/programs  components/rbac   the install:  INSTALLED
components/*   overlays/*        what is added to it:  objects_of(folder)
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from larder.contract import SYSTEM_NAMESPACE

DEPLOY = Path(__file__).parents[2] / "deploy"
KUSTOMIZATIONS = sorted(DEPLOY.rglob("kustomization.yaml"))

Object = dict[str, Any]


def documents(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def kustomization(folder: Path) -> Object:
    (content,) = documents(folder / "kustomization.yaml")
    return content


def objects_of(folder: Path) -> list[Object]:
    """The objects of a folder's own files."""
    files = [folder / name for name in kustomization(folder).get("resources", ())]
    return [content for path in files if path.is_file() for content in documents(path)]


INSTALLED = [*objects_of(DEPLOY / "base/programs"), *objects_of(DEPLOY / "components/rbac")]


def only(
    kind: str,
    name: str,
    namespace: str | None = SYSTEM_NAMESPACE,
    among: Iterable[Object] = INSTALLED,
) -> Object:
    """The one object of a kind and name."""
    (found,) = [
        o
        for o in among
        if (o["kind"], o["metadata"]["name"], o["metadata"].get("namespace"))
        == (kind, name, namespace)
    ]
    return found


def pod_of(workload: Object) -> tuple[Object, Object]:
    """The pod that a workload makes, and its one container."""
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container
