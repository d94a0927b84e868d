"""The manifest: what is in a slot's `content`, and where it came from.

    1
    source hf://meta-llama/Llama-3.1-8B-Instruct 0e9e39f249a16976918f6564b8830bc894c89659
    2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae 3 config.json
    …

Text, so that a shell can read it and `sha256sum` can nearly check it. Line 1 is the format's
version; line 2 names the storage URI and what it was resolved to (a commit, or a digest over a
listing); then a line a file, `sha256 size path`, sorted by path as bytes. A path is relative, has
no `.` or `..`, no empty part, no control character, and each part fits a file name of 255 bytes
(`path_fault` says what is wrong with one): what a source lists is hostile until it passed here.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from larder.layout import Digest, is_digest

VERSION: Final = "1"
_NAME_MAX_BYTES: Final = 255
_PATH_MAX_BYTES: Final = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True, order=True)
class ManifestFile:
    """One file of a model. `path` is relative to `content`, with `/` between parts."""

    path: str
    size_bytes: int
    sha256: Digest


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a slot holds. `files` are sorted by path as UTF-8 bytes, without duplicates."""

    storage_uri: str
    revision: str
    files: tuple[ManifestFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, counted by path (a content linked twice counts twice)."""
        return sum(f.size_bytes for f in self.files)

    def text(self) -> str:
        """The file's content."""
        lines = [VERSION, f"source {self.storage_uri} {self.revision}"]
        lines += [f"{f.sha256} {f.size_bytes} {f.path}" for f in self.files]
        return "\n".join(lines) + "\n"


def make_manifest(storage_uri: str, revision: str, files: Iterable[ManifestFile]) -> Manifest:
    """Build a manifest with its files in order. Raises `ValueError` for what cannot be written."""
    listed = tuple(files)
    if fault := listing_fault([f.path for f in listed]):
        raise ValueError(fault)
    if not re.fullmatch(r"[^\n]+", storage_uri) or not re.fullmatch(r"[^\s]+", revision):
        raise ValueError(f"source {storage_uri!r} {revision!r} does not fit one line")
    return Manifest(storage_uri, revision, tuple(sorted(listed, key=lambda f: f.path.encode())))


def parse_manifest(text: str) -> Manifest:
    """Read a manifest. Raises `ValueError` with one sentence when it is not one of ours."""
    if not text.endswith("\n"):
        raise ValueError("the manifest ends in the middle of a line")
    version, *rest = text[:-1].split("\n")
    if version != VERSION:
        raise ValueError(f"manifest version {version[:20]!r} is not {VERSION!r}")
    if not rest:
        raise ValueError("the manifest has no source line")
    word, _, source = rest[0].partition(" ")
    storage_uri, _, revision = source.rpartition(" ")
    if word != "source" or not storage_uri or not revision:
        raise ValueError(f"line 2 is not 'source URI REVISION': {rest[0][:200]!r}")
    files = tuple(_parse_file(number, line) for number, line in enumerate(rest[1:], start=3))
    paths = [f.path for f in files]
    if fault := listing_fault(paths):
        raise ValueError(fault)
    if paths != sorted(paths, key=str.encode):
        raise ValueError("the manifest's files are not sorted by path")
    return Manifest(storage_uri, revision, files)


def _parse_file(number: int, line: str) -> ManifestFile:
    digest, _, rest = line.partition(" ")
    size, _, path = rest.partition(" ")
    if not is_digest(digest) or not _SIZE.fullmatch(size):
        raise ValueError(f"line {number} is not 'SHA256 SIZE PATH': {line[:200]!r}")
    return ManifestFile(path, int(size), Digest(digest))


def path_fault(path: str) -> str | None:
    """What makes a path from outside unfit to be a file below `content`, or None."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return f"path {path!r} is not valid Unicode"
    if len(encoded) > _PATH_MAX_BYTES:
        return f"path {path[:60]!r}… is longer than {_PATH_MAX_BYTES} bytes"
    if _CONTROL.search(path):
        return f"path {path!r} holds a control character"
    if path.startswith("/"):
        return f"path {path!r} is absolute"
    for part in path.split("/"):
        if part in {"", ".", ".."}:
            return f"path {path!r} has the part {part!r}"
        if len(part.encode()) > _NAME_MAX_BYTES:
            return f"path {path[:60]!r}… has a name longer than {_NAME_MAX_BYTES} bytes"
    return None


def listing_fault(paths: Sequence[str]) -> str | None:
    """What makes a set of paths unfit to be one tree, or None: a bad path, a duplicate, a clash.

    A path may not be both a file and a directory. Names that only some filesystems fold into one
    are found when the tree is built (a second create of one name is refused there).
    """
    seen: set[str] = set()
    directories: set[str] = set()
    for path in paths:
        if fault := path_fault(path):
            return fault
        if path in seen:
            return f"path {path!r} is listed twice"
        seen.add(path)
        parent = path.rpartition("/")[0]
        while parent and parent not in directories:
            directories.add(parent)
            parent = parent.rpartition("/")[0]
    clash = sorted(seen & directories)
    return f"path {clash[0]!r} is both a file and a directory" if clash else None
