"""The store: models between staging, slots and trash. The only writer under the root.

    staging/<key>/tree + manifest ──publish──▶ slots/<key>/manifest, then content
    slots/<key>/content ──take_aside──▶ trash/<key>.aside ──put_back──▶ slots/<key>/content
                                            └──evict_aside──▶ trash/<key>.evicted-<n> ──▶ nothing

Every transition is one rename, each step before and after it can be interrupted, and `recover`
(or the same call again) completes it. One thread at a time. Methods raise `DiskFullError` when
room runs out and `CacheRootError` for what else the disk refuses.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent.planning.values import Finding
from agent.store import at, blobs, trash
from agent.store.faults import translated
from agent.store.inventory import is_complete
from agent.store.recovery import recover
from agent.store.root import CacheRoot
from agent.store.tree import read_file, read_manifest, read_tree
from larder.errors import CacheRootError, IntegrityError
from larder.layout import (
    ASIDE_SUFFIX,
    CATALOG_FILE,
    CONTENT,
    INITIALIZER,
    MANIFEST,
    QUARANTINED,
    SLOTS,
    STAGING,
    STATUS,
    TRASH,
    TREE,
    Digest,
    Key,
)
from larder.manifest import Manifest
from larder.status import SlotStatus

_INITIALIZER_MAX_BYTES: Final = 1024 * 1024
_PROGRAM_MODE: Final = 0o555
_SLOT_MODE: Final = 0o755


class Store:
    """Moves models under one root."""

    def __init__(self, root: CacheRoot) -> None:
        self._fd = root.fd

    def recover(self) -> tuple[Finding, ...]:
        """Put right what a crash left, before anything else; says what was not ours or damaged."""
        with translated("recovering the cache root"):
            return recover(self._fd)

    # --- a slot ----------------------------------------------------------------------------------

    def ensure_slot(self, key: Key, program: bytes) -> None:
        """Make `slots/<key>` with the initializer that pods run; writes only what differs."""
        with translated(f"making slot {key}"):
            with at.opened(self._fd, (SLOTS,)) as slots_fd:
                at.make_directory(slots_fd, key)
                _ensure_mode(slots_fd, key, _SLOT_MODE)
            with self._slot(key) as fd:
                if read_file(fd, INITIALIZER, _INITIALIZER_MAX_BYTES) != program:
                    at.write_atomically(fd, INITIALIZER, program, _PROGRAM_MODE)
                _ensure_mode(fd, INITIALIZER, _PROGRAM_MODE)

    def write_status(self, key: Key, status: SlotStatus) -> None:
        """Replace what waiting pods read. Not synced: it is derived again after a power cut."""
        with translated(f"writing the status of {key}"), self._slot(key) as fd:
            at.write_atomically(fd, STATUS, status.text().encode(), sync=False)

    def remove_slot(self, key: Key) -> None:
        """Remove the slot of a model that nobody knows any more. Refused while it has content."""
        with translated(f"removing slot {key}"), at.opened(self._fd, (SLOTS,)) as slots_fd:
            if at.look(slots_fd, key) is None:
                return
            with self._slot(key) as fd, self._trash() as trash_fd:
                if at.look(fd, CONTENT) or at.look(trash_fd, _aside(key)):
                    raise CacheRootError(f"slot {key} has content; it is evicted before the slot")
            trash.discard(self._fd, slots_fd, key, f"slot-{key}")

    # --- publishing ------------------------------------------------------------------------------

    def publish(self, key: Key) -> Manifest:
        """staging/<key>/tree → slots/<key>/content, the manifest before it. Returns the manifest.

        Called again after a crash at any point it completes; a slot that holds the model already
        only loses its staging. Raises `IntegrityError` if the staging is not what its manifest
        says, `CacheRootError` if something else is in the way; then nothing was changed.
        """
        with translated(f"publishing {key}"), self._slot(key) as slot_fd:
            if at.look(slot_fd, CONTENT) is None:
                with at.opened(self._fd, (STAGING, key)) as staging_fd:
                    _publish(staging_fd, slot_fd, key)
                with at.opened(self._fd, (SLOTS,)) as slots_fd:
                    at.sync_directory(slots_fd)
            manifest = read_manifest(slot_fd, MANIFEST)
            if manifest is None or read_tree(slot_fd, CONTENT).difference(manifest):
                raise CacheRootError(f"slots/{key}/{CONTENT} is in the way: it is not the model")
        self.evict_staging(key)
        return manifest

    def evict_staging(self, key: Key) -> int:
        """staging/<key> → nothing. Returns the bytes freed; blobs that it alone held are orphans.

        No fill of the key may run.
        """
        with translated(f"evicting the staging of {key}"), at.opened(self._fd, (STAGING,)) as fd:
            return trash.discard(self._fd, fd, key, f"staging-{key}")

    # --- evicting --------------------------------------------------------------------------------

    def take_aside(self, key: Key) -> bool:
        """slots/<key>/content → trash/<key>.aside: hidden from new pods. False if it has none."""
        with (
            translated(f"taking {key} aside"),
            self._slot(key) as slot_fd,
            self._trash() as trash_fd,
        ):
            if at.look(slot_fd, CONTENT) is None:
                return False
            at.rename_noreplace(slot_fd, CONTENT, trash_fd, _aside(key))
            _sync(trash_fd, slot_fd)
            return True

    def put_back(self, key: Key) -> bool:
        """trash/<key>.aside → slots/<key>/content: it was in use. False if nothing is aside."""
        with (
            translated(f"putting {key} back"),
            self._slot(key) as slot_fd,
            self._trash() as trash_fd,
        ):
            if at.look(trash_fd, _aside(key)) is None:
                return False
            at.rename_noreplace(trash_fd, _aside(key), slot_fd, CONTENT)
            _sync(slot_fd, trash_fd)
            return True

    def evict_aside(self, key: Key, keep: frozenset[Digest] = frozenset()) -> int:
        """trash/<key>.aside → nothing. Returns the bytes freed (what others link stays).

        `keep` are contents that a fill is about to link: their blobs stay, too.

        The decision is one rename to a name that `recover` never puts back; then manifest and
        quarantine marker go, the tree, and those of its blobs that nobody else links.
        """
        with translated(f"evicting {key}"), self._slot(key) as slot_fd, self._trash() as trash_fd:
            if at.look(trash_fd, _aside(key)) is None:
                return 0
            evicted = trash.move(self._fd, trash_fd, _aside(key), f"{key}.evicted")
            manifest = read_manifest(slot_fd, MANIFEST)
            at.unlink(slot_fd, MANIFEST)
            at.unlink(slot_fd, QUARANTINED)
            at.sync_directory(slot_fd)
            digests = {f.sha256 for f in manifest.files} if manifest else set()
            return trash.remove(self._fd, evicted) + blobs.collect(self._fd, digests - keep)

    def collect_blobs(self, keep: frozenset[Digest]) -> int:
        """Remove blobs that no tree links and nobody wants. Returns the bytes freed."""
        with translated("collecting blobs"):
            return blobs.collect(self._fd, blobs.all_blobs(self._fd) - keep)

    # --- the catalog -----------------------------------------------------------------------------

    def save_catalog(self, document: bytes) -> None:
        """Keep the last good catalog."""
        with translated("keeping the catalog"):
            at.write_atomically(self._fd, CATALOG_FILE, document)

    @contextmanager
    def _slot(self, key: Key) -> Iterator[int]:
        with at.opened(self._fd, (SLOTS, key)) as fd:
            yield fd

    @contextmanager
    def _trash(self) -> Iterator[int]:
        with at.opened(self._fd, (TRASH,)) as fd:
            yield fd


def _aside(key: Key) -> str:
    return f"{key}{ASIDE_SUFFIX}"


def _publish(staging_fd: int, slot_fd: int, key: Key) -> None:
    if not is_complete(staging_fd):
        raise IntegrityError(f"staging/{key}/{TREE}", "what its manifest lists", "something else")
    manifest = read_manifest(staging_fd, MANIFEST)
    if manifest is None:  # gone since it was looked at
        raise IntegrityError(f"staging/{key}/{MANIFEST}", "a manifest", "none")
    at.sync_tree(staging_fd, TREE)
    at.unlink(slot_fd, QUARANTINED)  # a marker without content is left over from what was evicted
    at.write_atomically(slot_fd, MANIFEST, manifest.text().encode())
    at.rename_noreplace(staging_fd, TREE, slot_fd, CONTENT)
    _sync(slot_fd, staging_fd)


def _ensure_mode(dir_fd: int, name: str, mode: int) -> None:
    found = at.look(dir_fd, name)
    if found is not None and stat.S_IMODE(found.st_mode) != mode:
        at.set_mode(dir_fd, name, mode)


def _sync(*fds: int) -> None:
    for fd in fds:
        at.sync_directory(fd)
