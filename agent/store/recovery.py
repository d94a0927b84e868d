"""What is put right at start, before anything else: whatever a crash at any instruction left.

In this order, each step safe to interrupt and to repeat:

1. `trash/<key>.aside` goes back to a slot that has its manifest and no content; then the trash is
   emptied, what an earlier start put there as `foreign-*` included.
2. In each slot: leftover temporary files go; `content` without a manifest is not ours and goes to
   `trash/foreign-<key>-<n>`, where it stays until the next start; a manifest or marker without
   content goes; content that is not what the manifest says gets the `quarantined` marker.
3. Staging of unknown shape goes, and that of a slot that is ready (it was published).
4. Blobs that no tree links, and that no listing in staging and no manifest names, go.

What cannot be put right is a finding, never the end of the agent.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from agent.planning.values import Finding, parse_listing
from agent.store import at, blobs, trash
from agent.store.faults import raise_ours
from agent.store.inventory import FOREIGN_PREFIX, STAGING_NAMES
from agent.store.tree import (
    MANIFEST_MAX_BYTES,
    finding,
    parsed,
    read_file,
    read_manifest,
    read_tree,
)
from larder.layout import (
    ASIDE_SUFFIX,
    BLOBS,
    CONTENT,
    LISTING,
    MANIFEST,
    QUARANTINED,
    SLOTS,
    STAGING,
    TRASH,
    Digest,
    is_key,
)


def recover(root_fd: int) -> tuple[Finding, ...]:
    """Put the root right; returns what was not ours, damaged, or could not be put right."""
    findings: list[Finding] = []
    _remove_temporaries(root_fd, findings, ".")
    with at.opened(root_fd, (TRASH,)) as trash_fd, at.opened(root_fd, (SLOTS,)) as slots_fd:
        for name in at.names(trash_fd):
            with _reported(findings, f"{TRASH}/{name}"):
                if not _goes_back(trash_fd, slots_fd, name):
                    at.remove_tree(trash_fd, name)
        for name in at.names(slots_fd):
            with _reported(findings, f"{SLOTS}/{name}"):
                if is_key(name) and at.is_directory(slots_fd, name):
                    _recover_slot(root_fd, slots_fd, name, findings)
        _recover_staging(root_fd, slots_fd, findings)
    _recover_blobs(root_fd, findings)
    return tuple(findings)


@contextmanager
def _reported(findings: list[Finding], path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise_ours(error)
        findings.append(finding(path, f"cannot be put right: {error.strerror}"))


def _remove_temporaries(dir_fd: int, findings: list[Finding], path: str) -> None:
    with _reported(findings, path):
        for name in at.names(dir_fd):
            if at.is_temporary(name):
                at.remove_tree(dir_fd, name)


def _goes_back(trash_fd: int, slots_fd: int, name: str) -> bool:
    """Put content that an eviction left aside back, if its slot still waits for it."""
    key = name.removesuffix(ASIDE_SUFFIX)
    if key == name or not is_key(key) or not at.is_directory(trash_fd, name):
        return False
    if not at.is_directory(slots_fd, key):
        return False
    with at.opened(slots_fd, (key,)) as slot_fd:
        if at.look(slot_fd, MANIFEST) is None or at.look(slot_fd, CONTENT) is not None:
            return False
        at.rename_noreplace(trash_fd, name, slot_fd, CONTENT)
        at.sync_directory(slot_fd)
        at.sync_directory(trash_fd)
    return True


def _recover_slot(root_fd: int, slots_fd: int, key: str, findings: list[Finding]) -> None:
    path = f"{SLOTS}/{key}"
    with at.opened(slots_fd, (key,)) as fd:
        _remove_temporaries(fd, findings, path)
        if at.look(fd, CONTENT) is None:
            at.unlink(fd, MANIFEST)
            at.unlink(fd, QUARANTINED)
        elif at.look(fd, MANIFEST) is None:
            moved = trash.move(root_fd, fd, CONTENT, f"{FOREIGN_PREFIX}{key}")
            sentence = f"had no manifest: it is not Larder's and is in {TRASH}/{moved} now"
            findings.append(finding(f"{path}/{CONTENT}", sentence))
        elif at.look(fd, QUARANTINED) is None and (difference := _difference(fd)):
            at.write_atomically(fd, QUARANTINED, b"")
            findings.append(finding(f"{path}/{CONTENT}", f"is quarantined: {difference}"))


def _difference(slot_fd: int) -> str | None:
    manifest = read_manifest(slot_fd, MANIFEST)
    if manifest is None:
        return "its manifest cannot be read"
    return read_tree(slot_fd, CONTENT).difference(manifest)


def _recover_staging(root_fd: int, slots_fd: int, findings: list[Finding]) -> None:
    with at.opened(root_fd, (STAGING,)) as staging_fd:
        for name in at.names(staging_fd):
            path = f"{STAGING}/{name}"
            with _reported(findings, path):
                fault = _staging_fault(staging_fd, name, findings)
                if fault or _is_ready(slots_fd, name):
                    trash.discard(root_fd, staging_fd, name, "staging")
                if fault:
                    findings.append(finding(path, f"{fault}: it was removed"))


def _staging_fault(staging_fd: int, name: str, findings: list[Finding]) -> str | None:
    if not is_key(name):
        return "is not a staging: its name is not 16 hex digits"
    if not at.is_directory(staging_fd, name):
        return "is not a directory"
    with at.opened(staging_fd, (name,)) as fd:
        _remove_temporaries(fd, findings, f"{STAGING}/{name}")
        unknown = set(at.names(fd)) - STAGING_NAMES
        if unknown:
            return f"holds {min(unknown)!r}, which no fill makes"
    return None


def _is_ready(slots_fd: int, key: str) -> bool:
    if not at.is_directory(slots_fd, key):
        return False
    with at.opened(slots_fd, (key,)) as fd:
        has_content = at.look(fd, CONTENT) is not None and at.look(fd, QUARANTINED) is None
        return has_content and _difference(fd) is None


def _recover_blobs(root_fd: int, findings: list[Finding]) -> None:
    with _reported(findings, BLOBS):
        for fan in blobs.fans(root_fd):
            with at.opened(root_fd, fan) as fd:
                _remove_temporaries(fd, findings, "/".join(fan))
        blobs.collect(root_fd, blobs.all_blobs(root_fd) - _wanted(root_fd))


def _wanted(root_fd: int) -> set[Digest]:
    """What listings in staging and manifests of slots name: fills and repairs will link it."""
    wanted: set[Digest] = set()
    for top in (STAGING, SLOTS):
        with at.opened(root_fd, (top,)) as top_fd:
            for name in at.names(top_fd):
                if at.is_directory(top_fd, name):
                    with at.opened(top_fd, (name,)) as fd:
                        wanted |= _named(fd)
    return wanted


def _named(fd: int) -> set[Digest]:
    manifest = read_manifest(fd, MANIFEST)
    listing = parsed(parse_listing, read_file(fd, LISTING, MANIFEST_MAX_BYTES))
    named = {f.sha256 for f in manifest.files} if manifest else set()
    return named | ({f.sha256 for f in listing.files if f.sha256} if listing else set())
