"""Carries a plan out: several claims at once, each one's steps in their order.

Rules: before every request the Lease is asked; what is changed or deleted is the very object that
the plan saw; a refusal is one step's and its namespace's, not the plan's; an API server that does
not answer ends the plan, and the next one starts from what is there.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import Final

from controller.cluster import VOLUMES
from controller.memory import Expectations, Refusals, Versions
from controller.metrics import Metrics
from controller.planning.leadership import REQUEST_TIMEOUT
from controller.planning.manifests import claim_manifest, mark_patch, volume_manifest
from controller.planning.plan import (
    Action,
    DeleteClaim,
    DeleteVolume,
    MakeClaim,
    MakeVolume,
    MarkClaim,
    Plan,
)
from controller.planning.seen import Version, seen_claim, seen_volume
from larder.claims import Claim
from runtime.kube.client import MERGE_PATCH, KubeClient
from runtime.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
)
from runtime.kube.objects import KubeObject
from runtime.kube.paths import collection_path, object_path
from runtime.logs import get_logger

MAX_CLAIMS: Final = 500  # in one plan: then policies and pods are looked at anew
_log = get_logger()

Refused = Callable[[Claim, str], object]


@dataclass(frozen=True, slots=True)
class Tools:
    """What the executor works with. `may_write` is asked before each request.

    `versions` is what the watches show of a claim; `on_refusal` hears of a claim's first one.
    """

    client: KubeClient
    cache_root: PurePosixPath
    writers: int
    may_write: Callable[[], bool]
    versions: Versions
    refusals: Refusals
    expectations: Expectations
    metrics: Metrics
    on_refusal: Refused


class Executor:
    """Executes plans. An API server that failed is told of by `execute`'s answer."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._broken = threading.Event()

    def execute(self, plan: Plan) -> bool:
        """Do what can be done now; whether the API server was there to the end."""
        self._broken.clear()
        of_claims = [list(steps) for _, steps in groupby(plan.actions, key=lambda a: a.claim)]
        if of_claims:
            with ThreadPoolExecutor(self._tools.writers, "write") as pool:
                list(pool.map(self._steps, of_claims[:MAX_CLAIMS]))
        return not self._broken.is_set()

    def _steps(self, actions: Iterable[Action]) -> None:
        for action in actions:
            is_refused = isinstance(action, MakeVolume | MakeClaim) and (
                self._tools.refusals.holds(action.claim)
            )
            if self._broken.is_set() or is_refused or not self._tools.may_write():
                return
            if not self._step(action):
                return

    def _step(self, action: Action) -> bool:
        """Try one step; whether the claim's next one may follow."""
        tools, before = self._tools, self._tools.versions(action.claim)
        result = "failed"
        try:
            self._do(action)
            result = "done"
        except AlreadyExistsError as error:
            if not self._is_ours(action):
                result = "refused"
                self._refused(action, action.claim, error)
        except (ConflictError, NotFoundError):
            pass  # the watches are behind
        except (ForbiddenError, InvalidError) as error:
            result = "refused"
            self._refused(action, action.claim.namespace, error)
            return self._count(action, result)
        except KubeError as error:
            if not self._broken.is_set():
                _log.warning("plan broken off", error=str(error))
            self._broken.set()
            return self._count(action, result)
        is_volume = isinstance(action, MakeVolume | DeleteVolume)
        tools.expectations.add(action.claim, before, is_volume=is_volume)
        return self._count(action, result)

    def _count(self, action: Action, result: str) -> bool:
        self._tools.metrics.writes.labels(type(action).__name__, result).inc()
        if result == "done":
            log = _log.info if isinstance(action, DeleteClaim) else _log.debug
            log("step done", step=type(action).__name__, **_named(action.claim))
        if isinstance(action, MakeClaim) and result == "done":
            self._tools.refusals.clear(action.claim)
        return result == "done"

    def _refused(self, action: Action, what: Claim | str, error: KubeError) -> None:
        is_first = self._tools.refusals.add(what)
        log = _log.warning if is_first else _log.debug
        log("claim refused", error=str(error), **_named(action.claim))
        if is_first:
            self._tools.on_refusal(action.claim, str(error))

    def _is_ours(self, action: Action) -> bool:
        """Whether what is there already is what we would make; else it is somebody else's."""
        try:
            if isinstance(action, MakeVolume):
                there: object = seen_volume(self._get(_volume_path(action.claim)))
            else:
                there = seen_claim(self._get(_claim_path(action.claim)))
        except NotFoundError:
            return True
        return there is not None

    def _do(self, action: Action) -> None:
        match action:
            case MakeVolume(claim, claim_uid):
                self._send(
                    "POST", VOLUMES, volume_manifest(claim, self._tools.cache_root, claim_uid)
                )
            case MakeClaim(claim):
                path = collection_path("v1", "persistentvolumeclaims", namespace=claim.namespace)
                self._send("POST", path, claim_manifest(claim))
            case MarkClaim(claim, version, since):
                patch = mark_patch(version.resource_version, since)
                self._send("PATCH", _claim_path(claim), patch, MERGE_PATCH)
            case DeleteClaim(claim, version):
                self._send("DELETE", _claim_path(claim), _exactly(version))
            case DeleteVolume(claim, version, claim_uid):
                if self._is_bound(claim, claim_uid):
                    raise ConflictError(f"volume {claim.volume_name}: its claim is there")
                self._send("DELETE", _volume_path(claim), _exactly(version))

    def _is_bound(self, claim: Claim, claim_uid: str) -> bool:
        """Whether the claim that a volume is bound to is there after all, or one that will be."""
        try:
            there = self._get(_claim_path(claim))
        except NotFoundError:
            return False
        is_other = bool(claim_uid) and there["metadata"]["uid"] != claim_uid
        return not is_other and (bool(claim_uid) or seen_claim(there) is not None)

    def _get(self, path: str) -> KubeObject:
        return self._tools.client.get(path, timeout=REQUEST_TIMEOUT)

    def _send(
        self, method: str, path: str, body: KubeObject, content_type: str | None = None
    ) -> None:
        self._tools.client.request(
            method, path, body=body, content_type=content_type, timeout=REQUEST_TIMEOUT
        )


def _exactly(version: Version) -> KubeObject:
    """DeleteOptions for an object as it was seen."""
    return {
        "preconditions": {"uid": version.uid, "resourceVersion": version.resource_version},
    }


def _claim_path(claim: Claim) -> str:
    return object_path("v1", "persistentvolumeclaims", claim.name, namespace=claim.namespace)


def _volume_path(claim: Claim) -> str:
    return f"{VOLUMES}/{claim.volume_name}"


def _named(claim: Claim) -> dict[str, str]:
    return {"namespace": claim.namespace, "claim": claim.name}
