"""Keeps the view in step with the catalog's file: the last good catalog stays in force.

A bad edit is told once, with every problem, and shows in a metric until it is mended.
"""

import asyncio
from dataclasses import replace
from typing import Final

from larder.matching import CatalogIndex
from runtime.catalog_source import CatalogReading, CatalogSource
from runtime.logs import get_logger
from webhook.metrics import Metrics
from webhook.state import State

POLL_SECONDS: Final = 1.0
_log = get_logger()


class CatalogWatch:
    """Polls the catalog's file and replaces the view's index."""

    def __init__(self, file: CatalogSource, state: State, metrics: Metrics) -> None:
        self._file = file
        self._state = state
        self._metrics = metrics

    def look(self) -> CatalogReading:
        """Read the file if it changed, and bring state, metrics and log up to date."""
        reading = self._file.poll()
        if reading.changed:
            self._accept(reading)
        return reading

    async def run(self, stop: asyncio.Event) -> None:
        """Look once a second until asked to stop; reading and checking happen in a thread."""
        while not stop.is_set():
            await asyncio.to_thread(self.look)
            try:
                await asyncio.wait_for(stop.wait(), POLL_SECONDS)
            except TimeoutError:
                continue

    def _accept(self, reading: CatalogReading) -> None:
        self._metrics.catalog_problems.set(len(reading.problems))
        self._metrics.catalog_loaded.set(reading.catalog is not None)
        if reading.problems:
            in_force = "the last good catalog" if reading.catalog else "no catalog"
            _log.error("catalog refused", problems=reading.problems, in_force=in_force)
            return
        if reading.catalog is not None:
            index = CatalogIndex(reading.catalog)
            self._state.view = replace(self._state.view, index=index)
            _log.info("catalog loaded", models=len(reading.catalog.models), notes=reading.notes)
