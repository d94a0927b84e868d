"""Telling what is so: each slot's status file, the log, the metrics. Only changes are written."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from agent.metrics import AgentMetrics
from agent.planning.node_events import ModelNews, model_news
from agent.planning.node_reports import node_report
from agent.planning.plan import Observation, Plan
from agent.planning.statuses import slot_statuses
from agent.planning.values import PLACES, InodeUse, Inventory
from agent.store.store import Store
from larder.errors import CacheRootError, LarderError
from larder.layout import Key
from larder.node_report import NodeReport
from larder.status import ModelState, SlotStatus
from runtime.catalog_source import CatalogReading
from runtime.logs import get_logger

Tell = Callable[[NodeReport, tuple[ModelNews, ...]], None]
"""Hands a cluster the node's report, and what of it is worth an Event."""

_log = get_logger()


class Statuses:
    """The status files: what they say now, and the one way to change them."""

    def __init__(self, store: Store, program: bytes) -> None:
        self._store = store
        self._program = program
        self._prepared: set[Key] = set()
        self.on_disk: dict[Key, SlotStatus] = {}

    def adopt(self, inventory: Inventory) -> None:
        """Take what an earlier agent wrote for what is on disk, so that sequences go on."""
        found = {key: slot.status for key, slot in inventory.slots.items()}
        self.on_disk.update({key: status for key, status in found.items() if status})

    def write(self, key: Key, status: SlotStatus) -> None:
        """Replace a slot's status if it differs; the slot and its initializer are made first."""
        if key not in self._prepared:
            self.make_slot(key)
        before = self.on_disk.get(key)
        if status == before:
            return
        if before is not None and status.sequence <= before.sequence:
            status = replace(status, sequence=before.sequence)
        try:
            self._store.write_status(key, status)
        except CacheRootError:  # somebody took the slot away
            self.make_slot(key)
            self._store.write_status(key, status)
        self.on_disk[key] = status

    def make_slot(self, key: Key) -> None:
        """Make a slot and its initializer, or what is missing of them."""
        self._store.ensure_slot(key, self._program)
        self._prepared.add(key)

    def forget(self, key: Key) -> None:
        """The slot is gone."""
        self._prepared.discard(key)
        self.on_disk.pop(key, None)

    def announce_restart(self) -> None:
        """Tell waiting pods that this agent comes back (they wait on for a while)."""
        for key, status in list(self.on_disk.items()):
            if status.state in _UNFINISHED:
                with suppress(LarderError):  # its pods take the agent for gone, a little later
                    self.write(key, replace(status, restarting=True, rate_bytes_per_second=0))


_UNFINISHED = frozenset({ModelState.QUEUED, ModelState.DOWNLOADING, ModelState.VERIFYING})


class Reporter:
    """Reports one reconcile after the other; without `tell` there is no cluster.

    What `statuses` say when it is made is no news: an earlier agent told it.
    """

    def __init__(
        self,
        statuses: Statuses,
        metrics: AgentMetrics,
        node: str,
        tell: Tell | None = None,
    ) -> None:
        self._statuses = statuses
        self._metrics = metrics
        self._node = node
        self._tell = tell
        self._before = dict(statuses.on_disk)
        self._problems: tuple[str, ...] = ()
        self._states: dict[Key, ModelState] = {}
        self._inodes: tuple[InodeUse, ...] | None = None

    def report(self, seen: Observation, plan: Plan) -> None:
        """Write the statuses that changed, log changes of state, set the gauges.

        Raises the first error that a status met, after all is done.
        """
        statuses = slot_statuses(seen, plan)
        faults = []
        for key, status in statuses.items():
            try:
                self._statuses.write(key, status)
            except LarderError as error:
                faults.append(error)
            if self._states.get(key) != status.state:
                self._log_state(key, status, seen)
        if statuses or seen.wishes is not None:
            self._states = {key: status.state for key, status in statuses.items()}
        self._set_gauges(seen)
        if self._tell:
            now = node_report(self._node, seen, self._statuses.on_disk, self._problems)
            self._tell(now, model_news(self._before, now, plan, seen.failures))
            self._before = dict(self._statuses.on_disk)
        if faults:
            raise faults[0]

    def report_catalog(self, reading: CatalogReading) -> None:
        """Say once what a new reading of the catalog brought."""
        self._problems = reading.problems
        self._metrics.catalog_problems.set(len(reading.problems))
        if reading.problems:
            _log.error(
                "catalog is bad: nothing is filled or evicted until it is mended",
                problems=list(reading.problems),
            )
            return
        models = len(reading.catalog.models) if reading.catalog else 0
        _log.info("catalog loaded", models=models)
        for note in reading.notes:
            _log.warning("catalog note", note=note)

    def _log_state(self, key: Key, status: SlotStatus, seen: Observation) -> None:
        wanted = seen.wishes.wanted.get(key) if seen.wishes else None
        _log.info(
            "model state changed",
            key=key,
            model=wanted.name if wanted else None,
            state=str(status.state),
            reason=status.reason,
        )

    def _set_gauges(self, seen: Observation) -> None:
        counts: Mapping[ModelState, int] = Counter(self._states.values())
        for state in ModelState:
            self._metrics.models.labels(str(state)).set(counts.get(state, 0))
        self._metrics.disk_available_bytes.set(seen.disk.available_bytes)
        if seen.wishes is not None:
            self._metrics.budget_bytes.set(seen.wishes.limits.budget_bytes)
        if self._inodes is not seen.inventory.inodes:
            self._inodes = seen.inventory.inodes
            used = Counter[str]()
            for inode in self._inodes:
                used[inode.place] += inode.size_bytes
            for place in PLACES:
                self._metrics.used_bytes.labels(place).set(used[place])
