"""What the commands print: tables or one JSON document, and one sentence for wrong use.

How lines and tables look is `runtime.printing`'s. Colour is for terminals, and NO_COLOR turns it
off.
"""

import json
import os
import sys
from typing import Final, NoReturn

import typer
from rich.console import Console

from runtime.printing import (
    as_json,
    clean,
    console_on,
    counted,
    in_bytes,
    say,
    show_table,
    styled,
)

__all__ = [
    "FOUND_A_PROBLEM",
    "WRONG_USE",
    "as_json",
    "clean",
    "console",
    "counted",
    "in_bytes",
    "refuse",
    "say",
    "show_json",
    "show_table",
    "styled",
]

FOUND_A_PROBLEM: Final = 1
WRONG_USE: Final = 2
_PROGRAM: Final = "larder"
_DELETE: Final = "\x7f"


def refuse(message: str) -> NoReturn:
    """End a command over wrong use: one sentence, exit status 2."""
    typer.echo(f"{_PROGRAM}: {clean(message)}", err=True)
    raise typer.Exit(WRONG_USE)


def console(*, stderr: bool = False) -> Console:
    """Where a command prints."""
    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream.isatty()
    is_plain = not is_terminal or bool(os.environ.get("NO_COLOR"))
    return console_on(stream, is_terminal=is_terminal, is_plain=is_plain)


def show_json(document: object) -> None:
    """Print a value as one JSON document, in ASCII; dataclasses become objects with camelCase."""
    text = json.dumps(as_json(document), indent=2)
    typer.echo(text.replace(_DELETE, "\\u007f"))
