"""Settings of a program: flags and variables from one declaration, a sentence for a bad one."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp

WRONG_USE: Final = 2

T = TypeVar("T", bound=BaseSettings)


def read_settings(settings: type[T], arguments: Sequence[str]) -> T:
    """Read a program's settings from its arguments and its environment.

    Ends the process: status 0 after `--help` or `--version`, `WRONG_USE` with a line a mistake.
    """
    program = settings.model_config.get("cli_prog_name") or settings.__name__
    if "--version" in arguments:
        sys.stdout.write(f"{program} {version('larder')}\n")
        raise SystemExit(0)
    try:
        return CliApp.run(settings, cli_args=list(arguments))
    except ValidationError as error:
        for mistake in error.errors(include_url=False, include_input=False):
            flag = "--" + str(mistake["loc"][0]).replace("_", "-")
            message = mistake["msg"].removeprefix("Value error, ").removeprefix("Input ")
            if mistake["type"] == "missing":
                message = "is required"
            sys.stderr.write(f"{program}: {flag}: {message}\n")
        raise SystemExit(WRONG_USE) from None


def refuse(program: str, sentence: str, status: int = WRONG_USE) -> NoReturn:
    """End a program that cannot start, with one sentence."""
    sys.stderr.write(f"{program}: {sentence}\n")
    raise SystemExit(status)
