"""Keeps the state in step with the catalog, wherever it is: the last good one stays in force.

A bad edit is told once, with every problem, and shows in a metric until it is mended.
"""

import asyncio
from typing import Final

from larder.matching import CatalogIndex
from runtime.catalog_source import CatalogReading, CatalogSource
from runtime.logs import get_logger
from webhook.metrics import Metrics
from webhook.state import State
from webhook.turns import take_turns

POLL_SECONDS: Final = 1.0
_log = get_logger()


class CatalogWatch:
    """Replaces the state's index when the catalog changed."""

    def __init__(self, source: CatalogSource, state: State, metrics: Metrics) -> None:
        self._source = source
        self._state = state
        self._metrics = metrics

    def look(self) -> CatalogReading:
        """Read the catalog if it changed, and bring state, metrics and log up to date."""
        reading = self._source.poll()
        if reading.changed:
            self._accept(reading)
        return reading

    async def run(self, stop: asyncio.Event) -> None:
        """Look once a second until asked to stop; reading and checking happen in a thread."""
        await take_turns(self._take_turn, stop)

    async def _take_turn(self) -> float:
        await asyncio.to_thread(self.look)
        return POLL_SECONDS

    def _accept(self, reading: CatalogReading) -> None:
        self._metrics.catalog_problems.set(len(reading.problems))
        self._metrics.catalog_loaded.set(reading.catalog is not None)
        if reading.problems:
            in_force = "the last good catalog" if reading.catalog else "no catalog"
            _log.error("catalog refused", problems=reading.problems, in_force=in_force)
            return
        if reading.catalog is not None:
            self._state.index = CatalogIndex(reading.catalog)
            _log.info("catalog loaded", models=len(reading.catalog.models), notes=reading.notes)
