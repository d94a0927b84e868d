"""`staging/<key>` as a fill's child uses it: the listing, and the tree that becomes content.

    listing.json   what is to be fetched; replacing it by another throws the rest away
    tree/          one hard link to a blob for each finished file
    manifest       written last, when all of tree/ is synced: with it the staging is complete

A tree that an earlier run began is continued, so that its blobs are never without a link; one that
does not fit the listing is made anew.
"""

import os
from pathlib import PurePosixPath
from typing import Final

from agent.planning.values import Listing, RemoteFile, parse_listing
from agent.store import at
from agent.store.blobs import link_blob
from agent.store.tree import Tree, parsed, read_file, read_tree
from larder.errors import SourceDriftedError
from larder.layout import (
    LISTING,
    MANIFEST,
    PARTIAL,
    PARTS,
    TREE,
    Digest,
    blob_path,
)
from larder.manifest import Manifest

LISTING_MAX_BYTES: Final = 56 * 1024 * 1024  # six times as much in memory, of 400 MB


def read_listing(staging_fd: int) -> Listing | None:
    """The listing that is there, if it can be read."""
    return parsed(parse_listing, read_file(staging_fd, LISTING, LISTING_MAX_BYTES))


def write_listing(staging_fd: int, listing: Listing) -> None:
    """Put a listing in place; whatever was fetched for another one goes first.

    Raises `SourceDriftedError` for one that is too large to be read again.
    """
    if read_listing(staging_fd) == listing:
        return
    text = listing.text()  # ASCII; not while another listing is in memory, for each may be large
    if len(text) > LISTING_MAX_BYTES:
        raise SourceDriftedError(
            f"the listing has {len(text)} bytes; accepted: up to {LISTING_MAX_BYTES}"
        )
    at.unlink(staging_fd, MANIFEST)
    for name in (PARTS, PARTIAL, TREE):
        at.remove_tree(staging_fd, name)
    at.write_atomically(staging_fd, LISTING, text.encode())


class StagedTree:
    """`tree/` while it grows."""

    def __init__(self, root_fd: int, staging_fd: int, listing: Listing) -> None:
        self._root_fd = root_fd
        self._staging_fd = staging_fd
        at.unlink(staging_fd, MANIFEST)
        found = read_tree(staging_fd, TREE)
        if not _fits(found, listing):
            at.remove_tree(staging_fd, TREE)
            found = Tree()
        self._found = found.files
        self._fd = at.open_directory(staging_fd, (TREE,), create=True)

    def link(self, file: RemoteFile, digest: Digest) -> bool:
        """Link a blob to a file's path, if it is not yet; False if there is no such blob.

        Raises `SourceDriftedError` for a path that this filesystem takes for another's.
        """
        found = self._found.pop(file.path, None)
        if found is not None:
            if self._is_blob(found, digest):
                return True
            path = PurePosixPath(file.path)
            with at.opened(self._fd, path.parent) as parent_fd:
                at.unlink(parent_fd, path.name)
        try:
            return link_blob(self._root_fd, digest, file.size_bytes, self._fd, file.path)
        except FileExistsError as error:
            raise SourceDriftedError(
                f"path {file.path!r} and another of the model are one name on this filesystem"
            ) from error

    def complete(self, manifest: Manifest) -> None:
        """Sync all names, then write the manifest."""
        fans = {blob_path(file.sha256).parent for file in manifest.files}
        for fan in sorted(fans):
            with at.opened(self._root_fd, fan) as fd:
                at.sync_directory(fd)
        at.sync_tree(self._staging_fd, TREE)
        at.sync_directory(self._staging_fd)
        at.write_atomically(self._staging_fd, MANIFEST, manifest.text().encode())

    def close(self) -> None:
        """Close the directory."""
        os.close(self._fd)

    def _is_blob(self, found: os.stat_result, digest: Digest) -> bool:
        path = blob_path(digest)
        try:
            with at.opened(self._root_fd, path.parent) as fd:
                blob = at.look(fd, path.name)
        except FileNotFoundError:
            return False
        return blob is not None and (blob.st_dev, blob.st_ino) == (found.st_dev, found.st_ino)


def _fits(tree: Tree, listing: Listing) -> bool:
    """Whether all of a tree is of a listing."""
    sizes = {file.path: file.size_bytes for file in listing.files}
    parents = {str(p) for path in sizes for p in PurePosixPath(path).parents}
    return (
        not tree.faults
        and tree.directories <= parents
        and all(sizes.get(path) == found.st_size for path, found in tree.files.items())
    )
