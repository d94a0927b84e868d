"""What the command line's tests share: a run of a command, a catalog, a stocked cache root."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from agent.store import at, blobs
from agent.store.root import CacheRoot
from agent.store.store import Store
from cli.__main__ import app
from larder.catalog import read_catalog
from larder.layout import Digest, Key
from larder.manifest import ManifestFile, make_manifest
from larder.status import ModelState, SlotStatus
from runtime.clock import ManualClock

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests" / "recorded"
COMMIT = "c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
CATALOG = f"""
apiVersion: larder.dev/v1alpha1
kind: Catalog
defaults: {{fills: {{maxConcurrent: 1}}}}
nodeGroups:
- {{name: big, nodeSelector: {{matchLabels: {{size: big}}}}, budget: 1Gi}}
models:
- {{name: qwen, storageUri: "hf://Qwen/Qwen2-0.5B-Instruct", revision: {COMMIT}, namespaces: [chat], priority: 1}}
- {{name: llama, storageUri: "hf://org/llama", revision: main, namespaces: [chat], nodeGroups: [big]}}
- {{name: tree, storageUri: "https://h/tree.zip", namespaces: [chat], maxSize: 1Gi}}
"""  # noqa: E501 - an entry a line reads best
QWEN, LLAMA, TREE = (m.key for m in read_catalog(CATALOG.encode(), standalone=True).models)
STRAY = Key("0123456789abcdef")
SHARED = b"a tokenizer that two models share"
QWEN_FILES = {"config.json": b"{}", "deep/down/weights.bin": b"w" * 5000, "tokenizer": SHARED}
LLAMA_FILES = {"model.bin": b"m" * 300, "tokenizer": SHARED, "empty": b""}


@dataclass(frozen=True)
class Run:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def larder(*arguments: object, stdin: str | bytes | None = None, **variables: str) -> Run:
    result = CliRunner().invoke(app, [*map(str, arguments)], input=stdin, env=variables)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Run(result.exit_code, result.stdout, result.stderr)


@dataclass
class CacheRoots:
    """A cache root as an agent and its fills leave it."""

    path: Path
    root: CacheRoot = field(init=False)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.root = CacheRoot.open(
            self.path, allow_any_disk=True, clock=ManualClock(), stop=threading.Event()
        )
        self.store = Store(self.root)

    def slot(self, key: Key) -> Path:
        return self.path / "slots" / key

    def content(self, key: Key) -> Path:
        return self.slot(key) / "content"

    def publish(self, key: Key, files: dict[str, bytes], uri: str = "hf://org/any") -> None:
        listed = [
            ManifestFile(path, len(data), Digest(hashlib.sha256(data).hexdigest()))
            for path, data in files.items()
        ]
        manifest = make_manifest(uri, COMMIT, listed)
        self.store.ensure_slot(key, b"print()\n")
        with (
            at.opened(self.root.fd, ("staging", key), create=True) as staging_fd,
            at.opened(staging_fd, ("tree",), create=True) as tree_fd,
        ):
            for file in manifest.files:
                at.write_atomically(staging_fd, "partial", files[file.path])
                blobs.add_blob(self.root.fd, staging_fd, "partial", file.sha256, file.size_bytes)
                blobs.link_blob(self.root.fd, file.sha256, file.size_bytes, tree_fd, file.path)
                at.unlink(staging_fd, "partial")
            at.write_atomically(staging_fd, "manifest", manifest.text().encode())
        self.store.publish(key)
        size_bytes = manifest.size_bytes
        self.say(key, SlotStatus(ModelState.READY, bytes_done=size_bytes, bytes_total=size_bytes))

    def say(self, key: Key, status: SlotStatus) -> None:
        self.store.ensure_slot(key, b"print()\n")
        self.store.write_status(key, status)

    def close(self) -> None:
        self.root.close()


def snapshot(path: Path) -> dict[str, tuple[object, ...]]:
    """Every entry below a path, and all that a change of it would change."""
    entries: dict[str, tuple[object, ...]] = {}
    for entry in (path, *sorted(path.rglob("*"))):
        found = entry.lstat()
        data = entry.read_bytes() if entry.is_file() and not entry.is_symlink() else b""
        entries[str(entry)] = (found.st_mode, found.st_ino, found.st_mtime_ns, data)
    return entries


def shape_fault(value: Any, example: Any, where: str = "document") -> str | None:
    """How a document differs in shape from the example that its command gives, or None."""
    if isinstance(value, dict) and isinstance(example, dict):
        if value.keys() != example.keys():
            return f"{where} has the keys {sorted(value)} instead of {sorted(example)}"
        faults = (shape_fault(v, example[k], f"{where}.{k}") for k, v in value.items())
        return next((f for f in faults if f), None)
    if isinstance(value, list) and isinstance(example, list):
        if value and not example:
            return f"{where} is a list of which the example shows no item"
        faults = (shape_fault(item, example[0], f"{where}[]") for item in value)
        return next((f for f in faults if f), None)
    if value is None or example is None or type(value) is type(example):
        return None
    return f"{where} is {value!r} where the example has {example!r}"


ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys; lines end in newlines."""
