"""What InferenceServices and LLMInferenceServices ask for, as far as KServe is there.

Discovery says which of the two the cluster has, and in which version; each is watched from then
on. Where KServe is not installed there are no services, which is not the same as unknown ones.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from controller.planning.wanted import Uris, spec_of, uris_in
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError, NotFoundError
from runtime.kube.objects import KubeObject
from runtime.kube.paths import collection_path
from runtime.kube.watch import Surroundings, Watch
from runtime.kube.watch_protocol import Target
from runtime.logs import get_logger

GROUP: Final = "serving.kserve.io"
PLURALS: Final = ("inferenceservices", "llminferenceservices")
LOOK_SECONDS: Final = 30.0  # between two looks for what may be installed later
RETRY_SECONDS: Final = 5.0
_KEPT: Final = ("namespace", "name", "uid", "resourceVersion")
_log = get_logger()


class Services:
    """Watches what is there; `look` again finds what came later. One thread calls it."""

    def __init__(
        self, client: KubeClient, around: Surroundings, wake: Callable[[], object]
    ) -> None:
        self._client = client
        self._around = around
        self._wake = wake
        self._watches: dict[str, Watch] = {}
        self._is_known = False
        self._due_at = float("-inf")
        self._complaint = ""

    def look(self) -> None:
        """Ask which kinds of services the cluster has, until all are watched."""
        now = self._around.clock.monotonic()
        if len(self._watches) == len(PLURALS) or now < self._due_at:
            return
        self._due_at = now + LOOK_SECONDS
        try:
            versions = service_versions(self._client)
        except KubeError as error:
            if str(error) != self._complaint:
                _log.warning("services unknown", error=str(error))
            self._complaint = str(error)
            self._due_at = now + RETRY_SECONDS
            return
        self._complaint, self._is_known = "", True
        for plural, version in versions.items():
            if plural not in self._watches:
                target = Target(collection_path(f"{GROUP}/{version}", plural))
                watch = Watch(target, self._around, self._wake, keep=uris_only)
                self._watches[plural] = watch
                watch.start()

    def versions(self) -> tuple[int, ...]:
        """Numbers that change whenever `uris` may."""
        return tuple(watch.mirror.snapshot.version for watch in self._watches.values())

    def uris(self) -> Mapping[str, Uris] | None:
        """What the services of each namespace say; None while that is unknown."""
        snapshots = [watch.mirror.snapshot for watch in self._watches.values()]
        if not self._is_known or not all(snapshot.is_known for snapshot in snapshots):
            return None
        return uris_by_namespace(c for snapshot in snapshots for c in snapshot.objects.values())

    def close(self) -> None:
        """End the watches."""
        for watch in self._watches.values():
            watch.close()


def service_versions(client: KubeClient) -> Mapping[str, str]:
    """The preferred version of each kind of service that is served; empty without KServe."""
    try:
        group = client.get(f"/apis/{GROUP}")
    except NotFoundError:
        return {}
    found: dict[str, str] = {}
    for each in group.get("versions") or ():
        for resource in client.get(f"/apis/{each['groupVersion']}").get("resources", ()):
            if resource["name"] in PLURALS:
                found.setdefault(resource["name"], each["version"])
    return found


def uris_only(content: KubeObject) -> KubeObject:
    """What a mirror compares, and the URIs of a service: the rest is many times as large."""
    metadata = content["metadata"]
    kept = {field: metadata[field] for field in _KEPT if field in metadata}
    return {"metadata": kept, "uris": uris_in(spec_of(content))}


def uris_by_namespace(services: Iterable[KubeObject]) -> Mapping[str, Uris]:
    """The URIs of services (`uris_only` of each) by their namespace."""
    found: dict[str, set[str]] = {}
    for service in services:
        found.setdefault(service["metadata"]["namespace"], set()).update(service["uris"])
    return {namespace: frozenset(uris) for namespace, uris in found.items()}
