"""What a test hub can do wrong: actions, and the requests that they befall.

A `Fault` is looked up anew for every request (connections are kept alive and reused, so nothing
may stick to one) and counts its own hits. Several faults may befall one request; a `Status` hides
those that come after it in the list.

    hub.faults.append(Fault(Status(429, headers={"Retry-After": "2"}), kind="head", times=3))
    hub.faults.append(Fault(Cut(after_bytes=1000), path=".safetensors", times=1))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from demo.hub_repos import Entry

Kind = Literal["api", "tree", "head", "get", "xet", "cdn", "other"]
"""`api`: a model's description; `head`, `get`: of a file; `xet`: the token of a store of chunks;
`cdn`: anything at the second origin."""

_ALL: frozenset[Kind] = frozenset({"api", "tree", "head", "get", "xet", "cdn", "other"})
_BODIES: frozenset[Kind] = frozenset({"get", "cdn"})


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with an error instead; the Hub's codes are RepoNotFound, GatedRepo and so on."""

    kinds: ClassVar[frozenset[Kind]] = _ALL
    status: int
    error_code: str | None = None
    message: str = "a fault that was asked for"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Headers:
    """Send other values for these headers, or none at all for those that are None."""

    kinds: ClassVar[frozenset[Kind]] = _ALL
    values: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Listing:
    """Change the list of files, before it is cut into pages; `file_entry` makes an entry."""

    kinds: ClassVar[frozenset[Kind]] = frozenset({"tree"})
    edit: Callable[[list[Entry]], list[Entry]]


@dataclass(frozen=True, slots=True)
class NextPage:
    """Say that the list goes on at this URL."""

    kinds: ClassVar[frozenset[Kind]] = frozenset({"tree"})
    url: str


@dataclass(frozen=True, slots=True)
class Stall:
    """Fall silent after so many bytes of the body, until `hub.release()` or `hub.close()`."""

    kinds: ClassVar[frozenset[Kind]] = _BODIES
    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Drip:
    """Send a few bytes at a time, with a pause after each (which `hub.close()` ends)."""

    kinds: ClassVar[frozenset[Kind]] = _BODIES
    step_bytes: int
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection after so many bytes of the body."""

    kinds: ClassVar[frozenset[Kind]] = _BODIES
    after_bytes: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """Send a shorter body, and a Content-Length that agrees with it."""

    kinds: ClassVar[frozenset[Kind]] = _BODIES
    to_bytes: int


@dataclass(frozen=True, slots=True)
class FlipBit:
    """Change one bit of the byte at this offset of the file."""

    kinds: ClassVar[frozenset[Kind]] = _BODIES
    offset: int


@dataclass(frozen=True, slots=True)
class IgnoreRange:
    """Answer 200 with the whole file, whatever range was asked for."""

    kinds: ClassVar[frozenset[Kind]] = _BODIES


@dataclass(frozen=True, slots=True)
class Gzip:
    """Compress: 200, no range, no length, the end of the connection ends the body."""

    kinds: ClassVar[frozenset[Kind]] = _BODIES


Action = (
    Status
    | Headers
    | Listing
    | NextPage
    | Stall
    | Drip
    | Cut
    | Truncate
    | FlipBit
    | IgnoreRange
    | Gzip
)


@dataclass(slots=True, eq=False)
class Fault:
    """An action and whom it befalls: one kind of request, paths ending so, the first `times`.

    Left out, these mean any kind that the action makes sense for, any path, and for ever.
    """

    action: Action
    kind: Kind | None = None
    path: str = ""
    times: int | None = None
    hits: int = 0

    def befalls(self, kind: Kind, path: str) -> bool:
        """Whether the next request of this kind, for the file at this path, gets the action."""
        return (
            kind in self.action.kinds
            and self.kind in (None, kind)
            and path.endswith(self.path)
            and (self.times is None or self.hits < self.times)
        )


def file_entry(path: str, **changes: object) -> Entry:
    """A believable entry of a listing for an empty file; `changes` replace its fields."""
    empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    return {"type": "file", "path": path, "size": 0, "oid": empty} | changes
