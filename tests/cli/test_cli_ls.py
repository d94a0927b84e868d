"""`larder ls` lists what a root holds and costs, beside its agent, and changes nothing."""

import json
from pathlib import Path

import pytest
from cli_cases import (
    ACTING,
    CATALOG,
    LLAMA,
    LLAMA_FILES,
    QWEN,
    QWEN_FILES,
    SHARED,
    STRAY,
    TREE,
    CacheRoots,
    larder,
    shape_fault,
    snapshot,
)
from hypothesis import given
from hypothesis import strategies as st

from agent.planning.values import InodeUse, Listing, RemoteFile, SlotFacts
from cli.listing import state_of, usage_of
from cli.ls import JSON_EXAMPLE
from larder.manifest import Manifest
from larder.status import ModelState, SlotStatus

SIZES = {
    QWEN: sum(map(len, QWEN_FILES.values())),
    LLAMA: sum(map(len, LLAMA_FILES.values())),
}


def test_models_are_listed_with_name_state_size_revision_and_uri(stocked: CacheRoots) -> None:
    stocked.store.save_catalog(CATALOG.encode())
    run = larder("ls", "--cache-root", stocked.path)
    assert (run.status, run.err) == (0, "")
    qwen = next(line.split() for line in run.out.splitlines() if line.startswith("qwen"))
    assert qwen[:3] == ["qwen", QWEN, "Ready"]
    assert qwen[-4:] == ["100", "%", "c540970f9e29", "hf://Qwen/Qwen2-0.5B-Instruct"]


def test_the_json_has_the_documented_shape_and_each_inode_once(stocked: CacheRoots) -> None:
    stocked.store.save_catalog(CATALOG.encode())
    (stocked.path / "slots" / "notes.txt").write_text("hello")
    run = larder("ls", "--cache-root", stocked.path, "--output", "json")
    assert run.status == 0
    assert shape_fault(run.json, json.loads(JSON_EXAMPLE)) is None
    assert [(s["name"], s["bytesTotal"]) for s in run.json["slots"]] == [
        ("llama", SIZES[LLAMA]),
        ("qwen", SIZES[QWEN]),
    ]
    once = SIZES[QWEN] + SIZES[LLAMA] - len(SHARED)
    assert run.json["usage"]["contentBytes"] == run.json["usage"]["totalBytes"] == once
    assert run.json["findings"][0]["path"] == "slots/notes.txt"
    assert 0 < run.json["disk"]["availableBytes"] <= run.json["disk"]["totalBytes"]


def test_a_fill_is_shown_with_its_progress(empty: CacheRoots) -> None:
    status = SlotStatus(
        ModelState.DOWNLOADING,
        bytes_done=1024**2,
        bytes_total=4 * 1024**2,
        rate_bytes_per_second=2048,
        eta_seconds=125,
    )
    empty.say(TREE, status)
    empty.store.save_catalog(CATALOG.encode())
    out = larder("ls", "--cache-root", empty.path).out
    row = next(line for line in out.splitlines() if line.startswith("tree"))
    assert row.split() == [
        "tree", TREE, "Downloading", "4", "MiB", "25", "%", "2", "KiB/s", "2m05s",
        "https://h/tree.zip",
    ]  # fmt: skip


def test_a_fill_of_an_archive_is_shown_with_what_is_done_of_nobody_knows_how_much(
    empty: CacheRoots,
) -> None:
    empty.store.save_catalog(CATALOG.encode())
    archive = RemoteFile("tree.zip", 40, unpacked_bytes=60)
    listing = Listing("https://h/tree.zip", "sha256:c", (archive,))
    staging = empty.path / "staging" / TREE
    staging.mkdir(parents=True)
    (staging / "listing.json").write_text(listing.text())
    empty.say(TREE, SlotStatus(ModelState.QUEUED))
    run = larder("ls", "--cache-root", empty.path, "--output", "json")
    (waiting,) = (s for s in run.json["slots"] if s["key"] == TREE)
    assert (waiting["bytesTotal"], waiting["donePercent"]) == (0, None)
    filling = SlotStatus(ModelState.DOWNLOADING, bytes_done=3 * 1024**2, rate_bytes_per_second=2048)
    empty.say(TREE, filling)
    out = larder("ls", "--cache-root", empty.path).out
    row = next(line for line in out.splitlines() if line.startswith("tree"))
    assert row.split()[2:] == ["Downloading", "3", "MiB", "2", "KiB/s", "https://h/tree.zip"]


