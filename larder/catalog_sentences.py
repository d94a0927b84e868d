"""Mistakes of a catalog as sentences: where it is, what is wrong, what is accepted.

An admin reads these, so no word of the validator's gets through, no secret is quoted, and a
hostile document cannot make one sentence long or the report endless.
"""

import re
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from larder.yaml_tree import Path, YamlTree

MAX_PROBLEMS: Final = 100
_MAX_CHARACTERS: Final = 600
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_./-]{1,63}")

NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
TIME_OF_DAY_PATTERN: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
REPOSITORY_PATTERN: Final = r"^[^\s:@]+(:[0-9]+/[^\s:@]+)?$"
ENTRYPOINT_PATTERN: Final = r"^/[^\s$]*$"
REVISION_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,254}$"
DIGEST_PATTERN: Final = r"^sha256:[0-9a-f]{64}$"

_PATTERNS_IN_WORDS: Final = {
    NAME_PATTERN: "lower-case letters, digits, '-' and '.', with a letter or digit at both ends",
    TIME_OF_DAY_PATTERN: "a time of day like 08:00, in quotes",
    REPOSITORY_PATTERN: "an image without tag or digest",
    ENTRYPOINT_PATTERN: "an absolute path without white space or '$'",
    REVISION_PATTERN: "a commit, branch or tag",
    DIGEST_PATTERN: "sha256: and 64 lower-case hex digits",
}

_CLAUSES: Final = {
    "model_type": "is not a mapping",
    "dict_type": "is not a mapping",
    "list_type": "is not a list",
    "string_type": "is not text",
    "int_type": "is not a whole number",
    "bool_type": "is neither true nor false",
    "too_short": "is empty; accepted: {min_length} or more",
    "too_long": "is too long; accepted: up to {max_length} characters",
    "greater_than_equal": "is too small; accepted: {ge} or more",
    "less_than_equal": "is too large; accepted: up to {le}",
    "literal_error": "is not accepted; accepted: {expected}",
    "value_error": "is wrong: {error}",
}
UNION_TAGS: Final = frozenset({"(bytes)", "(hours)"})
"""Names of union members: they are in a validator's paths, and not in the document's."""


def explain(model: type[BaseModel], detail: ErrorDetails) -> tuple[Path, str]:
    """One of the validator's errors as a path of the document and a clause."""
    where = tuple(p for p in detail["loc"] if p not in UNION_TAGS)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            accepted = ", ".join(sorted(_keys_at(model, where[:-1])))
            return where, f"is an unknown key; accepted: {accepted}"
        case "missing":
            return where[:-1], f"lacks the required key {where[-1]!r}"
        case "string_pattern_mismatch":
            words = _PATTERNS_IN_WORDS[context["pattern"]]
            return where, f"is not accepted; accepted: {words}"
        case kind:
            return where, _CLAUSES.get(kind, "is not accepted").format(**context)


def report(tree: YamlTree, faults: list[tuple[Path, str]]) -> tuple[str, ...]:
    """Every fault, the tree's own too, as a sentence with its line, in document order."""
    found = [
        *tree.faults,
        *((tree.line_of(path), f"{dotted(path)} {text}") for path, text in faults),
    ]
    sentences = [_clipped(f"line {line}: {text}") for line, text in sorted(found)]
    hidden = len(sentences) - MAX_PROBLEMS
    if hidden > 0:
        return (*sentences[:MAX_PROBLEMS], f"and {hidden} more mistakes")
    return tuple(sentences)


def dotted(path: Path) -> str:
    """A path as an admin would write it: `models[0].name`; odd keys are quoted."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{_plain(p)}" for p in path)
    return text.removeprefix(".") or "the catalog"


def _plain(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else repr(key)


def _clipped(sentence: str) -> str:
    """A sentence without its middle where it is too long: what is accepted stands at the end."""
    half = _MAX_CHARACTERS // 2
    return sentence if len(sentence) <= 2 * half else f"{sentence[:half]} … {sentence[-half:]}"


def _keys_at(model: type[BaseModel], where: Path) -> list[str]:
    """The keys that are accepted at a path of the document."""
    current: Any = model
    for part in where:
        if isinstance(part, str):
            fields = {f.alias or n: f for n, f in current.model_fields.items()}
            current = fields[part].annotation
        current = _part_inside(current)
    return [f.alias or name for name, f in current.model_fields.items()]


def _part_inside(annotation: Any) -> Any:
    """The model class in `X`, `X | None`, `list[X]` or unions of them."""
    if get_origin(annotation) is None:
        is_part = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return annotation if is_part else None
    inside = (_part_inside(arg) for arg in get_args(annotation))
    return next((c for c in inside if c is not None), None)
