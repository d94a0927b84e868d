"""What the agent observed, as frozen values: the disk, the catalog's wishes, fills, failures.

The store and the observer build these; the plan is made of nothing else. A corrupt entry is a
finding, not an exception.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from larder.contract import FillFailure
from larder.layout import QUARANTINE, SLOTS, STAGING, TRASH, Digest, Key, is_digest
from larder.manifest import Manifest, listing_fault
from larder.status import ModelState, SlotStatus

_NEWER_TEXTS: Final = ("etag", "version", "key")  # listings of an earlier release lack them

Owner = str
"""Who holds an inode: `slots/<key>`, `staging/<key>`, `trash/<name>` or `quarantine/<name>`."""

ORPHANS: Final = "orphans"
PLACES: Final = (SLOTS, STAGING, TRASH, QUARANTINE, ORPHANS)
"""Where bytes are held, in the order in which they are worth keeping."""


class Algorithm(StrEnum):
    """What a source's checksum is made with, by its name in a listing."""

    GIT_BLOB = "gitSha1"
    """SHA-1 of a header with the size, and the content."""
    MD5 = "md5"
    SHA256 = "sha256"
    """Of parts only: that of a whole file has a place of its own."""
    SHA1 = "sha1"
    CRC64NVME = "crc64nvme"
    CRC32C = "crc32c"
    CRC32 = "crc32"


