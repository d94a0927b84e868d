"""The page of all reasons is what the program says, whole."""

import re

import pytest
from cli_cases import REPOSITORY

from cli.reasons_page import page
from larder.contract import DecisionReason, EventReason, FillFailure, RunReason

WRITTEN = (REPOSITORY / "docs" / "reasons.md").read_text()


def test_the_page_of_the_reasons_is_current() -> None:
    assert page() == WRITTEN, "run: python -m cli.reasons_page > docs/reasons.md"


@pytest.mark.parametrize("heading", ["At admission", "On the node", "Failures of fills", "Events"])
def test_every_section_has_every_code_once_with_its_meaning_and_its_cure(heading: str) -> None:
    lists = {
        "At admission": DecisionReason,
        "On the node": RunReason,
        "Failures of fills": FillFailure,
        "Events": EventReason,
    }
    section = WRITTEN.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", section, flags=re.MULTILINE)
    assert [code for code, _, _ in rows] == list(lists[heading])
    assert all(cell.endswith(".") for row in rows for cell in row[1:])
