"""Carrying out a plan: children for fills, renames for what becomes visible or goes.

Actions run in the plan's order. An eviction that finds its model in use after all is taken back,
and the rest of the plan is left to the next one: it was made for room that is not there. What the
disk refuses to one model is that model's failure, and holds up no other.
"""

import hashlib
import json
import random
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Final

from agent.credentials import Secrets
from agent.fill.job import Job, Operation
from agent.fill.runner import FillResult, Fills
from agent.metrics import SUCCESS, AgentMetrics
from agent.planning.backoff import next_failure
from agent.planning.plan import Cancel, Evict, Fill, Observation, Plan, Publish, Resolve
from agent.planning.values import Failure, Inventory
from agent.pods import Pods
from agent.report import Statuses
from agent.sources.secret import Secret
from agent.sources.web import Network
from agent.store.store import Store
from larder import catalog
from larder.catalog import ModelEntry
from larder.contract import FillFailure
from larder.errors import (
    CacheRootError,
    DiskFullError,
    FillError,
    IntegrityError,
    TransientError,
)
from larder.layout import Digest, Key
from larder.status import ModelState, SlotStatus
from runtime.clock import Clock
from runtime.logs import get_logger

SECRET_RECHECK_SECONDS: Final = 60.0
_OF_CREDENTIALS: Final = frozenset({FillFailure.ACCESS_DENIED, FillFailure.MODEL_NOT_FOUND})
"""What a source says to a wrong token: many hide private models."""

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Tools:
    """What actions are carried out with."""

    store: Store
    fills: Fills
    pods: Pods
    statuses: Statuses
    metrics: AgentMetrics
    secrets: Secrets
    clock: Clock


