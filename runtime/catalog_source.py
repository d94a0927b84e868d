"""A catalog that changes under us, wherever it is kept: the last good one stays in force.

A document that is gone, unreadable or bad is told of and changes nothing else; before the first
good one the catalog is unknown (None), which is not the same as empty.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from larder.catalog import Catalog, read_catalog
from larder.catalog_rules import catalog_notes
from larder.errors import CatalogError


@dataclass(frozen=True, slots=True)
class CatalogReading:
    """What the catalog's place says now. `catalog` is the last good one, None while there was none.

    `problems` are those of the newest edit, empty when it is good; `notes` are what the admin of
    the catalog in force should know. `changed` is whether this poll found something new: another
    catalog or other problems. `document` is what the catalog in force was read from, empty if it
    was handed in.
    """

    catalog: Catalog | None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    changed: bool = False
    document: bytes = b""


class CatalogSource(ABC):
    """Reads a catalog again whenever its document changed."""

    def __init__(self, *, standalone: bool, last_good: Catalog | None = None) -> None:
        self._standalone = standalone
        self._catalog = last_good
        self._problems: tuple[str, ...] = ()
        self._notes = catalog_notes(last_good, standalone=standalone) if last_good else ()
        self._document = b""

    @abstractmethod
    def _newest(self) -> bytes | None:
        """The document, or None if it is the one of the last call.

        Raises `CatalogError` for a place that holds none.
        """

    def poll(self) -> CatalogReading:
        """Look at the place: cheap when nothing changed. Never raises for a bad document."""
        before = (self._catalog, self._problems)
        try:
            document = self._newest()
            if document is not None:
                self._catalog = read_catalog(document, standalone=self._standalone)
                self._document = document
                self._problems = ()
                self._notes = catalog_notes(self._catalog, standalone=self._standalone)
        except CatalogError as error:
            self._problems = error.problems
        changed = before != (self._catalog, self._problems)
        return CatalogReading(self._catalog, self._problems, self._notes, changed, self._document)
