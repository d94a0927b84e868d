"""`larder verify` finds every way in which a published slot can differ, and changes nothing."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_cases import (
    ACTING,
    LLAMA,
    LLAMA_FILES,
    QWEN,
    QWEN_FILES,
    SHARED,
    STRAY,
    CacheRoots,
    larder,
    shape_fault,
    snapshot,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.verification import Verdict, Verifier, bytes_to_hash, published_keys
from cli.verify import JSON_EXAMPLE

ONCE = sum(map(len, (*QWEN_FILES.values(), *LLAMA_FILES.values()))) - len(SHARED)


def write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def replace(path: Path, data: bytes) -> None:
    """Another inode under the name, so that models that share the old one keep it."""
    path.unlink()
    path.write_bytes(data)


def test_sound_slots_are_intact_and_each_inode_is_hashed_once(stocked: CacheRoots) -> None:
    run = larder("verify", "--cache-root", stocked.path, "-o", "json")
    assert run.status == 0
    assert shape_fault(run.json, json.loads(JSON_EXAMPLE)) is None
    assert run.json["isIntact"] is True
    assert {s["key"]: s["verdict"] for s in run.json["slots"]} == {QWEN: "Intact", LLAMA: "Intact"}
    assert run.json["hashedBytes"] == ONCE
    assert "no damage in 2 slots" in larder("verify", "--cache-root", stocked.path).out


def test_what_will_be_hashed_is_known_before(stocked: CacheRoots) -> None:
    keys = published_keys(stocked.root.fd)
    advanced: list[int] = []
    verifier = Verifier(stocked.root.fd, advanced.append)
    assert [verifier.verify(key).verdict for key in keys] == [Verdict.INTACT, Verdict.INTACT]
    assert bytes_to_hash(stocked.root.fd, (*keys, STRAY)) == sum(advanced) == ONCE


def test_only_the_named_slots_are_verified(stocked: CacheRoots) -> None:
    write(stocked.content(LLAMA) / "model.bin", b"n" * 300)
    named = larder("verify", "--cache-root", stocked.path, QWEN, "-o", "json")
    assert (named.status, [s["key"] for s in named.json["slots"]]) == (0, [QWEN])
    assert larder("verify", "--cache-root", stocked.path, LLAMA).status == 1
    assert larder("verify", "--cache-root", stocked.path).status == 1


Harm = Callable[[CacheRoots], object]


@pytest.mark.parametrize(
    ("harm", "path", "fault"),
    [
        pytest.param(
            lambda r: (r.content(QWEN) / "config.json").unlink(),
            "content/config.json", "Missing", id="a file is missing",
        ),
        pytest.param(
            lambda r: (r.content(QWEN) / "extra").write_text("x"),
            "content/extra", "Extra", id="a file is extra",
        ),
        pytest.param(
            lambda r: (r.content(QWEN) / "more").mkdir(),
            "content/more", "Extra", id="a directory is extra",
        ),
        pytest.param(
            lambda r: write(r.content(QWEN) / "config.json", b"{} "),
            "content/config.json", "WrongSize", id="a file has grown",
        ),
        pytest.param(
            lambda r: write(r.content(QWEN) / "config.json", b"[]"),
            "content/config.json", "WrongDigest", id="a file has other bytes of the same number",
        ),
        pytest.param(
            lambda r: (
                (r.content(QWEN) / "config.json").unlink(),
                (r.content(QWEN) / "config.json").symlink_to("/etc/passwd"),
            ),
            "content/config.json", "NotAFile", id="a file became a link",
        ),
        pytest.param(
            lambda r: (
                (r.content(QWEN) / "deep").rename(r.path / "elsewhere"),
                (r.content(QWEN) / "deep").symlink_to(r.path / "elsewhere"),
            ),
            "content/deep", "NotAFile", id="a directory became a link to where its files are",
        ),
        pytest.param(
            lambda r: (
                (r.content(QWEN) / "config.json").unlink(),
                os.mkfifo(r.content(QWEN) / "config.json"),
            ),
            "content/config.json", "NotAFile", id="a file became a pipe",
        ),
        pytest.param(
            lambda r: (
                r.content(QWEN).rename(r.path / "aside"),
                r.content(QWEN).symlink_to(r.path / "aside"),
            ),
            "content", "NotAFile", id="content became a link to where it is",
        ),
        pytest.param(
            lambda r: (r.slot(QWEN) / "manifest").unlink(),
            "manifest", "NoManifest", id="the manifest is missing",
        ),
        pytest.param(
            lambda r: (r.slot(QWEN) / "manifest").write_text("2\n"),
            "manifest", "NoManifest", id="the manifest cannot be read",
        ),
        pytest.param(
            lambda r: (r.slot(QWEN) / "quarantined").touch(),
            "quarantined", "Quarantined", id="the slot is quarantined",
        ),
    ],
)  # fmt: skip
def test_every_difference_is_told_alone_by_path_and_kind(
    stocked: CacheRoots, harm: Harm, path: str, fault: str
) -> None:
    harm(stocked)
    before = snapshot(stocked.path)
    run = larder("verify", "--cache-root", stocked.path, "-o", "json")
    assert run.status == 1
    assert run.json["isIntact"] is False
    found = {s["key"]: s["damages"] for s in run.json["slots"]}
    assert [(d["path"], d["fault"]) for d in found[QWEN]] == [(f"slots/{QWEN}/{path}", fault)]
    assert found[LLAMA] == []
    shown = larder("verify", "--cache-root", stocked.path)
    assert shown.status == 1
    assert f"{fault}: slots/{QWEN}/{path} " in shown.out
    assert snapshot(stocked.path) == before


def test_a_file_that_cannot_be_read_is_told(
    stocked: CacheRoots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", fail)  # root reads whatever the modes say; a bad disk is this
    run = larder("verify", "--cache-root", stocked.path, LLAMA, "-o", "json")
    assert run.status == 1
    faults = {(d["fault"], d["sentence"]) for d in run.json["slots"][0]["damages"]}
    assert faults == {("Unreadable", "cannot be read: Input/output error")}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_any_file_is_found(stocked: CacheRoots, data: st.DataObject) -> None:
    files = [
        (key, path, content)
        for key, listed in ((QWEN, QWEN_FILES), (LLAMA, LLAMA_FILES))
        for path, content in listed.items()
        if content
    ]
    key, path, content = data.draw(st.sampled_from(files))
    place = data.draw(st.integers(0, len(content) - 1))
    bit = data.draw(st.integers(0, 7))
    file = stocked.content(key) / path
    flipped = bytearray(content)
    flipped[place] ^= 1 << bit
    write(file, bytes(flipped))
    try:
        run = larder("verify", "--cache-root", stocked.path, "-o", "json")
    finally:
        write(file, content)
    harmed = {
        d["path"].partition("/content/")[2]: d["fault"]
        for s in run.json["slots"]
        for d in s["damages"]
    }
    assert (run.status, harmed) == (1, {path: "WrongDigest"})
    linked_by = {s["key"] for s in run.json["slots"] if s["damages"]}
    assert linked_by == ({QWEN, LLAMA} if content == SHARED else {key})


def test_an_inode_of_another_model_is_not_taken_for_this_ones(stocked: CacheRoots) -> None:
    other = stocked.content(LLAMA) / "tokenizer"
    replace(other, SHARED.upper())
    run = larder("verify", "--cache-root", stocked.path, "-o", "json")
    assert {s["key"]: len(s["damages"]) for s in run.json["slots"]} == {QWEN: 0, LLAMA: 1}


@pytest.mark.parametrize("leaves", ["content", "slot"])
def test_a_slot_that_is_evicted_meanwhile_is_gone_and_not_damaged(
    stocked: CacheRoots, leaves: str
) -> None:
    def evict(_: int) -> None:
        if stocked.content(QWEN).exists():
            stocked.store.take_aside(QWEN)
            stocked.store.evict_aside(QWEN)
            if leaves == "slot":
                stocked.store.remove_slot(QWEN)

    assert Verifier(stocked.root.fd, evict).verify(QWEN).verdict is Verdict.GONE
    assert Verifier(stocked.root.fd).verify(QWEN).verdict is Verdict.GONE


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        pytest.param("../..", "'../..' is not a slot's key", id="a path is no key"),
        pytest.param(STRAY, f"slot {STRAY} holds no model", id="an unknown key"),
    ],
)
def test_a_slot_that_is_not_there_is_wrong_use(
    stocked: CacheRoots, key: str, sentence: str
) -> None:
    run = larder("verify", "--cache-root", stocked.path, key)
    assert (run.status, run.out) == (2, "")
    assert sentence in run.err


def test_names_on_the_disk_cannot_act_on_a_terminal(stocked: CacheRoots) -> None:
    (stocked.content(QWEN) / "\x1b[2J[red]\u202e\udcff").write_text("")
    for form in ("table", "json"):
        run = larder("verify", "--cache-root", stocked.path, "-o", form)
        assert run.status == 1
        assert ACTING.search(run.out) is None
        assert "[red]" in run.out