def test_a_failed_fill_says_why(empty: CacheRoots) -> None:
    empty.say(TREE, SlotStatus(ModelState.FAILED, reason="AccessDenied"))
    assert f"{TREE}: AccessDenied" in larder("ls", "--cache-root", empty.path).out


def test_a_fill_that_waits_says_for_what(empty: CacheRoots) -> None:
    empty.say(TREE, SlotStatus(ModelState.QUEUED, reason="ConcurrencyLimit"))
    assert f"{TREE}: ConcurrencyLimit" in larder("ls", "--cache-root", empty.path).out


def test_an_empty_root_says_so(empty: CacheRoots) -> None:
    run = larder("ls", "--cache-root", empty.path)
    assert run.status == 0
    assert "no model is here" in run.out


def test_a_kept_catalog_that_is_bad_is_a_finding_and_costs_the_names(stocked: CacheRoots) -> None:
    stocked.store.save_catalog(b"kind: Nonsense")
    run = larder("ls", "--cache-root", stocked.path, "-o", "json")
    assert run.status == 0
    assert run.json["findings"][0]["path"] == "catalog.yaml"
    assert {s["name"] for s in run.json["slots"]} == {None}


def test_looking_changes_nothing(stocked: CacheRoots) -> None:
    before = snapshot(stocked.path)
    larder("ls", "--cache-root", stocked.path)
    assert snapshot(stocked.path) == before


def test_what_a_disk_says_cannot_act_on_a_terminal(stocked: CacheRoots) -> None:
    hostile = "\x1b[31m[red]x[bold]\x9b\u202e\n\udcff"
    (stocked.path / "slots" / hostile).write_text("")
    manifest = Manifest(f"hf://{hostile[:5]}\x07[bold]", "c0ffee", ())
    stocked.content(STRAY).mkdir(parents=True)
    (stocked.slot(STRAY) / "manifest").write_text(manifest.text())
    stocked.say(QWEN, SlotStatus(ModelState.FAILED, reason="\x1b]0;title\x07[bold]"))
    for form in ("table", "json"):
        run = larder("ls", "--cache-root", stocked.path, "-o", form)
        assert run.status == 0
        assert ACTING.search(run.out) is None
        assert "[red]x[bold]" in run.out
        assert "[bold]" in run.out


@pytest.mark.parametrize(
    ("slot", "state"),
    [
        pytest.param(SlotFacts(), "Absent", id="nothing is Absent"),
        pytest.param(
            SlotFacts(has_content=True, agrees=True), "Ready", id="sound content is Ready"
        ),
        pytest.param(
            SlotFacts(status=SlotStatus(ModelState.READY)), "Absent", id="Ready needs content"
        ),
        pytest.param(
            SlotFacts(has_content=True, agrees=True, is_quarantined=True),
            "Quarantined",
            id="a marker is Quarantined",
        ),
        pytest.param(
            SlotFacts(has_content=True, status=SlotStatus(ModelState.READY)),
            "Quarantined",
            id="content unlike its manifest is Quarantined, whatever the agent said",
        ),
        pytest.param(
            SlotFacts(status=SlotStatus(ModelState.VERIFYING)),
            "Verifying",
            id="without content the agent's word counts",
        ),
    ],
)
def test_a_slots_state_is_what_the_disk_shows(slot: SlotFacts, state: str) -> None:
    assert state_of(slot) == state


OWNERS = st.sampled_from(
    ["slots/a", "slots/b", "staging/a", "trash/a.aside", "quarantine/x"],
)


@given(st.lists(st.builds(InodeUse, st.integers(0, 10**12), st.frozensets(OWNERS, max_size=3))))
def test_totals_count_every_inode_once(inodes: list[InodeUse]) -> None:
    usage = usage_of(inodes)
    parts = (
        usage.content_bytes,
        usage.staging_bytes,
        usage.trash_bytes,
        usage.quarantine_bytes,
        usage.orphan_bytes,
    )
    assert sum(parts) == usage.total_bytes == sum(i.size_bytes for i in inodes)
    assert usage.content_bytes == sum(
        i.size_bytes for i in inodes if {"slots/a", "slots/b"} & i.owners
    )


def test_a_root_that_holds_no_cache_is_wrong_use(tmp_path: Path) -> None:
    run = larder("ls", "--cache-root", tmp_path)
    assert (run.status, run.out) == (2, "")
    assert run.err == f"larder: cache root {tmp_path} holds no cache: it has no layout.json\n"
    assert list(tmp_path.iterdir()) == []
