"""What an API server and a tenant's neighbours demand of an answer; shares no code with Larder."""

import base64
import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

import jsonpatch

Json = Any

LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SLOT: Final = re.compile(r"/var/lib/larder/slots/([0-9a-f]{16})(/content)?")
CLAIM: Final = re.compile(r"larder-([0-9a-f]{16})(-content)?")
OPERATIONS: Final = {"add", "replace", "remove", "test"}


class BrokenAnswerError(AssertionError):
    """An answer that must not be given."""


def demand(truth: object, sentence: str) -> None:
    if not truth:
        raise BrokenAnswerError(sentence)


def patched_pod(review: Json, status: int, body: bytes) -> Json | None:
    """The pod that an answer makes, None if it changes nothing. Raises `BrokenAnswerError`."""
    answer = json.loads(body)
    demand(status in {200, 400}, f"status {status}")
    if status == 400:
        demand(set(answer) == {"error"} and "\n" not in answer["error"], "400 needs one sentence")
        return None
    response = answer["response"]
    demand(response["allowed"] is True, "not allowed")
    demand(response["uid"] == review["request"]["uid"], "another uid")
    if "patch" not in response:
        demand(set(response) == {"uid", "allowed"}, "a no tells something")
        return None
    demand(response["patchType"] == "JSONPatch", "no patchType")
    patch = json.loads(base64.b64decode(response["patch"]))
    demand({operation["op"] for operation in patch} <= OPERATIONS, "an operation of another kind")
    return jsonpatch.apply_patch(review["request"]["object"], patch)


def judge(before: Json, after: Json, keys: Collection[str]) -> None:
    """A patched pod is as valid as it was, and mounts no slot but those its namespace may have."""
    faults = set(pod_faults(after)) - set(pod_faults(before))
    demand(not faults, f"the patch makes an invalid pod: {sorted(faults)}")
    for volume in after["spec"]["volumes"]:
        if not isinstance(volume, dict) or volume in before["spec"]["volumes"]:
            continue
        key = slot_of(volume)
        demand(key in keys, f"slot {key} is not for this namespace")
        demand(volume["name"] == f"larder-{key}", "a volume of another name")
        for mount in mounts_of(after, volume["name"]):
            demand(mount["readOnly"] is True and "subPath" not in mount, f"mounted as {mount}")


def slot_of(volume: Json) -> str:
    """The slot that a volume shows. Raises `BrokenAnswerError`."""
    claim = volume.get("persistentVolumeClaim")
    if claim is None:
        found = SLOT.fullmatch(volume["hostPath"]["path"])
        said = volume["hostPath"]["path"]
    else:
        found = CLAIM.fullmatch(claim["claimName"])
        said = claim
        demand(claim.get("readOnly") is True, f"claim {said} to write")
    demand(found, f"a new volume of {said}")
    return str(found and found[1])


def mounts_of(pod: Json, name: str) -> Iterator[Json]:
    for container in containers(pod):
        mounts = container.get("volumeMounts")
        for mount in mounts if isinstance(mounts, list) else ():
            if isinstance(mount, dict) and mount.get("name") == name:
                yield mount


def containers(pod: Json) -> Iterator[Json]:
    for kind in ("initContainers", "containers"):
        found = pod["spec"].get(kind)
        yield from (c for c in (found if isinstance(found, list) else ()) if isinstance(c, dict))


def pod_faults(pod: Json) -> Iterator[str]:
    """What makes a pod invalid in the parts that a patch touches."""
    volumes = pod["spec"].get("volumes")
    names = [v.get("name") if isinstance(v, dict) else None for v in volumes or ()]
    yield from name_faults("volume", names)
    for volume in volumes or ():
        if isinstance(volume, dict) and len(volume) != 2:
            yield f"volume {volume.get('name')} has not one source"
    yield from name_faults("container", [c.get("name") for c in containers(pod)])
    for container in containers(pod):
        yield from mount_faults(container, names)
        yield from variable_faults(container)


def name_faults(kind: str, names: list[Json]) -> Iterator[str]:
    for i, name in enumerate(names):
        if not isinstance(name, str) or not LABEL.fullmatch(name) or len(name) > 63:
            yield f"{kind} {name!r} has no valid name"
        if name in names[:i]:
            yield f"{kind} {name!r} is there twice"


def mount_faults(container: Json, volumes: list[Json]) -> Iterator[str]:
    found = container.get("volumeMounts")
    paths = []
    for mount in found if isinstance(found, list) else ():
        if not isinstance(mount, dict) or mount.get("name") not in volumes:
            yield f"container {container.get('name')!r} mounts {mount!r} of no volume"
            continue
        paths.append(mount.get("mountPath"))
    for path in paths:
        if paths.count(path) > 1 or not isinstance(path, str) or not path:
            yield f"container {container.get('name')!r} has no single mount at {path!r}"


def variable_faults(container: Json) -> Iterator[str]:
    found = container.get("env")
    for variable in found if isinstance(found, list) else ():
        if not isinstance(variable, dict) or not variable.get("name"):
            yield f"container {container.get('name')!r} has the variable {variable!r}"
