"""What is on a node's disk, as rows and totals. Pure: an inventory in, frozen values out."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.planning.values import (
    ORPHANS,
    Disk,
    Finding,
    InodeUse,
    Inventory,
    SlotFacts,
    StagingFacts,
)
from larder.catalog import Catalog
from larder.layout import QUARANTINE, SLOTS, STAGING, TRASH, Key
from larder.status import ModelState, SlotStatus

_FILLING: Final = frozenset({ModelState.DOWNLOADING, ModelState.VERIFYING})
_WHOLE_PERCENT: Final = 100
_NO_STATUS: Final = SlotStatus(ModelState.ABSENT)


@dataclass(frozen=True, slots=True)
class Slot:
    """One model on the disk. What is unknown is None; rate and ETA are those of a fill."""

    key: str
    name: str | None
    state: str
    bytes_done: int
    bytes_total: int
    done_percent: int | None
    rate_bytes_per_second: int | None
    eta_seconds: int | None
    revision: str | None
    unproven_files: int | None
    storage_uri: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes under the root, each inode once and in the first of these places that links it."""

    content_bytes: int
    staging_bytes: int
    trash_bytes: int
    quarantine_bytes: int
    orphan_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class RootListing:
    """Everything that `larder ls` shows."""

    slots: tuple[Slot, ...]
    usage: Usage
    disk: Disk
    findings: tuple[Finding, ...]


def listing_of(inventory: Inventory, disk: Disk, catalog: Catalog | None) -> RootListing:
    """A scan as it is shown. The catalog gives names and URIs to what has none on the disk."""
    names = {e.key: (e.name, e.storage_uri) for e in catalog.models} if catalog else {}
    slots = []
    for key in {*inventory.slots, *inventory.staging}:
        facts = inventory.slots.get(key, SlotFacts())
        staging = inventory.staging.get(key, StagingFacts())
        name, listed_uri = names.get(key, (None, None))
        slots.append(_slot(key, facts, staging, name, listed_uri))
    slots.sort(key=lambda s: (s.name is None, s.name or "", s.key))
    return RootListing(tuple(slots), usage_of(inventory.inodes), disk, inventory.findings)


def _slot(
    key: Key, facts: SlotFacts, staging: StagingFacts, name: str | None, listed_uri: str | None
) -> Slot:
    status = facts.status or _NO_STATUS
    state = state_of(facts)
    manifest, listing = facts.manifest, staging.listing
    is_filling = state in _FILLING
    if facts.has_content and manifest is not None:
        done = total = manifest.size_bytes
    elif is_filling:
        done, total = status.bytes_done, status.bytes_total
    else:
        done, total = 0, listing.known_bytes if listing else 0
    uri = manifest.storage_uri if manifest else listing.storage_uri if listing else listed_uri
    return Slot(
        key=key,
        name=name,
        state=state,
        bytes_done=done,
        bytes_total=total,
        done_percent=_percent(done, total),
        rate_bytes_per_second=status.rate_bytes_per_second if is_filling else None,
        eta_seconds=status.eta_seconds if is_filling else None,
        revision=manifest.revision if manifest else status.revision,
        unproven_files=status.unproven_files,
        storage_uri=uri,
        reason=status.reason,
    )


def state_of(slot: SlotFacts) -> ModelState:
    """The state of a slot: what the disk shows, and where it shows nothing, what the agent said."""
    if slot.has_content:
        return ModelState.READY if slot.is_ready else ModelState.QUARANTINED
    said = slot.status.state if slot.status else ModelState.ABSENT
    return ModelState.ABSENT if said is ModelState.READY else said


def usage_of(inodes: Iterable[InodeUse]) -> Usage:
    """The books of a root."""
    used = Counter[str]()
    for inode in inodes:
        used[inode.place] += inode.size_bytes
    return Usage(
        content_bytes=used[SLOTS],
        staging_bytes=used[STAGING],
        trash_bytes=used[TRASH],
        quarantine_bytes=used[QUARANTINE],
        orphan_bytes=used[ORPHANS],
        total_bytes=used.total(),
    )


def _percent(done: int, total: int) -> int | None:
    if total <= 0:
        return None
    return min(_WHOLE_PERCENT, max(0, done * _WHOLE_PERCENT // total))
