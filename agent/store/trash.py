"""On its way out: whatever goes is renamed into `trash/` first, so that it goes at one instant.

trash/<key>.aside        content taken aside by an eviction that is not decided yet
trash/<key>.evicted-<n>  its content after the decision; being removed
trash/staging-<key>-<n>  trash/slot-<key>-<n>   being removed
trash/foreign-<key>-<n>  content that was in a slot without a manifest; kept until the next
                         start, so that somebody can look at it
"""

import itertools
import stat

from agent.store import at
from larder.layout import TRASH


def move(root_fd: int, src_fd: int, name: str, label: str) -> str:
    """Rename something into trash as `<label>-<n>` with the first free n; returns that name."""
    found = at.look(src_fd, name)
    if found is not None and stat.S_ISDIR(found.st_mode) and not found.st_mode & stat.S_IWUSR:
        at.set_mode(src_fd, name, 0o755)  # a directory that changes its parent is written to
    with at.opened(root_fd, (TRASH,)) as trash_fd:
        for number in itertools.count():
            try:
                at.rename_noreplace(src_fd, name, trash_fd, f"{label}-{number}")
            except FileExistsError:
                continue
            at.sync_directory(trash_fd)
            at.sync_directory(src_fd)
            return f"{label}-{number}"
    raise AssertionError("unreachable: a number is always free")


def remove(root_fd: int, name: str) -> int:
    """Remove one entry of the trash; returns the bytes that frees."""
    with at.opened(root_fd, (TRASH,)) as trash_fd:
        return at.remove_tree(trash_fd, name)


def discard(root_fd: int, src_fd: int, name: str, label: str) -> int:
    """`move` and `remove`: gone at one instant, whatever is interrupted; nothing there is fine."""
    if at.look(src_fd, name) is None:
        return 0
    return remove(root_fd, move(root_fd, src_fd, name, label))
