"""The node's books: which inode costs what, who holds it, and what was promised to whom.

Every inode is counted once, whoever links it. A fill in flight counts with what it was promised, so
its own staging is left out of the sum. Contents that a fill counts on are claimed: they stay when
their last owner is evicted, and are no room for others. All figures are bytes.
"""

from collections.abc import Iterable, Mapping

from agent.planning.values import Disk, FillProgress, InodeUse, Inventory
from agent.planning.wishes import Limits
from larder.layout import SLOTS, STAGING, Digest, Key


def owners_of(key: Key) -> frozenset[str]:
    """The owners that an eviction of a key takes away."""
    return frozenset({f"{SLOTS}/{key}", f"{STAGING}/{key}"})


class Ledger:
    """Books of one plan: they change as actions are decided."""

    def __init__(
        self,
        inventory: Inventory,
        disk: Disk,
        in_flight: Mapping[Key, FillProgress],
        limits: Limits,
    ) -> None:
        self._inodes = inventory.inodes
        self._listings = {k: s.listing for k, s in inventory.staging.items() if s.listing}
        self._limits = limits
        self._promised = {key: fill.reserved_bytes for key, fill in in_flight.items()}
        self._claimed = {digest for key in in_flight for digest, _ in self._contents(key)}
        unwritten = sum(_unwritten_bytes(fill) for fill in in_flight.values())
        self._disk_left = disk.available_bytes - limits.free_floor_bytes - unwritten
        self._evicted: set[Key] = set()

    def is_evicted(self, key: Key) -> bool:
        """Whether this plan already evicts a key."""
        return key in self._evicted

    @property
    def committed_bytes(self) -> int:
        """What the budget is charged with now."""
        return self._charged([])

    @property
    def budget_left_bytes(self) -> int:
        """Budget minus what it is charged with; negative when the budget was lowered."""
        return self._limits.budget_bytes - self.committed_bytes

    def reservation_bytes(self, key: Key) -> int:
        """What a fill of a key is promised: its contents that are not on the disk without it."""
        mine = owners_of(key)
        held = {i.digest for i in self._inodes if i.digest and (not i.owners or i.owners - mine)}
        return sum(size for digest, size in self._contents(key) if digest not in held)

    def fits_budget(self, key: Key, victims: Iterable[Key]) -> bool:
        """Whether the budget holds if a fill of `key` starts after `victims` are evicted."""
        return self._charged(victims, filling=key) <= self._limits.budget_bytes

    def fits(self, key: Key, victims: Iterable[Key]) -> bool:
        """Whether budget and filesystem hold if a fill starts after `victims` are evicted."""
        victims = list(victims)
        missing = self.reservation_bytes(key) - self._own_bytes(key)
        room = self._disk_left + self.freed_bytes(victims, filling=key)
        return self.fits_budget(key, victims) and missing <= room

    def needed_of(self, key: Key, victims: list[Key]) -> list[Key]:
        """Those of the victims without whom the fill does not fit (the last one found always)."""
        needed = list(victims)
        for victim in victims:
            rest = [v for v in needed if v != victim]
            if self.fits(key, rest):
                needed = rest
        return needed

    def freed_bytes(self, victims: Iterable[Key], filling: Key | None = None) -> int:
        """What evicting some keys frees: inodes that nobody else holds and no fill counts on."""
        left = {id(i) for i in self._left(victims, filling)}
        return sum(i.size_bytes for i in self._inodes if id(i) not in left)

    def evict(self, key: Key, filling: Key | None = None) -> None:
        """Take a key's bytes off the books, save those that the fill it goes for counts on."""
        self._disk_left += self.freed_bytes([key], filling)
        self._inodes = self._left([key], filling)
        self._evicted.add(key)

    def reserve(self, key: Key) -> None:
        """Promise a fill its bytes."""
        promised = self.reservation_bytes(key)
        self._disk_left -= promised - self._own_bytes(key)
        self._promised[key] = promised
        self._claimed |= {digest for digest, _ in self._contents(key)}

    def _left(self, victims: Iterable[Key], filling: Key | None) -> tuple[InodeUse, ...]:
        """Inodes that stay after an eviction (orphans, held by nobody, stay)."""
        gone = frozenset[str]().union(*map(owners_of, victims))
        claimed = set(self._claimed)
        if filling is not None:
            claimed |= {digest for digest, _ in self._contents(filling)}
        return tuple(
            i for i in self._inodes if not i.owners or i.owners - gone or i.digest in claimed
        )

    def _own_bytes(self, key: Key) -> int:
        """What is on disk already of what a fill of a key is promised: its staging."""
        mine = owners_of(key)
        return sum(i.size_bytes for i in self._inodes if i.owners and i.owners <= mine)

    def _charged(self, victims: Iterable[Key], filling: Key | None = None) -> int:
        keys = {*self._promised, *([] if filling is None else [filling])}
        staged = frozenset(f"{STAGING}/{key}" for key in keys)
        used = sum(
            i.size_bytes
            for i in self._left(victims, filling)
            if not i.owners or not i.owners <= staged
        )
        return used + sum(self._promise_bytes(key) for key in keys)

    def _promise_bytes(self, key: Key) -> int:
        """What a fill is charged: links become its own when the last other holder goes."""
        return max(self._promised.get(key, 0), self.reservation_bytes(key))

    def _contents(self, key: Key) -> list[tuple[Digest | str, int]]:
        """Each distinct content of a listing with its size; without digest, distinct by path."""
        listing = self._listings.get(key)
        files = listing.files if listing else ()
        return list({f.sha256 or f.path: f.room_bytes for f in files}.items())


def _unwritten_bytes(fill: FillProgress) -> int:
    """What a fill was promised and the disk still shows as free."""
    if fill.is_set_aside:
        return 0
    if not fill.bytes_total:
        return fill.reserved_bytes
    return min(fill.reserved_bytes, max(0, fill.bytes_total - fill.bytes_done))