class Executor:
    """Executes plans and takes in what fills came to. `failures` is its record, read by others."""

    def __init__(self, root_path: str, tools: Tools, failures: dict[Key, Failure]) -> None:
        self._root_path = root_path
        self._tools = tools
        self._failures = failures
        self._started: dict[Key, float] = {}
        self._shown: dict[Key, tuple[ModelEntry, str]] = {}
        self._looked_at = 0.0

    def settle(self) -> bool:
        """Take in fills that ended; whether there were any. Secrets are looked at again, too."""
        self._forgive()
        finished = self._tools.fills.take_finished()
        for result in finished:
            self._settle(result)
        return bool(finished)

    def execute(self, plan: Plan, seen: Observation) -> bool:
        """Carry out a plan; whether it changed anything."""
        for action in plan.actions:
            match action:
                case Cancel():
                    self._tools.fills.cancel(action.key)
                    self._started.pop(action.key, None)
                case Evict():
                    if not self._try_to_evict(action, seen, _counted_on(plan, seen)):
                        break
                case Publish():
                    self._publish(action.key)
                case Resolve() | Fill():
                    self._start(action, seen)
        return bool(plan.actions)

    def _start(self, action: Resolve | Fill, seen: Observation) -> None:
        if seen.wishes is None:
            return
        entry = seen.wishes.entries[action.key]
        is_fill = isinstance(action, Fill)
        try:
            secret = self._tools.secrets.secret_of(entry)
            job = Job(
                operation=Operation.FILL if is_fill else Operation.RESOLVE,
                root=self._root_path,
                key=action.key,
                storage_uri=entry.identity.storage_uri,
                revision=entry.revision or "",
                endpoint=entry.fetch_endpoint,
                secret=secret,
                network=_network(entry.network or seen.wishes.network),
                allow_patterns=tuple(entry.allow_patterns),
                ignore_patterns=tuple(entry.ignore_patterns),
                digest=entry.digest,
                max_size_bytes=entry.max_size,
                fills=seen.wishes.limits.max_concurrent,
                xet_memory_bytes=seen.wishes.limits.xet_memory_bytes,
            )
        except FillError as error:
            self._fail(action.key, error)
            return
        self._shown[action.key] = entry, _fingerprint(secret)
        self._started.setdefault(action.key, self._tools.clock.monotonic())
        reserved_bytes = action.size_bytes if isinstance(action, Fill) else 0
        self._tools.fills.start(job, reserved_bytes)
        _log.info(
            "fill started" if is_fill else "resolve started",
            key=action.key,
            model=entry.name,
            reserved_bytes=reserved_bytes,
        )

    def _forgive(self) -> None:
        """Forget what a source said to a Secret that is another one by now."""
        now = self._tools.clock.monotonic()
        if now < self._looked_at + SECRET_RECHECK_SECONDS:
            return
        self._looked_at = now
        for key, failure in list(self._failures.items()):
            if failure.reason in _OF_CREDENTIALS and key in self._shown:
                entry, shown = self._shown[key]
                with suppress(FillError):  # it is missing now, or cannot be read
                    if _fingerprint(self._tools.secrets.secret_of(entry)) != shown:
                        del self._failures[key]

    def _settle(self, result: FillResult) -> None:
        if result.error is not None:
            self._fail(result.key, result.error)
        elif result.operation is Operation.FILL:
            self._tools.metrics.fetched_bytes.inc(result.size_bytes)
        elif (failure := self._failures.get(result.key)) and failure.doubts_listing:
            self._failures[result.key] = replace(failure, doubts_listing=False)  # still counted
        else:
            self._failures.pop(result.key, None)

    def _fail(self, key: Key, error: FillError) -> None:
        tools = self._tools
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        before = self._failures.get(key)
        failure = next_failure(before, error, tools.clock.now(), jitter)
        self._failures[key] = failure
        self._started.pop(key, None)
        tools.metrics.fills.labels(str(error.reason)).inc()
        _log.warning(
            "fill failed",
            key=key,
            reason=str(error.reason),
            message=str(error),
            attempts=failure.attempts,
            retry_in_seconds=round(failure.retry_at - tools.clock.now(), 1),
        )

    def _publish(self, key: Key) -> None:
        tools = self._tools
        try:
            tools.statuses.make_slot(key)  # somebody may have taken it away
            manifest = tools.store.publish(key)
        except IntegrityError as error:  # the disk changed what the fill had verified
            tools.store.evict_staging(key)
            self._fail(key, error)
            return
        except (DiskFullError, CacheRootError) as error:
            self._fail(key, _as_failure(error))
            return
        self._failures.pop(key, None)
        tools.metrics.fills.labels(SUCCESS).inc()
        now = tools.clock.monotonic()
        seconds = now - self._started.pop(key, now)
        tools.metrics.fill_seconds.observe(seconds)
        _log.info(
            "model ready",
            key=key,
            storage_uri=manifest.storage_uri,
            revision=manifest.revision,
            size_bytes=manifest.size_bytes,
            seconds=round(seconds, 3),
        )

    def _try_to_evict(self, action: Evict, seen: Observation, keep: frozenset[Digest]) -> bool:
        """Evict; what cannot go is left alone for a while, so that the next plan does without."""
        key = action.key
        try:
            return self._evict(action, seen, keep)
        except (DiskFullError, CacheRootError) as error:
            before, now = self._failures.get(key), self._tools.clock.now()
            failure = next_failure(before, _as_failure(error), now, jitter=0.0)
            self._failures[key] = replace(failure, is_of_eviction=True)
            _log.error("eviction failed", key=key, error=str(error), attempts=failure.attempts)
            return False

    def _evict(self, action: Evict, seen: Observation, keep: frozenset[Digest]) -> bool:
        """Hide, then look, then delete: looking first would lose a race with a starting pod."""
        tools, key = self._tools, action.key
        slot = seen.inventory.slots.get(key)
        freed_bytes = 0
        if slot is not None:
            with suppress(DiskFullError):  # this makes room
                tools.statuses.write(key, SlotStatus(ModelState.EVICTING))
        if slot is not None and slot.has_content:
            tools.store.take_aside(key)
            try:
                if tools.pods.uses(key):
                    tools.store.put_back(key)
                    return False
                freed_bytes += tools.store.evict_aside(key, keep)
            except BaseException:
                tools.store.put_back(key)
                raise
        freed_bytes += tools.store.evict_staging(key)
        if seen.wishes is None or key not in seen.wishes.wanted:
            tools.store.remove_slot(key)
            tools.statuses.forget(key)
        freed_bytes += tools.store.collect_blobs(
            _listed_digests(seen.inventory, seen.inventory.staging.keys() - {key})
        )
        for remembered in (self._failures, self._started, self._shown):
            remembered.pop(key, None)
        tools.metrics.evictions.labels(str(action.reason)).inc()
        _log.info(
            "model evicted",
            key=key,
            reason=str(action.reason),
            expected_bytes=action.size_bytes,
            freed_bytes=freed_bytes,
        )
        return True


def _fingerprint(secret: Secret) -> str:
    """What is kept of a Secret, to know it from the next one."""
    return hashlib.sha256(json.dumps(asdict(secret), sort_keys=True).encode()).hexdigest()


def _network(wanted: catalog.Network) -> Network:
    """The way out that the catalog names, for a child."""
    return Network(wanted.proxy, wanted.ca_bundle)


def _as_failure(error: DiskFullError | CacheRootError) -> FillError:
    """A disk that fails, as a failure: it is tried again, and somebody has to look at it."""
    if isinstance(error, FillError):
        return error
    return TransientError(FillFailure.STALLED, str(error))


def _counted_on(plan: Plan, seen: Observation) -> frozenset[Digest]:
    """Contents that fills of this plan and those in flight were not promised: they will link."""
    filling = {action.key for action in plan.actions if isinstance(action, Fill)}
    return _listed_digests(seen.inventory, filling | seen.in_flight.keys())


def _listed_digests(inventory: Inventory, keys: AbstractSet[Key]) -> frozenset[Digest]:
    """Contents that some stagings are about to link: no orphans yet."""
    return frozenset(
        file.sha256
        for key, staging in inventory.staging.items()
        if staging.listing and key in keys
        for file in staging.listing.files
        if file.sha256
    )
