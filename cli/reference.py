"""Writes docs/cli.md from the program: `python -m cli.reference > docs/cli.md`.

Each command's own help, and for those that print a document of their own, an example of it as the
command's module gives it. A test compares the file with this.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Final

import typer
from typer.main import get_command

from cli import catalog, doctor, explain, explain_live, ls, plan, verify
from cli.__main__ import app

EXAMPLES: Final[Mapping[str, str]] = {
    "larder catalog validate": catalog.JSON_EXAMPLE,
    "larder doctor": doctor.JSON_EXAMPLE,
    "larder explain": explain_live.JSON_EXAMPLE,
    "larder explain --file": explain.JSON_EXAMPLE,
    "larder ls": ls.JSON_EXAMPLE,
    "larder plan": plan.JSON_EXAMPLE,
    "larder verify": verify.JSON_EXAMPLE,
}
_WIDTH: Final = 100
_INTRODUCTION: Final = """\
# The `larder` command

Exit status of every command: 0 fine, 1 a problem was found, 2 wrong use (one sentence on standard
error says which). `--output json` prints exactly one document on standard output. Its keys stay
what they are; others may be added. What is unknown is `null`, sizes are bytes, and text that came
from a disk or a pod is escaped. Colour is for terminals, and `NO_COLOR` turns it off.

This page is made from the program by `python -m cli.reference > docs/cli.md`.
"""


def reference() -> str:
    """The whole page."""
    command = get_command(app)
    context = typer.Context(
        command, info_name="larder", terminal_width=_WIDTH, **command.context_settings
    )
    return "\n".join([_INTRODUCTION, *_sections(context)])


def _sections(context: typer.Context) -> Iterator[str]:
    """One command and those below it, by name."""
    path, command = context.command_path, context.command
    yield f"## `{path}`\n\n```text\n{command.get_help(context)}\n```\n"
    for form in ("", " --file"):
        if example := EXAMPLES.get(path + form):
            heading = f"That of `{path}{form}`, and of each `explanation`" if form else "Its JSON"
            yield f"{heading}:\n\n```json\n{example}\n```\n"
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield from _sections(
            typer.Context(below, info_name=name, parent=context, terminal_width=_WIDTH)
        )


if __name__ == "__main__":
    sys.stdout.write(reference())
