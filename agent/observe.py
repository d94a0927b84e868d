"""Gathering what a plan is made of. The disk is scanned only after something changed it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.fill.runner import Fills
from agent.planning.plan import Observation
from agent.planning.values import Failure, Inventory
from agent.planning.wishes import Node, wishes_of
from agent.pods import Pods
from agent.store.inventory import scan
from agent.store.root import CacheRoot
from larder.layout import Key
from larder.status import SlotStatus
from runtime.catalog_source import CatalogReading, CatalogSource
from runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the observer looks at. `node` is None while the node's labels are unknown."""

    root: CacheRoot
    catalog: CatalogSource
    fills: Fills
    pods: Pods
    node: Callable[[], Node | None]
    clock: Clock


class Observer:
    """Builds observations; remembers the last scan until `invalidate` says that it is stale.

    `failures` and `statuses` are kept by others and only looked at.
    """

    def __init__(
        self,
        around: Surroundings,
        failures: Mapping[Key, Failure],
        statuses: Mapping[Key, SlotStatus],
    ) -> None:
        self._around = around
        self._failures = failures
        self._statuses = statuses
        self._inventory: Inventory | None = None
        self.reading = CatalogReading(None)

    def invalidate(self) -> None:
        """The disk has changed: the next observation scans it again."""
        self._inventory = None

    def poll_catalog(self) -> bool:
        """Look at the catalog; whether it says something new."""
        self.reading = self._around.catalog.poll()
        return self.reading.changed

    def observe(self) -> Observation:
        """One consistent set of values. A catalog with problems counts as unknown.

        So does one whose node is not known yet: nobody can say what it lists for this node.
        """
        around, reading = self._around, self.reading
        fills = around.fills.in_flight()  # before the disk: what they set aside is then off it
        if self._inventory is None:
            self._inventory = scan(around.root.fd)
        disk = around.root.disk()
        node, wishes = around.node(), None
        if reading.catalog is not None and not reading.problems and node is not None:
            wishes = wishes_of(reading.catalog, node, disk.total_bytes)
        return Observation(
            now=around.clock.now(),
            wishes=wishes,
            inventory=self._inventory,
            disk=disk,
            statuses=dict(self._statuses),
            in_flight={fill.key: fill for fill in fills},
            failures=dict(self._failures),
            in_use=around.pods.in_use(),
            waiting=around.pods.waiting(),
        )
