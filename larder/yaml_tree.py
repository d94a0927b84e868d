"""YAML as plain values with the line of every path, read without trusting it.

A first pass over the events refuses what makes parsers misbehave (aliases, deep nesting, size):
30 KB of `[` kills the C loader, aliases grow without bound when walked. The second pass builds
dicts, lists and scalars: duplicate keys are refused, and only `true`, `false`, `null` and plain
decimal integers are anything but text (YAML 1.1 reads `on`, `010` and dates as something else).
"""

import re
from dataclasses import dataclass, field
from typing import Final

import yaml

YamlValue = str | int | bool | None | list["YamlValue"] | dict[str, "YamlValue"]
Path = tuple[str | int, ...]

MAX_BYTES: Final = 1024 * 1024  # a ConfigMap holds no more
MAX_DEPTH: Final = 20
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_WORDS: Final[dict[str, bool | None]] = {
    "true": True,
    "false": False,
    "null": None,
    "~": None,
    "": None,
}
_TEXT_TAG = "tag:yaml.org,2002:str"
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "bool", "null", "float", "timestamp", "value", "merge")
)
_QUOTED_STYLES = frozenset({"'", '"', "|", ">"})
_COLLECTION_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


class YamlFault(Exception):  # noqa: N818 - it is reported, never seen by a user as an exception
    """YAML that cannot be read at all; `str()` is one sentence with the line."""


@dataclass(slots=True)
class YamlTree:
    """A document, the line (1-based) of each path in it, and the faults found on the way."""

    value: YamlValue = None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """The line of a path, or of the nearest one above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_yaml(data: bytes) -> YamlTree:
    """Read one document. Raises `YamlFault`; lesser faults are listed in the tree."""
    if len(data) > MAX_BYTES:
        raise YamlFault(f"the file has {len(data)} bytes; accepted: up to {MAX_BYTES}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise YamlFault(f"line {line}: byte {error.start} is not UTF-8") from None
    try:
        _refuse_traps(text)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}: "
        raise YamlFault(f"{place}not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise YamlFault(f"not YAML: {str(error).splitlines()[0]}") from None
    tree = YamlTree()
    if node is not None:
        tree.value = _build(node, (), tree)
    return tree


def _refuse_traps(text: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise YamlFault(f"line {line}: aliases are not accepted; write the value out")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlFault(f"line {line}: a second document begins; accepted: one a file")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlFault(f"line {line}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _build(node: yaml.Node, path: Path, tree: YamlTree) -> YamlValue:
    tree.lines.setdefault(path, node.start_mark.line + 1)
    if _has_odd_tag(node, tree):
        return None
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, path, tree)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, i), tree) for i, item in enumerate(node.value)]
    return _scalar(node)


def _has_odd_tag(node: yaml.Node, tree: YamlTree) -> bool:
    if node.tag in _PLAIN_TAGS or node.tag in _COLLECTION_TAGS:
        return False
    tree.faults.append((node.start_mark.line + 1, f"tag {node.tag[:200]!r} is not accepted"))
    return True


def _build_mapping(node: yaml.MappingNode, path: Path, tree: YamlTree) -> dict[str, YamlValue]:
    mapping: dict[str, YamlValue] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            tree.faults.append((line, "a key must be text"))
            continue
        if _has_odd_tag(key_node, tree):
            continue
        key = str(key_node.value)
        if key in mapping:
            tree.faults.append((line, f"key {key[:200]!r} is given twice"))
            continue
        tree.lines[(*path, key)] = line
        mapping[key] = _build(value_node, (*path, key), tree)
    return mapping


def _scalar(node: yaml.Node) -> str | int | bool | None:
    text = str(node.value)
    style = node.style if isinstance(node, yaml.ScalarNode) else None
    if style in _QUOTED_STYLES or node.tag == _TEXT_TAG:  # text, whatever it says
        return text
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _DECIMAL.fullmatch(text) else text
