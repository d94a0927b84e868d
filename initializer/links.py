"""What is made and taken away below a destination that is no fresh directory.

    <destination>/
      a/                real directories, for `os.walk` does not enter linked ones
      a/b.bin           a link into <mount>/content: Larder's, by where it leads
      *.incomplete      what KServe's hub client leaves of a download that was cut off
      anything else     KServe's; stays, unless it is where a link or directory must be

Nothing below a destination is made or removed through a link that is found there.
"""

from __future__ import annotations

import contextlib
import posix
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from initializer.hit import MADE, NotHit, identity, link, look, make_directory, parents
from initializer.watch import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable


class Pair(NamedTuple):
    """A URI of the arguments and where it goes (normalised); its slot, or why there is none."""

    uri: str
    destination: str
    mount: str
    subpath: str
    fallback_uri: str
    refusal: Outcome | None


def attempt(pair: Pair, linked: dict[str, str]) -> Outcome | None:
    """Link a pair whose content is usable now: Hit. None: not yet. Else: why it never will be.

    `linked` holds every link of this run, place to target, and grows with it.
    """
    try:
        before = identity(pair.mount)
        links = look(pair.mount, pair.subpath)
    except NotHit as miss:
        return None if miss.args[0] == "Unreadable" else Outcome(*miss.args)
    except FileNotFoundError:
        return slot_fault(pair.mount)
    except ValueError:  # no manifest of ours: the status tells whether to wait for one
        return None
    except OSError as error:
        return unreadable(error)
    places = {f"{pair.destination}/{name}": target for name, target in links.items()}
    linked.update(places)
    fault = None
    try:
        place(pair, links, linked)
        if identity(pair.mount) == before:
            return Outcome("Hit")
    except FileNotFoundError:
        pass  # content was taken away: as if it had been replaced
    except OSError as error:
        fault = unreadable(error)
    for name in places:
        del linked[name]
    clear(pair.destination, [pair.mount], linked)
    return fault


def slot_fault(mount: str) -> Outcome | None:
    """Return why there is nothing in a slot, if the slot itself is the reason."""
    try:
        posix.stat(mount)
    except FileNotFoundError:
        return Outcome("NoSlot")
    except OSError as error:
        return unreadable(error)
    return None


def unreadable(error: OSError) -> Outcome:
    """Return the outcome of a disk, a permission or a destination that fails."""
    return Outcome("Unreadable", f"{error.strerror}: {error.filename}")


def place(pair: Pair, links: dict[str, str], linked: dict[str, str]) -> None:
    """Make the links that are missing; stale ones of this slot go, and what is in the way."""
    top = Path(pair.destination)
    for directory in reversed(top.parents):
        if not directory.is_dir():
            make_directory(str(directory))
    make_directory(str(top))
    clear(str(top), [pair.mount], linked)
    for name in parents(links):
        parent = top / name
        if parent.is_symlink() or parent.is_file():
            parent.unlink()
    missing = {n: target for n, target in links.items() if read_link(top / n) != target}
    for name in missing:
        with contextlib.suppress(FileNotFoundError):
            (top / name).unlink()
    link(str(top), missing)


def read_link(path: Path) -> str | None:
    """Return where a link leads; None if there is no link."""
    return posix.readlink(path) if path.is_symlink() else None


def clear(top: str, mounts: list[str], keep: dict[str, str]) -> bool:
    """Take Larder's links and `*.incomplete` below a directory away, and what that leaves empty.

    Larder's are the links into one of `mounts`, save those in `keep`, place to target. Returns
    whether anything went; what cannot be removed stays. No link is followed, `top` included.
    """
    went = False
    if Path(top).is_symlink() or not Path(top).is_dir():
        return went
    for name in posix.listdir(top):
        path = f"{top}/{name}"
        with contextlib.suppress(OSError):  # a directory that holds something else, above all
            target = read_link(Path(path))
            if target is not None:
                if is_below(target, mounts) and keep.get(path) != target:
                    posix.unlink(path)
                    went = True
            elif Path(path).is_dir():
                if clear(path, mounts, keep):
                    went = True
                    posix.rmdir(path)
            elif name.endswith(".incomplete"):
                posix.unlink(path)
                went = True
    return went


def clean_up(destinations: Iterable[str], mounts: list[str]) -> None:
    """Leave to the fallback what it would have found without Larder."""
    for destination in destinations:
        with contextlib.suppress(OSError):
            clear(destination, mounts, {})
    for directory in reversed(MADE):
        with contextlib.suppress(OSError):  # it holds something
            posix.rmdir(directory)


def is_below(path: str, tops: Iterable[str]) -> bool:
    """Whether a path is one of the given ones, or below one."""
    return any(path == top or path.startswith(top.rstrip("/") + "/") for top in tops)
