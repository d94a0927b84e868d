"""What crosses from one program to another keeps its meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.contract import (
    INITIALIZER_COMMAND,
    INITIALIZER_SCRIPT,
    DecisionReason,
    EventReason,
    FillFailure,
    RunReason,
    SlotMount,
    format_slots,
    parse_slots,
    slot_mount_path,
)

fields = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), max_size=30)
mounts = st.builds(SlotMount, fields, fields, fields, fields)

ROW = SlotMount("hf://o/m", slot_mount_path("89da10faf446bbf1"), "", "hf://o/m:abc")


def test_the_variable_is_version_then_a_line_a_uri() -> None:
    text = format_slots([ROW])

    assert text == "1\nhf://o/m\t/larder/89da10faf446bbf1\t\thf://o/m:abc\n"


@given(st.lists(mounts, max_size=5))
def test_the_variable_reads_back_as_written(rows: list[SlotMount]) -> None:
    assert parse_slots(format_slots(rows)) == tuple(rows)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("2\nhf://o/m\t/larder/x\t\thf://o/m\n", id="a version of the future"),
        pytest.param("01\n", id="a version that looks like ours"),
        pytest.param("1 \n", id="a version with a space"),
        pytest.param("1\n\n", id="an empty row"),
        pytest.param("1\na\tb\tc\n", id="a row of three"),
        pytest.param("1\na\tb\tc\td\te\n", id="a row of five"),
    ],
)
def test_an_unknown_version_or_row_is_none(text: str) -> None:
    assert parse_slots(text) is None


@pytest.mark.parametrize("odd", ["a\tb", "a\nb", "a\rb"])
@pytest.mark.parametrize("field", ["uri", "mount_path", "subpath", "fallback_uri"])
def test_a_field_cannot_forge_a_row(field: str, odd: str) -> None:
    parts = {"uri": "u", "mount_path": "m", "subpath": "s", "fallback_uri": "f", field: odd}

    with pytest.raises(ValueError, match="holds a tab or newline"):
        format_slots([SlotMount(**parts)])


def test_the_command_is_one_line_that_the_kubelet_does_not_expand() -> None:
    shell, option, script, name = INITIALIZER_COMMAND

    assert (shell, option, script, name) == (
        "/bin/sh",
        "-c",
        INITIALIZER_SCRIPT,
        "storage-initializer",
    )
    assert not [trap for trap in ("$(", "$$", "\n") if trap in script]


def test_reason_codes_are_one_closed_list_each() -> None:
    assert len(DecisionReason) == 26
    assert len(RunReason) == 14
    assert len(FillFailure) == 9
    assert len(EventReason) == 10
    assert all(
        reason.value.isalpha()
        for kind in (DecisionReason, RunReason, FillFailure, EventReason)
        for reason in kind
    )
