"""Names on disk. Nothing else in Larder spells a file name under the cache root.

    <root>/
      layout.json                schema of this tree, and the oldest reader it allows
      lock                       held by the one agent of this root
      catalog.yaml               the last good catalog
      adopt/                     what the admin wants taken over (a later release reads it)
      slots/<key>/               mounted read-only into pods; never renamed while the model is known
        content/                 appears by one rename, after every byte was verified
        manifest                 see `larder.manifest`; written before content appears
        status.json              see `larder.status`; replaced by rename; what a waiting pod reads
        initializer              the program the pod's init container runs
        quarantined              a marker: the slot must not be used while it is there
      blobs/sha256/<xx>/<digest> one inode a content, hard-linked into every content/ that has it
      staging/<key>/
        lock                     held by the fill's child process
        listing.json             what the source said is to be fetched
        parts                    digests of parts whose data is synced
        partial/<n>              the n-th file of the listing, growing
        xet/                     empty folders that hf-xet wants to have
        tree/                    finished files, linked; becomes content/
        manifest                 of the finished tree; the last thing a fill writes
      trash/                     on its way out
        <key>.aside              content taken aside by an eviction; goes back if it was used
        <anything else>          nobody's any more
      quarantine/                damaged bytes kept for a look, under a cap

Paths are `PurePosixPath`, relative to the root.
"""

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, NewType

Key = NewType("Key", str)
"""First 16 hex digits of the SHA-256 of a model's identity (`larder.identity`)."""

Digest = NewType("Digest", str)
"""A SHA-256 in 64 lower-case hex digits."""

DEFAULT_ROOT: Final = PurePosixPath("/var/lib/larder")
SCHEMA: Final = 1
OLDEST_READER: Final = 1
PART_BYTES: Final = 64 * 1024 * 1024

LAYOUT_FILE: Final = "layout.json"
LOCK_FILE: Final = "lock"
CATALOG_FILE: Final = "catalog.yaml"
ADOPT: Final = "adopt"
SLOTS: Final = "slots"
BLOBS: Final = "blobs"
STAGING: Final = "staging"
TRASH: Final = "trash"
QUARANTINE: Final = "quarantine"
TOP_DIRECTORIES: Final = (SLOTS, BLOBS, STAGING, TRASH, QUARANTINE, ADOPT)

CONTENT: Final = "content"
MANIFEST: Final = "manifest"
STATUS: Final = "status.json"
INITIALIZER: Final = "initializer"
QUARANTINED: Final = "quarantined"

LISTING: Final = "listing.json"
PARTS: Final = "parts"
PARTIAL: Final = "partial"
TREE: Final = "tree"
ARCHIVE: Final = "archive"
XET: Final = "xet"
ASIDE_SUFFIX: Final = ".aside"

_KEY = re.compile(r"[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_key(name: str) -> bool:
    """Whether a directory name can be a slot's."""
    return _KEY.fullmatch(name) is not None


def is_digest(name: str) -> bool:
    """Whether a file name can be a blob's."""
    return _DIGEST.fullmatch(name) is not None


def slot_path(key: Key) -> PurePosixPath:
    """`slots/<key>`: the directory that a pod mounts."""
    return PurePosixPath(SLOTS, key)


def blob_path(digest: Digest) -> PurePosixPath:
    """`blobs/sha256/<xx>/<digest>`."""
    return PurePosixPath(BLOBS, "sha256", digest[:2], digest)


def staging_path(key: Key) -> PurePosixPath:
    """`staging/<key>`."""
    return PurePosixPath(STAGING, key)


@dataclass(frozen=True, slots=True)
class Layout:
    """What `layout.json` says. A reader of schema N may use a tree whose `oldest_reader` <= N."""

    schema: int
    oldest_reader: int

    def text(self) -> str:
        """The file's content, one line of JSON."""
        return json.dumps({"schema": self.schema, "oldestReader": self.oldest_reader}) + "\n"

    @property
    def is_usable(self) -> bool:
        """Whether this release may read and write such a tree."""
        return self.oldest_reader <= SCHEMA


CURRENT: Final = Layout(SCHEMA, OLDEST_READER)


def parse_layout(text: str) -> Layout | None:
    """Read `layout.json`; None if it is not one."""
    try:
        raw = json.loads(text)
        schema, oldest_reader = raw["schema"], raw["oldestReader"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if type(schema) is not int or type(oldest_reader) is not int:
        return None
    return Layout(schema, oldest_reader)
