"""`larder plan` prints the agent's own plan, beside the agent, and does none of it."""

import json
from pathlib import Path

import pytest
from cli_cases import (
    LLAMA,
    LLAMA_FILES,
    QWEN,
    STRAY,
    TREE,
    CacheRoots,
    Run,
    larder,
    shape_fault,
    snapshot,
)

from agent.planning.plan import (
    Cancel,
    DeferReason,
    Deferred,
    Evict,
    EvictReason,
    Fill,
    Observation,
    Plan,
    Publish,
    Resolve,
)
from agent.planning.values import Disk, Inventory
from agent.planning.wishes import Node
from cli.plan import JSON_EXAMPLE, UNKNOWN, report_of
from larder.status import ModelState, SlotStatus


def plan(catalog: Path, roots: CacheRoots, *more: str) -> Run:
    command = ("plan", "--catalog", catalog, "--cache-root", roots.path, "--node-name", "n1")
    return larder(*command, *more)


def test_what_is_missing_is_resolved_and_what_is_too_much_at_once_is_deferred(
    catalog: Path, empty: CacheRoots
) -> None:
    run = plan(catalog, empty, "-o", "json")
    assert run.status == 0
    assert shape_fault(run.json, json.loads(JSON_EXAMPLE)) is None
    assert run.json["actions"] == [
        {"action": "Resolve", "key": QWEN, "name": "qwen", "sizeBytes": None, "reason": "Listed"}
    ]
    assert run.json["deferred"] == [
        {"key": TREE, "name": "tree", "sizeBytes": 0, "reason": "ConcurrencyLimit"}
    ]
    assert run.json["unknown"] == list(UNKNOWN)


def test_the_table_has_actions_deferrals_budget_and_what_is_unknown(
    catalog: Path, empty: CacheRoots
) -> None:
    run = plan(catalog, empty, "--budget", "1Gi")
    assert (run.status, run.err) == (0, "")
    lines = [line.split() for line in run.out.splitlines()]
    assert ["1", "Resolve", "qwen", QWEN, "Listed"] in lines
    assert ["tree", TREE, "0", "B", "ConcurrencyLimit"] in lines
    assert "budget 1 GiB, 1 GiB of it free after that" in run.out
    assert "not known here: fills in flight" in run.out


def test_a_nodes_labels_choose_its_groups(catalog: Path, empty: CacheRoots) -> None:
    run = plan(catalog, empty, "--node-label", "size=big", "-o", "json")
    assert {a["name"] for a in run.json["deferred"]} == {"llama", "tree"}
    assert run.json["budgetBytes"] == 1024**3


def test_an_unlisted_model_past_its_time_is_evicted(catalog: Path, stocked: CacheRoots) -> None:
    stocked.publish(STRAY, {"a": b"x" * 10})
    stocked.say(STRAY, SlotStatus(ModelState.READY, unlisted_since=1))
    run = plan(catalog, stocked, "-o", "json")
    assert run.status == 0
    gone = [a for a in run.json["actions"] if a["action"] == "Evict"]
    assert gone == [
        {"action": "Evict", "key": STRAY, "name": None, "sizeBytes": 10, "reason": "Unlisted"}
    ]


def test_nothing_to_do_is_said(tmp_path: Path, stocked: CacheRoots) -> None:
    catalog = tmp_path / "none.yaml"
    catalog.write_text("apiVersion: larder.dev/v1alpha1\nkind: Catalog\n")
    run = plan(catalog, stocked)
    assert run.status == 0
    assert "nothing to do" in run.out


def test_a_bad_catalog_plans_nothing_and_is_a_problem(tmp_path: Path, stocked: CacheRoots) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: Catalog\n")
    run = plan(bad, stocked)
    assert run.status == 1
    assert "catalog: line 1: the catalog lacks the required key 'apiVersion'" in run.out
    assert "without a good catalog nothing is planned" in run.out
    document = plan(bad, stocked, "-o", "json").json
    assert (document["actions"], document["budgetBytes"]) == ([], None)
    assert document["catalogProblems"]


def test_planning_changes_nothing(catalog: Path, stocked: CacheRoots) -> None:
    stocked.publish(STRAY, {"a": b"x" * 10})
    before = snapshot(stocked.path)
    plan(catalog, stocked)
    assert snapshot(stocked.path) == before


def test_every_kind_of_action_and_deferral_is_told() -> None:
    seen = Observation(now=0.0, wishes=None, inventory=Inventory(), disk=Disk(10, 5))
    planned = Plan(
        actions=(
            Resolve(QWEN),
            Fill(LLAMA, 7),
            Publish(TREE),
            Cancel(STRAY),
            Evict(STRAY, EvictReason.ROOM_NEEDED, 9),
        ),
        deferred=(Deferred(LLAMA, DeferReason.IN_USE, 3),),
    )
    report = report_of(Node("n1", {}), seen, planned, ())
    assert [(s.action, s.size_bytes, s.reason) for s in report.actions] == [
        ("Resolve", None, "Listed"),
        ("Fill", 7, "Listed"),
        ("Publish", None, "Listed"),
        ("Cancel", None, "Unlisted"),
        ("Evict", 9, "RoomNeeded"),
    ]
    assert [(d.key, d.reason, d.size_bytes) for d in report.deferred] == [(LLAMA, "InUse", 3)]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        pytest.param(["--budget", "much"], "larder: --budget 'much' is neither", id="a budget"),
        pytest.param(["--node-label", "=x"], "larder: --node-label '=x' is not", id="a label"),
    ],
)
def test_options_that_are_unfit_are_wrong_use(
    more: list[str], sentence: str, catalog: Path, stocked: CacheRoots
) -> None:
    run = plan(catalog, stocked, *more)
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith(sentence)


def test_a_published_models_files_are_no_news(catalog: Path, stocked: CacheRoots) -> None:
    names = {a["name"] for a in plan(catalog, stocked, "-o", "json").json["actions"]}
    assert "qwen" not in names
    assert LLAMA_FILES
