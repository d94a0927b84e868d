"""A cache root in a temporary directory, stocked the way a fill's child stocks it."""

import hashlib
import stat
import threading
from pathlib import Path

from agent.planning.values import Inventory, Listing, RemoteFile
from agent.store import at, blobs
from agent.store.inventory import scan
from agent.store.root import CacheRoot
from agent.store.store import Store
from larder.layout import Digest, Key
from larder.manifest import Manifest, ManifestFile, make_manifest
from runtime.clock import ManualClock

IRIS = Key("89da10faf446bbf1")
QWEN = Key("52a2d80d4bc5fa16")
LLAMA = Key("0123456789abcdef")
PROGRAM = b"print('hit')\n"
SHARED = b"a tokenizer that two models share"
IRIS_FILES = {"model.joblib": b"iris", "deep/down/config.json": b"{}", "tokenizer": SHARED}
QWEN_FILES = {"weights.bin": b"w" * 5000, "tokenizer": SHARED, "empty": b""}


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def manifest_of(key: Key, files: dict[str, bytes]) -> Manifest:
    listed = [ManifestFile(path, len(data), digest_of(data)) for path, data in files.items()]
    return make_manifest(f"hf://larder/{key}", "c0ffee", listed)


def listing_of(key: Key, files: dict[str, bytes]) -> Listing:
    listed = [RemoteFile(path, len(data), digest_of(data)) for path, data in sorted(files.items())]
    return Listing(f"hf://larder/{key}", "c0ffee", tuple(listed))


def open_root(path: Path) -> CacheRoot:
    return CacheRoot.open(
        path,
        allow_any_disk=True,
        clock=ManualClock(),
        stop=threading.Event(),
        lock_wait_seconds=0.0,
    )


class StockedRoot:
    """A root with its store, and the moves that are not the store's: those of a fill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = open_root(path)
        self.store = Store(self.root)

    def close(self) -> None:
        self.root.close()

    def reopen(self) -> None:
        """What a restart of the agent does; the last process is gone with its handles."""
        self.root.close()
        self.root = open_root(self.path)
        self.store = Store(self.root)

    def scan(self) -> Inventory:
        return scan(self.root.fd)

    def slot(self, key: Key) -> Path:
        return self.path / "slots" / key

    def staging(self, key: Key) -> Path:
        return self.path / "staging" / key

    def blob(self, data: bytes) -> Path:
        digest = digest_of(data)
        return self.path / "blobs" / "sha256" / digest[:2] / digest

    def trash(self) -> list[str]:
        return sorted(entry.name for entry in (self.path / "trash").iterdir())

    def stage(self, key: Key, files: dict[str, bytes]) -> Manifest:
        """A finished fill: listing, partial files that became blobs, tree, manifest."""
        manifest = manifest_of(key, files)
        with (
            at.opened(self.root.fd, ("staging", key), create=True) as staging_fd,
            at.opened(staging_fd, ("partial",), create=True) as partial_fd,
            at.opened(staging_fd, ("tree",), create=True) as tree_fd,
        ):
            at.write_atomically(staging_fd, "listing.json", listing_of(key, files).text().encode())
            for number, file in enumerate(manifest.files):
                at.write_atomically(partial_fd, str(number), files[file.path])
                blobs.add_blob(self.root.fd, partial_fd, str(number), file.sha256, file.size_bytes)
                assert blobs.link_blob(
                    self.root.fd, file.sha256, file.size_bytes, tree_fd, file.path
                )
                at.unlink(partial_fd, str(number))
            at.sync_tree(staging_fd, "tree")
            at.write_atomically(staging_fd, "manifest", manifest.text().encode())
        return manifest

    def quarantine(self, key: Key) -> None:
        (self.slot(key) / "quarantined").touch()

    def publish(self, key: Key, files: dict[str, bytes]) -> Manifest:
        self.store.ensure_slot(key, PROGRAM)
        self.stage(key, files)
        return self.store.publish(key)

    def evict(self, key: Key) -> int:
        assert self.store.take_aside(key)
        return self.store.evict_aside(key)


def snapshot(path: Path) -> dict[str, tuple[object, ...]]:
    """Every entry below a path: kind, mode, size, time of change, links, and what it says."""
    entries: dict[str, tuple[object, ...]] = {}
    for entry in [path, *sorted(path.rglob("*"))]:
        found = entry.lstat()
        says: object = None
        if stat.S_ISREG(found.st_mode):
            says = entry.read_bytes()
        elif stat.S_ISLNK(found.st_mode):
            says = str(entry.readlink())
        size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
        entries[str(entry)] = (found.st_mode, size, found.st_mtime_ns, found.st_nlink, says)
    return entries


def assert_nothing_half_visible(path: Path) -> None:
    """P2, checked without any code of the store: content is exactly what its manifest says."""
    for slot in (path / "slots").iterdir():
        content = slot / "content"
        if not content.exists():
            continue
        _, _, *lines = (slot / "manifest").read_text().splitlines()
        said = {}
        for line in lines:
            digest, size, name = line.split(" ", 2)
            said[name] = (digest, int(size))
        found = {}
        for file in content.rglob("*"):
            mode = file.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode), file
            if stat.S_ISREG(mode):
                data = file.read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                found[str(file.relative_to(content))] = (digest, len(data))
        assert found == said, slot
