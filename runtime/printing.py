"""Lines and tables for people, and values as JSON: how a program prints what it found.

Names, paths and URIs come from disks and pods of others, so nothing of them may act: characters
that a terminal obeys, or that reorder what is read, are shown as escapes, and no text is taken for
markup.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from larder.quantities import format_bytes

Cell = str | Text

_UNLIMITED_WIDTH: Final = 100_000  # a pipe has no edge to wrap at


def clean(text: str) -> str:
    """A text on one line, in which whatever is not printable stands as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def console_on(stream: TextIO, *, is_terminal: bool = False, is_plain: bool = True) -> Console:
    """Where lines and tables go. Strings are neither markup nor highlighted."""
    return Console(
        file=stream,
        color_system=None if is_plain else "auto",
        force_terminal=is_terminal,
        width=None if is_terminal else _UNLIMITED_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )


def styled(text: str, style: str) -> Text:
    """A cell or line with a colour; its text is cleaned."""
    return Text(clean(text), style=style)


def say(out: Console, line: Cell = "") -> None:
    """Print one line, however long."""
    out.print(_cell(line), soft_wrap=True)


def show_table(
    out: Console,
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    right: frozenset[str] = frozenset(),
) -> None:
    """Print rows under headers; the columns in `right` are figures. Without rows, nothing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        is_figure = header in right
        table.add_column(
            header,
            justify="right" if is_figure else "left",
            no_wrap=is_figure,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    if table.row_count:
        out.print(table)


def as_json(value: object) -> object:
    """Frozen values as what `json` writes; keys of dataclasses in camelCase."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {_camel(f.name): as_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def in_bytes(size_bytes: int | None) -> str:
    """Bytes for people, or nothing."""
    return "" if size_bytes is None else format_bytes(size_bytes)


def counted(count: int, thing: str) -> str:
    """`1 model`, `2 models`."""
    return f"{count} {thing}" + ("" if count == 1 else "s")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _cell(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(clean(cell))
