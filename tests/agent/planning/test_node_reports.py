"""The cluster is told what the slots say."""

from dataclasses import replace

from agent.planning.node_reports import node_labels, node_report
from agent.planning.plan import Observation
from agent.planning.values import Disk, Failure, InodeUse, Inventory
from agent.planning.wishes import Limits, Wanted, Wishes
from larder.contract import FillFailure
from larder.layout import Key
from larder.node_report import ModelReport
from larder.status import ModelState, SlotStatus

A, B, C, D = (Key(letter * 16) for letter in "abcd")
SEEN = Observation(
    0.0,
    Wishes({A: Wanted(A, "llama"), B: Wanted(B, "qwen")}, Limits(1000, 0), groups=("h100",)),
    Inventory(inodes=(InodeUse(7, frozenset({f"slots/{A}"})), InodeUse(3, frozenset()))),
    Disk(5000, 4000),
    failures={B: Failure(FillFailure.ACCESS_DENIED, "the hub wants a token", 60.0)},
)
STATUSES = {
    B: SlotStatus(ModelState.FAILED, reason="AccessDenied"),
    A: SlotStatus(ModelState.DOWNLOADING, 3, 5, 10, 1, 5, revision="c" * 40),
    C: SlotStatus(ModelState.READY),
    D: SlotStatus(ModelState.ABSENT),
}


def test_a_report_says_what_the_slots_say_and_why_fills_failed() -> None:
    report = node_report("gpu-7", SEEN, STATUSES, ())
    assert (report.budget_bytes, report.used_bytes) == (1000, 10)
    assert (report.disk_bytes, report.disk_available_bytes) == (5000, 4000)
    assert report.node_groups == ("h100",)
    assert report.models[:2] == (
        ModelReport(A, "llama", ModelState.DOWNLOADING, None, None, "c" * 40, 5, 10, 1, 5),
        ModelReport(B, "qwen", ModelState.FAILED, "AccessDenied", "the hub wants a token"),
    )


def test_a_failure_that_is_over_is_not_told() -> None:
    statuses = {B: SlotStatus(ModelState.QUEUED)}
    assert node_report("n", SEEN, statuses, ()).models[0].message is None


def test_an_unknown_catalog_is_told_with_its_problems() -> None:
    report = node_report("n", replace(SEEN, wishes=None), STATUSES, ("line 1: bad",))
    assert (report.budget_bytes, report.catalog_problems) == (0, ("line 1: bad",))
    assert (report.models[0].name, report.node_groups) == (None, None)


def test_labels_are_of_states_that_have_one() -> None:
    assert node_labels(node_report("n", SEEN, STATUSES, ())) == {
        f"model.larder.dev/{A}": "filling",
        f"model.larder.dev/{B}": "failed",
        f"model.larder.dev/{C}": "ready",
    }
