"""The initializer's way of a hit: link a verified model into a pod, or hand over to `wait`.

Every pod compiles this at its start: it is short, and loads nothing that Python does not have at
hand (annotations are quoted, for `__future__` is a file). What is no plain hit raises and goes to
`wait`, whose source `program` carries behind this one. Rules: links go only into an empty
directory; a path out of a manifest never leaves the destination; and if Larder itself fails, the
fallback gets the original arguments.

    <mount>/content/a/b.bin   <--   <destination>/a/b.bin: a link, in a real directory
"""

import posix
import sys
import time

STARTED = time.monotonic()
VERSION = "1"  # of LARDER_SLOTS and of the manifest
FALLBACK = b"/storage-initializer/scripts/initializer-entrypoint"
MADE: "list[str]" = []  # every directory made here, parents first


class NotHit(Exception):  # noqa: N818 - an answer, not an error
    """Why a slot cannot be used: a run-time reason of the contract, then details for the log."""


def decoded(data: bytes) -> str:
    """Return text that names the same files again, whatever the locale."""
    return data.decode(sys.getfilesystemencoding(), "surrogateescape")


def slots() -> "dict[str, tuple[str, str, str]]":
    """Return mount path, subpath and fallback URI by URI. Raises `ValueError` for a bad row."""
    text = decoded(posix.environ.get(b"LARDER_SLOTS", b""))
    version, *rows = text.removesuffix("\n").split("\n")
    if version != VERSION:
        raise NotHit("ContractUnknown", "LARDER_SLOTS is of another version")
    return {uri: (mount, sub, other) for uri, mount, sub, other in (r.split("\t") for r in rows)}


def identity(mount: str) -> "tuple[int, ...]":
    """Return inode and device of `content`: they change when it is taken away or replaced."""
    return posix.stat(mount + "/content")[1:3]


def look(mount: str, subpath: str) -> "dict[str, str]":
    """Return the links a model needs, name to target, once every file of it gave a byte."""
    if posix.access(mount + "/quarantined", posix.F_OK):
        raise NotHit("Quarantined", "")
    with open(mount + "/manifest", "rb") as file:  # noqa: PTH123 - pathlib is not builtin
        version, _source, *rows, end = decoded(file.read()).split("\n")
    if version != VERSION:
        raise NotHit("ContractUnknown", "the manifest is of another version")
    if end:
        raise NotHit("Unreadable", "the manifest is cut short")
    links, whole = {}, subpath.strip("/")
    below = whole and whole + "/"
    for row in rows:
        _digest, size, path = row.split(" ", 2)
        if path == whole:
            name = path.rpartition("/")[2]  # KServe puts a single object under its base name
        elif path.startswith(below):
            name = path[len(below) :]
        else:
            continue
        if any(hostile in f"/{path}/" for hostile in ("//", "/./", "/../")):
            raise NotHit("Unreadable", "the manifest leads out of the model")
        links[name] = target = f"{mount}/content/{path}"
        model = posix.open(target, posix.O_RDONLY)
        size_bytes = posix.fstat(model).st_size
        if size_bytes != int(size) or len(posix.read(model, 1)) != min(size_bytes, 1):
            raise NotHit("Unreadable", f"{path} has not the size of the manifest")
        posix.close(model)
    if not links:
        raise NotHit("NotCached", "the model has nothing there")
    return links


def make_directory(path: str) -> None:
    """Make a directory unless it is there; a link to one does not count."""
    try:
        posix.mkdir(path)
        MADE.append(path)
    except FileExistsError:
        if posix.lstat(path).st_mode >> 12 != 4:  # noqa: PLR2004 - S_IFDIR
            raise


def parents(links: "dict[str, str]") -> "list[str]":
    """Return the directories below which links go, outer ones first."""
    return sorted({name[:i] for name in links for i, letter in enumerate(name) if letter == "/"})


def link(destination: str, links: "dict[str, str]") -> None:
    """Make links, below real directories."""
    for parent in parents(links):
        make_directory(f"{destination}/{parent}")
    for name, target in links.items():
        posix.symlink(target, f"{destination}/{name}")


def hit(arguments: "list[str]") -> None:
    """Link all of the pod's models, parents before children, or raise."""
    if not arguments or len(arguments) % 2:
        raise ValueError(arguments)
    rows = slots()
    for destination, uri in sorted(zip(arguments[1::2], arguments[::2])):
        mount, subpath, _fallback = rows[uri]
        before = identity(mount)
        links = look(mount, subpath)
        place = destination.rstrip("/")
        make_directory(place)
        if posix.listdir(place):
            raise FileExistsError(place)  # an earlier run: `wait` sorts it out
        link(place, links)
        if identity(mount) != before:
            raise NotHit("Evicting", "content was replaced while it was linked")


def write(file: int, text: str) -> None:
    """Write past any buffer that an exec would lose; nobody's start depends on it."""
    try:  # noqa: SIM105 - contextlib is not builtin
        posix.write(file, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def report(word: str) -> None:
    """Say `hit 0.01s` or `joined 42.10s`, in the log and as the container's last message."""
    message = f"{word} {time.monotonic() - STARTED:.2f}s"
    write(1, f"larder: {message}\n")
    path = posix.environ.get(b"LARDER_TERMINATION_LOG") or b"/dev/termination-log"
    try:  # noqa: SIM105 - contextlib is not builtin
        write(posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o644), message)
    except OSError:
        pass


def fall_back(arguments: "list[str]") -> None:
    """Become KServe's own initializer."""
    program = decoded(posix.environ.get(b"LARDER_FALLBACK") or FALLBACK)
    posix.execv(program, [program, *arguments])


def start(siblings: "dict[str, str]") -> None:
    """Run the program: a hit here, all else in `siblings` (source by module, `wait` last)."""
    arguments = sys.argv[1:]
    try:
        try:
            hit(arguments)
            report("hit")
        except Exception:  # noqa: BLE001 - `wait` looks at it again and says what it was
            sys.modules["initializer.hit"] = module = sys.modules["__main__"]
            for name, source in siblings.items():
                sys.modules[name] = module = type(sys)(name)
                exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102 - this very file
            module.main(arguments)
    except Exception:  # noqa: BLE001 - P1: a pod starts as if there were no Larder
        fall_back(arguments)
    posix._exit(0)  # noqa: SLF001 - nothing is buffered; tearing Python down costs a millisecond
