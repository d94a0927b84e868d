import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from stocked_root import (
    IRIS,
    IRIS_FILES,
    LLAMA,
    PROGRAM,
    QWEN,
    QWEN_FILES,
    SHARED,
    StockedRoot,
    digest_of,
    listing_of,
    snapshot,
)

from agent.planning.values import InodeUse, Inventory
from agent.store import at
from agent.store.inventory import scan
from agent.store.recovery import recover
from larder.layout import Key


def test_an_empty_root_is_an_empty_inventory(stocked: StockedRoot) -> None:
    assert stocked.scan() == Inventory()


def test_a_scan_writes_nothing(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.stage(QWEN, QWEN_FILES)
    before = snapshot(stocked.path)
    first = stocked.scan()
    assert snapshot(stocked.path) == before
    assert stocked.scan() == first


def test_each_inode_is_counted_once_with_everybody_who_links_it(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.publish(QWEN, QWEN_FILES)
    inodes = {inode.digest: inode for inode in stocked.scan().inodes}
    both = frozenset({f"slots/{IRIS}", f"slots/{QWEN}"})
    assert inodes == {
        digest_of(SHARED): InodeUse(len(SHARED), both, digest_of(SHARED)),
        digest_of(b"iris"): InodeUse(4, frozenset({f"slots/{IRIS}"}), digest_of(b"iris")),
        digest_of(b"{}"): InodeUse(2, frozenset({f"slots/{IRIS}"}), digest_of(b"{}")),
        digest_of(b""): InodeUse(0, frozenset({f"slots/{QWEN}"}), digest_of(b"")),
        digest_of(b"w" * 5000): InodeUse(
            5000, frozenset({f"slots/{QWEN}"}), digest_of(b"w" * 5000)
        ),
    }
    assert len(inodes) == len(stocked.scan().inodes)


def test_a_staging_holds_its_listing_and_what_it_fetched_so_far(stocked: StockedRoot) -> None:
    stocked.stage(IRIS, IRIS_FILES)
    (stocked.staging(IRIS) / "partial" / "9").write_bytes(b"12345")
    facts = stocked.scan()
    assert facts.staging[IRIS].listing == listing_of(IRIS, IRIS_FILES)
    assert facts.staging[IRIS].is_complete
    assert facts.findings == ()
    owned = [i for i in facts.inodes if i.owners == {f"staging/{IRIS}"}]
    assert len(owned) == len(facts.inodes)
    assert InodeUse(5, frozenset({f"staging/{IRIS}"}), None) in owned
    assert IRIS not in facts.slots


def test_what_a_fill_that_ended_set_aside_counts_as_if_it_were_there(stocked: StockedRoot) -> None:
    partial = stocked.staging(IRIS) / "partial"
    partial.mkdir(parents=True)
    with (partial / "0").open("wb") as file:
        file.write(b"12345")
        assert at.set_aside(file.fileno(), 1_000_000)
    (held,) = [i for i in stocked.scan().inodes if i.owners == {f"staging/{IRIS}"}]
    assert 1_000_000 <= held.size_bytes < 1_100_000
    assert (partial / "0").stat().st_size == 5


def test_what_lies_in_trash_and_quarantine_has_its_own_owner(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, {"a": b"iris"})
    stocked.store.take_aside(IRIS)
    (stocked.path / "quarantine" / "bad").write_bytes(b"bad")
    (stocked.path / "quarantine" / "tree").mkdir()
    os.link(stocked.path / "quarantine" / "bad", stocked.path / "quarantine" / "tree" / "x")
    assert set(stocked.scan().inodes) == {
        InodeUse(4, frozenset({f"trash/{IRIS}.aside"}), digest_of(b"iris")),
        InodeUse(3, frozenset({"quarantine/bad", "quarantine/tree"}), None),
    }


def test_a_blob_that_nobody_links_has_no_owner(stocked: StockedRoot) -> None:
    stocked.stage(IRIS, {"a": b"iris"})
    stocked.store.evict_staging(IRIS)
    assert stocked.scan().inodes == (InodeUse(4, frozenset(), digest_of(b"iris")),)


@pytest.mark.parametrize(
    ("plant", "path", "sentence"),
    [
        pytest.param(lambda p: (p / "x").touch(), "x", "is not Larder's", id="in the root"),
        pytest.param(
            lambda p: (p / "slots" / "x").mkdir(),
            "slots/x",
            "is not a slot: a slot's name is 16 hex digits",
            id="no key",
        ),
        pytest.param(
            lambda p: (p / "slots" / LLAMA).write_text("x"),
            f"slots/{LLAMA}",
            "is a file, not a directory",
            id="a file for a slot",
        ),
        pytest.param(
            lambda p: (p / "slots" / LLAMA).symlink_to(IRIS),
            f"slots/{LLAMA}",
            "is a symbolic link, not a directory",
            id="a link for a slot",
        ),
        pytest.param(
            lambda p: (p / "slots" / IRIS / "x").touch(),
            f"slots/{IRIS}/x",
            "is not Larder's",
            id="in a slot",
        ),
        pytest.param(
            lambda p: (p / "slots" / LLAMA / "content").mkdir(parents=True),
            f"slots/{LLAMA}/content",
            "has no manifest: it is not Larder's",
            id="an empty content",
        ),
        pytest.param(
            lambda p: (p / "blobs" / "x").touch(), "blobs/x", "is not Larder's", id="in blobs"
        ),
        pytest.param(
            lambda p: (p / "blobs" / "sha256" / "x").touch(),
            "blobs/sha256/x",
            "is a file, not a directory",
            id="among the digests",
        ),
        pytest.param(
            lambda p: (p / "blobs" / "sha256" / "zz").mkdir(),
            "",
            "",
            id="an empty directory of digests is nothing",
        ),
        pytest.param(
            lambda p: (
                (p / "blobs" / "sha256" / "zz").mkdir(),
                (p / "blobs" / "sha256" / "zz" / ("a" * 64)).touch(),
            ),
            f"blobs/sha256/zz/{'a' * 64}",
            "is not a blob: its name is no digest, or in the wrong place",
            id="a digest in the wrong place",
        ),
        pytest.param(
            lambda p: (
                (p / "blobs" / "sha256" / "aa").mkdir(),
                (p / "blobs" / "sha256" / "aa" / ("a" * 64)).symlink_to("x"),
            ),
            f"blobs/sha256/aa/{'a' * 64}",
            "is a symbolic link, not a blob",
            id="a link for a blob",
        ),
        pytest.param(
            lambda p: (p / "staging" / "x").mkdir(),
            "staging/x",
            "is not a staging: its name is not 16 hex digits",
            id="no key in staging",
        ),
        pytest.param(
            lambda p: (p / "staging" / LLAMA).symlink_to(IRIS),
            f"staging/{LLAMA}",
            "is a symbolic link, not a directory",
            id="a link for a staging",
        ),
        pytest.param(
            lambda p: (p / "staging" / QWEN / "x").touch(),
            f"staging/{QWEN}/x",
            "is not Larder's",
            id="in a staging",
        ),
        pytest.param(
            lambda p: (p / "staging" / QWEN / "partial" / "x").symlink_to("/etc/passwd"),
            f"staging/{QWEN}/partial/x",
            "is a symbolic link",
            id="a link deep in a staging",
        ),
        pytest.param(
            lambda p: (p / "trash" / "foreign-x-0").mkdir(),
            "trash/foreign-x-0",
            "was in a slot without a manifest; it goes at the next start",
            id="foreign content in the trash",
        ),
        pytest.param(
            lambda p: os.mkfifo(p / "slots" / IRIS / "content" / "fifo"),
            f"slots/{IRIS}/content",
            "is not what the manifest says: fifo is a special file",
            id="a special file in content",
        ),
        pytest.param(
            lambda p: (p / os.fsdecode(b"\xff\xfe")).mkdir(),
            "\\udcff\\udcfe",
            "is not Larder's",
            id="a name that is no text",
        ),
    ],
)
def test_what_should_not_be_there_is_a_finding(
    stocked: StockedRoot, plant: Callable[[Path], object], path: str, sentence: str
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.stage(QWEN, QWEN_FILES)
    plant(stocked.path)
    found = [(f.path, f.sentence) for f in stocked.scan().findings]
    assert found == ([(path, sentence)] if path else [])
    assert all((p + s).encode() for p, s in found), "it can be printed"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        pytest.param(
            lambda c: (c / "model.joblib").unlink(), "model.joblib is missing", id="missing"
        ),
        pytest.param(lambda c: (c / "more").touch(), "more is not in the manifest", id="more"),
        pytest.param(lambda c: (c / "void").mkdir(), "void is not in the manifest", id="a void"),
        pytest.param(
            lambda c: (c / "model.joblib").rename(c / "deep" / "model.joblib"),
            "model.joblib is missing",
            id="elsewhere",
        ),
        pytest.param(
            lambda c: ((c / "model.joblib").unlink(), (c / "model.joblib").mkdir()),
            "model.joblib is missing",
            id="a directory instead of a file",
        ),
        pytest.param(
            lambda c: ((c / "tokenizer").unlink(), (c / "tokenizer").symlink_to("model.joblib")),
            "tokenizer is a symbolic link",
            id="a link",
        ),
        pytest.param(
            lambda c: c.rename(c.with_name("x")) and c.write_text("file"),
            "content is a file",
            id="a file for content",
        ),
        pytest.param(
            lambda c: c.rename(c.with_name("x")) and c.symlink_to("x"),
            "content is a symbolic link",
            id="a link for content",
        ),
    ],
)
def test_content_that_is_not_exactly_its_manifest_does_not_agree(
    stocked: StockedRoot, damage: Callable[[Path], object], sentence: str
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    assert stocked.scan().slots[IRIS].agrees
    damage(stocked.slot(IRIS) / "content")
    facts = stocked.scan()
    assert facts.slots[IRIS].has_content
    assert not facts.slots[IRIS].agrees
    assert not facts.slots[IRIS].is_ready
    assert f"is not what the manifest says: {sentence}" in {f.sentence for f in facts.findings}


HOSTILE_TEXTS = {
    "nothing": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "nested brackets": b"[" * 30_000,
    "another version": b"9\nsource a b\n",
    "a torn line": b"1\nsource a b\nabc",
    "a path that leaves": b"1\nsource a b\n" + b"a" * 64 + b" 1 ../x\n",
    "a list": b"[1]",
    "a huge number": b'{"version": 1, "state": "Ready", "sequence": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
@pytest.mark.parametrize("name", ["manifest", "status.json", "listing.json", "parts"])
def test_a_file_that_says_something_else_never_raises(
    stocked: StockedRoot, name: str, text: bytes
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.stage(QWEN, QWEN_FILES)
    (stocked.slot(IRIS) / name).write_bytes(text)
    (stocked.staging(QWEN) / name).write_bytes(text)

    facts = stocked.scan()

    assert facts.slots[IRIS].status is None
    assert facts.slots[IRIS].has_content
    if name == "manifest":
        assert facts.slots[IRIS].manifest is None
        assert not facts.slots[IRIS].agrees
        assert not facts.staging[QWEN].is_complete
        assert f"slots/{IRIS}/manifest" in {f.path for f in facts.findings}
    if name == "listing.json":
        assert facts.staging[QWEN].listing is None
    stocked.store.recover()
    assert stocked.scan().slots[IRIS].is_quarantined == (name == "manifest")


def test_a_tree_nested_too_deep_is_a_finding(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    with at.opened(stocked.root.fd, ("slots", IRIS, "content", *("d" * 900)), create=True):
        pass
    facts = stocked.scan()
    assert not facts.slots[IRIS].agrees
    assert [f.sentence.removeprefix("is not what the manifest says: ") for f in facts.findings] == [
        "/".join("d" * 40) + "/ is nested too deep"
    ]
    stocked.evict(IRIS)
    assert stocked.trash() == []


def test_a_model_as_deep_as_a_manifest_allows_is_published_and_evicted(
    stocked: StockedRoot,
) -> None:
    stocked.publish(IRIS, {"/".join("d" * 512): b"deep"})
    assert stocked.scan().slots[IRIS].is_ready
    assert stocked.evict(IRIS) == 4


def test_a_directory_that_cannot_be_read_is_a_finding(
    stocked: StockedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    stocked.publish(QWEN, QWEN_FILES)
    broken = (stocked.slot(IRIS) / "content" / "deep").stat().st_ino
    real = os.listdir

    def listdir(fd: int) -> list[str]:
        if os.fstat(fd).st_ino == broken:
            raise OSError(5, "Input/output error")
        return real(fd)

    monkeypatch.setattr(os, "listdir", listdir)
    facts = stocked.scan()
    assert not facts.slots[IRIS].agrees
    assert facts.slots[QWEN].is_ready
    assert [f.sentence for f in facts.findings] == [
        "is not what the manifest says: deep cannot be read: Input/output error"
    ]


@pytest.mark.parametrize("top", ["slots", "blobs", "staging", "trash", "quarantine"])
def test_a_top_directory_that_is_gone_or_a_link_hides_only_itself(
    stocked: StockedRoot, outside: Path, top: str
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    (stocked.path / top).rename(outside / "gone")
    without = scan(stocked.root.fd)
    assert (IRIS in without.slots) == (top != "slots")
    assert without.findings == ()
    (stocked.path / top).symlink_to(outside / "gone")
    linked = scan(stocked.root.fd)
    assert linked.slots == without.slots
    assert [(f.path, f.sentence) for f in linked.findings] == [
        (top, "cannot be read: Not a directory")
    ]


def test_a_name_that_vanishes_during_the_scan_is_nothing(
    stocked: StockedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.store.ensure_slot(IRIS, PROGRAM)
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: [*real(fd), "0" * 16])
    facts = stocked.scan()
    assert set(facts.slots) == {IRIS}
    assert [f.path for f in facts.findings if not f.path.endswith("0" * 16)] == []
    assert Key("0" * 16) not in facts.staging


@pytest.mark.parametrize("look", [scan, recover], ids=["scan", "recover"])
def test_a_process_that_runs_out_of_handles_takes_no_model_for_damaged(
    stocked: StockedRoot, look: Callable[[int], object]
) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    before = snapshot(stocked.path)
    expected = stocked.scan()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    for handles in range(8):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + handles, hard))
        try:
            with suppress(OSError):
                look(stocked.root.fd)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert snapshot(stocked.path) == before
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            scan(stocked.root.fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert stocked.scan() == expected
