"""What a hub holds: repositories with branches, commits and files, each file with its digests.

As on the Hugging Face Hub, a large or binary file is an LFS file, known by the SHA-256 of its
content; any other is known by its git blob id. A file's name is not checked: a hostile hub is one
of the things this one plays.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Entry = dict[str, object]
"""One file or directory of a listing, as the Hub writes it in JSON."""

LFS_FROM_BYTES: Final = 10 * 1000 * 1000
LFS_SUFFIXES: Final = (".safetensors", ".bin", ".gguf", ".joblib", ".pt", ".pth", ".onnx", ".h5")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a commit. `sha256` is None unless it is an LFS file."""

    content: bytes | Path
    size: int
    blob_id: str
    sha256: str | None

    @classmethod
    def of(cls, path: str, content: bytes | Path) -> "HubFile":
        """Read the content once for its digest. A file on disk must not change afterwards."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if size < LFS_FROM_BYTES and not path.endswith(LFS_SUFFIXES):
            plain = content if isinstance(content, bytes) else content.read_bytes()
            return cls(content, size, git_blob_id(plain), None)
        sha256 = _sha256(content)
        return cls(content, size, git_blob_id(_lfs_pointer(sha256, size)), sha256)

    @property
    def etag(self) -> str:
        """What the Hub's ETag says, without quotes."""
        return self.sha256 or self.blob_id

    def tree_entry(self, path: str) -> Entry:
        """The file in a listing: the SHA-256 is called `lfs.oid`."""
        entry: Entry = {"type": "file", "path": path, "size": self.size, "oid": self.blob_id}
        if self.sha256 is not None:
            pointer_bytes = len(_lfs_pointer(self.sha256, self.size))
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": pointer_bytes}
        return entry

    def sibling(self, path: str) -> Entry:
        """The file in a model's description: here the SHA-256 is called `lfs.sha256`."""
        entry: Entry = {"rfilename": path, "size": self.size, "blobId": self.blob_id}
        if self.sha256 is not None:
            pointer_bytes = len(_lfs_pointer(self.sha256, self.size))
            entry["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": pointer_bytes}
        return entry


@dataclass(frozen=True, slots=True)
class Commit:
    """The files at one moment. `hash` follows from them and from the commits before."""

    hash: str
    files: Mapping[str, HubFile]

    def tree(self) -> list[Entry]:
        """Every directory and file, sorted by path."""
        directories = {parent for path in self.files for parent in _parents(path)}
        entries = {path: _directory_entry(path) for path in directories}
        entries |= {path: file.tree_entry(path) for path, file in self.files.items()}
        return [entries[path] for path in sorted(entries)]


class Repo:
    """A model's repository. `private`: unseen without one of `tokens`; `gated`: seen, not given.

    >>> repo = Repo({"config.json": b"{}", "model.safetensors": Path("/data/model.safetensors")})
    >>> first = repo.branches["main"]
    >>> second = repo.commit({"config.json": b"[]"})       # main moves; first can still be had
    """

    def __init__(
        self,
        files: Mapping[str, bytes | Path],
        *,
        private: bool = False,
        gated: bool = False,
        tokens: tuple[str, ...] = (),
    ) -> None:
        self.private = private
        self.gated = gated
        self.tokens = tokens
        self.branches: dict[str, str] = {}
        self.commits: dict[str, Commit] = {}
        self.commit(files)

    @classmethod
    def from_directory(cls, directory: Path) -> "Repo":
        """A public repository of every file below a directory, read where it lies."""
        return cls(dict(_files_below(directory)))

    def commit(self, files: Mapping[str, bytes | Path], branch: str = "main") -> str:
        """Make these files the newest commit of a branch; returns its 40 hex digits."""
        held = {path: HubFile.of(path, content) for path, content in sorted(files.items())}
        digest = hashlib.sha1(self.branches.get(branch, "").encode(), usedforsecurity=False)
        for path, file in held.items():
            digest.update(b"\0%b\0%b" % (path.encode(), file.etag.encode()))
        commit = Commit(digest.hexdigest(), held)
        self.commits[commit.hash] = commit
        self.branches[branch] = commit.hash
        return commit.hash

    def resolve(self, revision: str) -> Commit | None:
        """The commit that a branch or a full commit hash names."""
        return self.commits.get(self.branches.get(revision, revision))


def repos_below(directory: Path) -> dict[str, Repo]:
    """A repository for every `owner/model` folder below a directory."""
    folders = sorted(folder for folder in directory.glob("*/*") if folder.is_dir())
    return {"/".join(folder.parts[-2:]): Repo.from_directory(folder) for folder in folders}


def git_blob_id(content: bytes) -> str:
    """What `git hash-object` says."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _lfs_pointer(sha256: str, size: int) -> bytes:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return text.encode()


def _directory_entry(path: str) -> Entry:
    return {"type": "directory", "path": path, "size": 0, "oid": git_blob_id(path.encode())}


def _parents(path: str) -> Iterator[str]:
    while "/" in path.strip("/"):
        path = path.rpartition("/")[0]
        yield path


def _files_below(directory: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            file = Path(folder, name)
            yield file.relative_to(directory).as_posix(), file
