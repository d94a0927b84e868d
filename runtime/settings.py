"""Settings of a program: flags and variables from one declaration, one sentence for a wrong one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Final, NoReturn, TypeVar

from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, SettingsConfigDict

from runtime.version import version_text

WRONG_USE: Final = 2


def _usable_root(root: PurePosixPath) -> PurePosixPath:
    if not root.is_absolute() or ".." in root.parts:  # the API server refuses such a hostPath
        raise ValueError(f"{str(root)!r} is not accepted; accepted: an absolute path without '..'")
    return root


HostRoot = Annotated[PurePosixPath, AfterValidator(_usable_root)]
"""A directory of every node that pods mount."""


class ProgramSettings(BaseSettings):
    """What the settings of all programs have in common; each adds its prefix of variables."""

    model_config = SettingsConfigDict(
        cli_kebab_case=True,
        cli_hide_none_type=True,
        use_attribute_docstrings=True,
        frozen=True,
        hide_input_in_errors=True,
    )


T = TypeVar("T", bound=ProgramSettings)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        refuse(self.prog, f"{message}; see {self.prog} --help")


def refuse(program: str, message: str) -> NoReturn:
    """End a program that cannot start: one sentence, exit status 2."""
    sys.stderr.write(f"{program}: {message}\n")
    raise SystemExit(WRONG_USE)


def read_settings(settings: type[T], program: str, arguments: Sequence[str]) -> T:
    """The settings from flags, then from variables. Wrong ones end the program.

    The class's docstring is the program's description.
    """
    parser = _Parser(prog=program, description=settings.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{program} {version_text()}")
    source = CliSettingsSource[argparse.ArgumentParser](settings, root_parser=parser)
    try:
        return CliApp.run(settings, list(arguments), cli_settings_source=source)
    except ValidationError as error:
        refuse(program, f"{'; '.join(_sentences(error))}; see {program} --help")


def _sentences(error: ValidationError) -> list[str]:
    return [
        _flag(fault["loc"]) + _clause(fault["type"], fault["msg"])
        for fault in error.errors(include_url=False, include_input=False)
    ]


def _flag(place: tuple[int | str, ...]) -> str:
    """The flag that is at fault; nothing where several together are."""
    return f"--{str(place[0]).replace('_', '-')} " if place else ""


def _clause(fault: str, message: str) -> str:
    if fault == "missing":
        return "is required"
    clause = message.removeprefix("Value error, ").removeprefix("Input ")
    return clause[:1].lower() + clause[1:]
