"""YAML is read without trusting it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.yaml_tree import MAX_BYTES, MAX_DEPTH, YamlFault, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("", None, id="an empty file is nothing"),
        pytest.param("a: on", {"a": "on"}, id="on is text"),
        pytest.param("a: yes", {"a": "yes"}, id="yes is text"),
        pytest.param("a: true", {"a": True}, id="true is true"),
        pytest.param("a: True", {"a": "True"}, id="True is text"),
        pytest.param("a: false", {"a": False}, id="false is false"),
        pytest.param("a: null\nb: ~\nc:", {"a": None, "b": None, "c": None}, id="three nulls"),
        pytest.param("a: 010", {"a": "010"}, id="a leading zero makes text"),
        pytest.param("a: 0x10", {"a": "0x10"}, id="hexadecimal is text"),
        pytest.param("a: 12:30", {"a": "12:30"}, id="a time of day is text"),
        pytest.param("a: 2026-01-02", {"a": "2026-01-02"}, id="a date is text"),
        pytest.param("a: 1.5", {"a": "1.5"}, id="a fraction is text"),
        pytest.param("a: 1e3", {"a": "1e3"}, id="an exponent is text"),
        pytest.param("a: -7", {"a": -7}, id="a decimal integer is a number"),
        pytest.param("a: '7'", {"a": "7"}, id="a quoted number is text"),
        pytest.param("a: 'true'", {"a": "true"}, id="a quoted true is text"),
        pytest.param("a: !!str true", {"a": "true"}, id="a word tagged as text is text"),
        pytest.param("a: =", {"a": "="}, id="an equals sign is text"),
        pytest.param("a: |\n  7\n", {"a": "7\n"}, id="a block is text"),
        pytest.param("- [1, {a: b}]", [[1, {"a": "b"}]], id="lists and mappings nest"),
        pytest.param("<<: {a: b}", {"<<": {"a": "b"}}, id="a merge key merges nothing"),
        pytest.param("!!map [1]", [1], id="a tag does not change what the brackets say"),
        pytest.param("a: 99999999999999999999", {"a": "99999999999999999999"}, id="huge is text"),
    ],
)
def test_only_plain_words_and_decimals_are_anything_but_text(text: str, value: object) -> None:
    tree = read_yaml(text.encode())

    assert (tree.value, tree.faults) == (value, [])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(
            b"x" * (10 * 1024 * 1024),
            f"the file has 10485760 bytes; accepted: up to {MAX_BYTES}",
            id="ten megabytes",
        ),
        pytest.param(b"a: b\nc: \xff", "line 2: byte 8 is not UTF-8", id="invalid UTF-8"),
        pytest.param(
            b"[" * 30_000, f"line 1: nested deeper than {MAX_DEPTH} levels", id="brackets"
        ),
        pytest.param(
            b"a: &a [x]\nb: [*a, *a]",
            "line 2: aliases are not accepted; write the value out",
            id="a bomb of aliases",
        ),
        pytest.param(
            b"a: &a [*a]", "line 1: aliases are not accepted; write the value out", id="a cycle"
        ),
        pytest.param(
            b"a: b\n---\nc: d", "line 2: a second document begins; accepted: one a file", id="two"
        ),
        pytest.param(
            b"a: [b\n", "line 2: not YAML: did not find expected ',' or ']'", id="an open bracket"
        ),
        pytest.param(
            b"a:\n\tb: c",
            "line 2: not YAML: found character that cannot start any token",
            id="a tab",
        ),
        pytest.param(
            b"a: \x00",
            "not YAML: unacceptable character #x0000: control characters are not allowed",
            id="a NUL",
        ),
    ],
)
def test_what_cannot_be_read_at_all_is_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(YamlFault) as caught:
        read_yaml(data)

    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "value", "fault"),
    [
        pytest.param(
            "a: 1\nb: 2\na: 3", {"a": 1, "b": 2}, (3, "key 'a' is given twice"), id="twice"
        ),
        pytest.param("? [a]\n: b\nc: 1", {"c": 1}, (1, "a key must be text"), id="a list as key"),
        pytest.param(
            "a: 1\nb: !!binary aGk=",
            {"a": 1, "b": None},
            (2, "tag 'tag:yaml.org,2002:binary' is not accepted"),
            id="a binary value",
        ),
        pytest.param(
            "a: !!python/object/apply:os.system [ls]",
            {"a": None},
            (1, "tag 'tag:yaml.org,2002:python/object/apply:os.system' is not accepted"),
            id="a Python object",
        ),
        pytest.param("!x a: 1", {}, (1, "tag '!x' is not accepted"), id="a tagged key"),
    ],
)
def test_lesser_faults_are_listed_and_the_rest_is_read(
    text: str, value: object, fault: tuple[int, str]
) -> None:
    tree = read_yaml(text.encode())

    assert (tree.value, tree.faults) == (value, [fault])


def test_every_path_has_its_line_and_unknown_ones_that_of_their_parent() -> None:
    tree = read_yaml(b"a:\n  - b: 1\n    c: 2\n  - d\n")

    lines = [tree.line_of(p) for p in [(), ("a",), ("a", 0, "c"), ("a", 1), ("a", 0, "x", 7)]]

    assert lines == [1, 1, 3, 4, 2]


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    try:
        read_yaml(data)
    except YamlFault as fault:
        assert "\n" not in str(fault)


@given(st.text(alphabet="[]{}:,-&*!|>'\"?#ab1 \n\t", max_size=60))
def test_no_text_of_yaml_signs_makes_the_reader_fail_otherwise(text: str) -> None:
    try:
        read_yaml(text.encode())
    except YamlFault as fault:
        assert "\n" not in str(fault)