OF_WHOLE: Final = tuple(a for a in Algorithm if a is not Algorithm.SHA256)


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file's bytes come to, as its source says.

    With `part_bytes`, it is over the checksums of the file's parts in a row, each part of so many
    bytes, but the last one of the rest.
    """

    algorithm: Algorithm
    hexdigest: str
    part_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file as a source lists it, with the digest that the source knows.

    `checksum` is one that is no SHA-256. `etag` and `version` are the source's own words for these
    very bytes: with them it is asked for no others. Without any digest, what the first fill sees is
    the reference (trust on first use). `key` is the source's name of it, where the path does not
    tell. `unpacked_bytes` is how many may come of it: the members of an archive, or a file whose
    size nobody says, which is listed with none.
    """

    path: str
    size_bytes: int
    sha256: Digest | None = None
    checksum: Checksum | None = None
    etag: str | None = None
    version: str | None = None
    key: str | None = None
    unpacked_bytes: int | None = None
    xet_hash: str | None = field(default=None, compare=False)  # a way to the bytes, not the bytes

    @property
    def room_bytes(self) -> int:
        """What a fill of it needs on the disk, at most."""
        return self.size_bytes + (self.unpacked_bytes or 0)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds at an immutable revision: exactly what a fill fetches, sorted by path."""

    storage_uri: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        """The most that it needs: bytes of all files by path, and what may come of one."""
        return sum(f.room_bytes for f in self.files)

    @property
    def known_bytes(self) -> int:
        """What the model will have; 0 if that is not known before it is there."""
        return 0 if self.unmeasured else self.size_bytes

    @property
    def unmeasured(self) -> RemoteFile | None:
        """The only file, if what comes of it is not known before it is there."""
        return next((file for file in self.files if file.unpacked_bytes is not None), None)

    @property
    def unproven_files(self) -> int:
        """How many files the source tells no digest of: the first fill is the reference."""
        return sum(not (file.sha256 or file.checksum) for file in self.files)

    def text(self) -> str:
        """What `staging/<key>/listing.json` holds."""
        files = [
            {
                "path": f.path,
                "size": f.size_bytes,
                "sha256": f.sha256,
                **dict.fromkeys(OF_WHOLE),
                **_checksum_said(f.checksum),
                "etag": f.etag,
                "version": f.version,
                "key": f.key,
                "unpackedBytes": f.unpacked_bytes,
                "xetHash": f.xet_hash,
            }
            for f in self.files
        ]
        document = {"storageUri": self.storage_uri, "revision": self.revision, "files": files}
        return json.dumps(document) + "\n"


def _checksum_said(checksum: Checksum | None) -> Mapping[str, Any]:
    """A checksum in a `listing.json`; to an earlier release, one of parts is none."""
    if checksum is None:
        return {}
    algorithm, hexdigest = checksum.algorithm, checksum.hexdigest
    if checksum.part_bytes is None:
        return {algorithm: hexdigest}
    size = checksum.part_bytes
    return {"ofParts": {"algorithm": algorithm, "hexdigest": hexdigest, "size": size}}


def _checksum(raw: Mapping[str, Any]) -> Checksum | None:
    """The only one that there is of a file in a `listing.json`."""
    said = (Checksum(algorithm, raw[algorithm]) for algorithm in OF_WHOLE if raw.get(algorithm))
    return next(said, None) if raw.get("ofParts") is None else _checksum_of_parts(raw["ofParts"])


def _checksum_of_parts(raw: Mapping[str, Any]) -> Checksum:
    """Raises also `ValueError`, for what no checksum is."""
    algorithm, hexdigest, size = Algorithm(raw["algorithm"]), raw["hexdigest"], raw["size"]
    if type(hexdigest) is not str or type(size) is not int or size < 1:
        raise ValueError("parts have a size, and a checksum in hex")
    return Checksum(algorithm, hexdigest, size)


def parse_listing(text: str) -> Listing | None:
    """Read a `listing.json`; None if it is torn or holds what no slot may hold."""
    try:
        raw: dict[str, Any] = json.loads(text)
        files = tuple(
            RemoteFile(
                f["path"],
                f["size"],
                Digest(f["sha256"]) if f["sha256"] and is_digest(f["sha256"]) else None,
                _checksum(f),
                *(f.get(name) for name in (*_NEWER_TEXTS, "unpackedBytes", "xetHash")),
            )
            for f in raw["files"]
        )
        listing = Listing(raw["storageUri"], raw["revision"], files)
    except (ValueError, KeyError, TypeError):
        return None
    sizes = [f.size_bytes for f in files]
    sizes += [f.unpacked_bytes for f in files if f.unpacked_bytes is not None]
    sizes_fit = all(type(size) is int and size >= 0 for size in sizes)
    texts_fit = all(isinstance(f.path, str) for f in files) and isinstance(listing.revision, str)
    names = (*OF_WHOLE, *_NEWER_TEXTS, "xetHash")
    texts_fit &= all(isinstance(f.get(name), str | None) for f in raw["files"] for name in names)
    if not sizes_fit or not texts_fit or listing_fault([f.path for f in files]):
        return None
    return listing


@dataclass(frozen=True, slots=True)
class InodeUse:
    """One inode under the root: counted once, whoever links it. `digest` if it is also a blob."""

    size_bytes: int
    owners: frozenset[Owner]
    digest: Digest | None = None

    @property
    def place(self) -> str:
        """The first of `PLACES` that holds it."""
        held = {owner.partition("/")[0] for owner in self.owners}
        return next((place for place in PLACES if place in held), ORPHANS)


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """What `slots/<key>` holds.

    `manifest` is None when there is none or it cannot be read; `agrees` says that every file of
    the manifest is in `content` with its size and nothing else is; `ready_since` is unix seconds.
    """

    manifest: Manifest | None = None
    has_content: bool = False
    agrees: bool = False
    is_quarantined: bool = False
    ready_since: float = 0.0
    status: SlotStatus | None = None

    @property
    def is_ready(self) -> bool:
        """Whether pods may use the slot (design: *Ready* means …)."""
        return self.has_content and self.agrees and not self.is_quarantined


@dataclass(frozen=True, slots=True)
class StagingFacts:
    """What `staging/<key>` holds. Complete: verified and linked, only publishing is missing."""

    listing: Listing | None = None
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something on disk that is not as it should be: where (relative to the root), and what."""

    path: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything under the cache root, from one scan."""

    slots: Mapping[Key, SlotFacts] = field(default_factory=dict)
    staging: Mapping[Key, StagingFacts] = field(default_factory=dict)
    inodes: tuple[InodeUse, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Disk:
    """The filesystem under the root. `available_bytes` excludes what is reserved for uid 0."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class FillProgress:
    """A fill's child process at work. `reserved_bytes` is what it was promised.

    `is_set_aside`: the disk counts all of that as taken already.
    """

    key: Key
    state: ModelState
    reserved_bytes: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_per_second: int = 0
    is_set_aside: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """The last end of a fill, or an eviction that the disk refused.

    `retry_at` and `failed_at` are in the seconds of `Observation.now`. `doubts_listing`: what was
    fetched is not what the source listed, so that it is asked again, which of the two is wrong.
    """

    reason: FillFailure
    message: str
    retry_at: float
    attempts: int = 1
    is_of_eviction: bool = False
    doubts_listing: bool = False
    failed_at: float = 0.0

    def holds_back(self, now: float) -> bool:
        """Whether it is too early for the next try; a clock that was set back delays none."""
        return self.failed_at <= now < self.retry_at
