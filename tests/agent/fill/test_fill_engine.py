"""What a fill leaves on disk, with a hub that behaves and one that does not."""

import errno
import hashlib
import os
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fill_desk import PART, FillDesk, closing_fd

from agent.fill import partial
from agent.fill.job import Listed, Progress
from agent.fill.parts import Parts
from agent.fill.patience import PROGRESS_BYTES
from agent.fill.staging import StagedTree
from agent.planning.values import parse_listing
from demo.hub import Cut, Fault, FlipBit, Gzip, Headers, Hub, IgnoreRange, Repo, Status, Truncate
from larder.contract import FillFailure
from larder.errors import (
    BudgetExceededError,
    CacheRootError,
    DiskFullError,
    IntegrityError,
    PermanentError,
    SourceDriftedError,
    SourceUnavailableError,
    TransientError,
)
from larder.layout import Digest
from larder.status import ModelState

BIG = "model.safetensors"


def test_a_fill_leaves_a_complete_staging_with_the_source_s_bytes(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    desk.resolve_and_fill()
    assert desk.is_complete
    assert desk.content() == files
    commit = hub.repos["acme/tiny"].branches["main"]
    assert (desk.manifest().storage_uri, desk.manifest().revision) == ("hf://acme/tiny", commit)
    assert {f.path: f.sha256 for f in desk.manifest().files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in files.items()
    }
    assert not list((desk.staging / "partial").iterdir())


def test_files_are_readable_by_everybody_and_writable_by_nobody(desk: FillDesk) -> None:
    desk.resolve_and_fill()
    tree = desk.staging / "tree"
    modes = {stat.S_IMODE(p.stat().st_mode) for p in tree.rglob("*") if p.is_file()}
    assert modes == {0o444}
    assert {stat.S_IMODE(p.stat().st_mode) for p in tree.rglob("*") if p.is_dir()} == {0o755}


def test_resolve_tells_what_is_to_be_fetched_and_fetches_nothing(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    desk.resolve()
    commit = hub.repos["acme/tiny"].branches["main"]
    assert desk.events == [Listed(commit, len(files), sum(map(len, files.values())))]
    assert not hub.counts()["get"]
    assert not desk.is_complete


def test_a_fill_without_a_listing_is_refused(desk: FillDesk) -> None:
    with pytest.raises(TransientError) as refused:
        desk.fill()
    assert refused.value.reason is FillFailure.SIZE_UNKNOWN


def test_bytes_done_end_at_the_total_and_verifying_is_the_last_state(
    desk: FillDesk, files: dict[str, bytes]
) -> None:
    desk.resolve_and_fill()
    total = sum(map(len, files.values()))
    last = desk.events[-1]
    assert last == Progress(ModelState.VERIFYING, total, total, total, is_set_aside=True)


# --- faults of the network ------------------------------------------------------------------------


def test_a_connection_cut_in_mid_file_is_continued_by_range(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    desk.resolve()
    before = hub.bytes_sent
    hub.faults.append(Fault(Cut(after_bytes=2500), kind="cdn", times=1))
    desk.fill()
    assert desk.content() == files
    assert hub.bytes_sent - before == sum(map(len, files.values()))
    assert [r.range for r in hub.requests if r.kind == "cdn"] == [None, "bytes=2500-"]


def test_a_body_that_is_too_short_is_continued_by_range(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    hub.faults.append(Fault(Truncate(to_bytes=1700), kind="cdn", times=1))
    desk.resolve_and_fill()
    assert desk.content() == files
    assert [r.range for r in hub.requests if r.kind == "cdn"] == [None, "bytes=1700-"]


def test_a_server_that_ignores_the_range_is_read_past_what_is_there(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    hub.faults += [
        Fault(Cut(after_bytes=2500), kind="cdn", times=1),
        Fault(IgnoreRange(), path=BIG),
    ]
    desk.resolve_and_fill()
    assert desk.content() == files
    assert desk.fetched_bytes == sum(map(len, files.values())) + 2500


def test_a_server_that_refuses_the_range_has_the_file_started_over(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    cut = Fault(Cut(after_bytes=2500), path=BIG, kind="cdn")
    hub.faults.append(cut)
    desk.change(pace=replace(desk.job.pace, tries=1))
    desk.resolve()
    with pytest.raises(SourceUnavailableError):
        desk.fill()
    hub.faults = [Fault(Status(416), path=BIG, kind="cdn", times=1)]
    desk.change(pace=replace(desk.job.pace, tries=2))
    desk.fill()
    assert desk.content() == files
    assert [r.range for r in hub.requests if r.kind == "cdn"] == [None, "bytes=2000-", None]


def test_a_range_beyond_the_end_of_a_smaller_file_is_a_drift(desk: FillDesk, hub: Hub) -> None:
    hub.faults.append(Fault(Cut(after_bytes=2500), path=BIG, kind="cdn"))
    desk.change(pace=replace(desk.job.pace, tries=1))
    desk.resolve()
    with pytest.raises(SourceUnavailableError):
        desk.fill()
    smaller = Headers({"Content-Range": "bytes */1999"})
    hub.faults = [Fault(Status(416, headers=smaller.values), path=BIG, kind="cdn")]
    with pytest.raises(SourceDriftedError, match="has 1999 bytes and was listed with 3847"):
        desk.fill()


def test_an_expired_link_is_asked_for_again(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    hub.faults.append(Fault(Status(403), kind="cdn", times=2))
    desk.resolve_and_fill()
    assert desk.content() == files
    assert desk.waits == [1.0, 2.0]


def test_retry_after_is_waited_for_when_it_is_short(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    hub.faults.append(Fault(Status(429, headers={"Retry-After": "7"}), kind="get", times=1))
    desk.resolve_and_fill()
    assert desk.content() == files
    assert desk.waits == [7.0]


def test_retry_after_is_reported_when_it_is_long(desk: FillDesk, hub: Hub) -> None:
    hub.faults.append(Fault(Status(429, headers={"Retry-After": "3600"}), kind="get"))
    desk.resolve()
    with pytest.raises(SourceUnavailableError) as reported:
        desk.fill()
    assert reported.value.retry_after_seconds == 3600.0
    assert desk.waits == []


def test_a_server_that_stays_broken_is_given_up_after_a_few_tries(desk: FillDesk, hub: Hub) -> None:
    hub.faults.append(Fault(Status(503), kind="get"))
    desk.resolve()
    with pytest.raises(SourceUnavailableError, match="HTTP 503"):
        desk.fill()
    assert hub.counts()["get"] == desk.job.pace.tries
    assert desk.waits == [1.0, 2.0, 4.0]


def test_bytes_that_arrive_between_faults_renew_the_patience(tmp_path: Path) -> None:
    content = os.urandom(8 * PROGRESS_BYTES)
    with Hub({"acme/tiny": Repo({BIG: content})}) as hub:
        hub.faults.append(Fault(Cut(after_bytes=PROGRESS_BYTES), path=BIG))
        desk = FillDesk(tmp_path / "root", hub.url)
        desk.change(pace=replace(desk.job.pace, part_bytes=PROGRESS_BYTES))
        desk.resolve_and_fill()
        assert desk.content() == {BIG: content}
        assert set(desk.waits) == {1.0}


def test_a_compressed_body_is_refused(desk: FillDesk, hub: Hub) -> None:
    hub.faults.append(Fault(Gzip(), path=BIG))
    desk.resolve()
    with pytest.raises(SourceUnavailableError, match="encoded as 'gzip'"):
        desk.fill()
    assert not desk.is_complete


# --- wrong bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(BIG, id="known by its SHA-256"),
        pytest.param("deep/er/tokenizer.json", id="known by its git blob id"),
    ],
)
def test_a_flipped_bit_is_found_and_nothing_of_the_file_is_kept(
    desk: FillDesk, hub: Hub, files: dict[str, bytes], path: str
) -> None:
    fault = Fault(FlipBit(offset=1200), path=path)
    hub.faults.append(fault)
    desk.resolve()
    with pytest.raises(IntegrityError, match=path):
        desk.fill()
    assert not desk.is_complete
    assert not (desk.staging / "manifest").exists()
    assert path not in desk.content()
    assert not (desk.staging / "partial" / str(sorted(files).index(path))).exists()
    hub.faults.remove(fault)
    desk.fill()
    assert desk.content() == files


def test_a_listing_that_gives_too_large_a_size_is_a_drift(desk: FillDesk) -> None:
    desk.resolve()
    listing = desk.staging / "listing.json"
    listing.write_text(listing.read_text().replace('"size": 3847', '"size": 3848'))
    with pytest.raises(SourceDriftedError, match="has 3847 bytes and was listed with 3848"):
        desk.fill()


def test_a_listing_that_gives_too_small_a_size_is_a_drift(desk: FillDesk) -> None:
    desk.resolve()
    listing = desk.staging / "listing.json"
    listing.write_text(listing.read_text().replace('"size": 3847', '"size": 3846'))
    with pytest.raises(SourceDriftedError, match="has 3847 bytes and was listed with 3846"):
        desk.fill()


def test_an_answer_of_another_commit_is_a_drift(desk: FillDesk, hub: Hub) -> None:
    hub.faults.append(Fault(Headers({"X-Repo-Commit": "f" * 40}), kind="get", path=BIG))
    desk.resolve()
    with pytest.raises(SourceDriftedError, match="another commit of acme/tiny"):
        desk.fill()


# --- what is there already ------------------------------------------------------------------------


def test_files_that_another_revision_has_too_are_fetched_once(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    desk.resolve_and_fill()
    files["config.json"] = b'{"a": 2}'
    hub.repos["acme/tiny"].commit(dict(files))
    other = FillDesk(desk.root, hub.url)
    other.change(key="f" * 16)
    other.resolve()
    before = hub.bytes_sent
    other.fill()
    assert other.content() == files
    small = len(files["config.json"]) + len(files["deep/er/tokenizer.json"])
    assert hub.bytes_sent - before == small  # their SHA-256 is not listed
    inodes = [(d.staging / "tree" / BIG).stat().st_ino for d in (desk, other)]
    assert inodes[0] == inodes[1]


def test_a_second_fill_of_a_complete_staging_fetches_nothing(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    desk.resolve_and_fill()
    before = len(hub.requests)
    desk.fill()
    assert len(hub.requests) == before
    assert desk.content() == files
    assert desk.is_complete


def test_two_files_of_one_content_are_fetched_once_if_their_sha256_is_listed(
    tmp_path: Path,
) -> None:
    files = {"a.bin": b"x" * 99, "b.bin": b"y" * 99, "c.bin": b"x" * 99}
    with Hub({"acme/tiny": Repo(files)}) as hub:
        desk = FillDesk(tmp_path / "root", hub.url)
        desk.resolve_and_fill()
    assert desk.content() == files
    last = desk.events[-1]
    assert last == Progress(ModelState.VERIFYING, 3 * 99, 3 * 99, 2 * 99, is_set_aside=True)


def test_another_listing_throws_away_what_was_fetched_for_the_old_one(
    desk: FillDesk, hub: Hub
) -> None:
    desk.resolve_and_fill()
    hub.repos["acme/tiny"].commit({"config.json": b"new"})
    desk.resolve()
    assert sorted(path.name for path in desk.staging.iterdir()) == ["listing.json"]
    desk.fill()
    assert desk.content() == {"config.json": b"new"}


def test_the_same_listing_keeps_what_was_fetched(desk: FillDesk) -> None:
    desk.resolve_and_fill()
    desk.resolve()
    assert desk.is_complete


def test_a_tree_with_something_foreign_in_it_is_made_anew(
    desk: FillDesk, files: dict[str, bytes], tmp_path: Path
) -> None:
    desk.resolve_and_fill()
    tree = desk.staging / "tree"
    (tree / "planted").symlink_to(tmp_path)
    (tree / "config.json").unlink()
    (tree / "config.json").write_bytes(b'{"a": 9}')  # the right size
    desk.fill()
    assert desk.content() == files
    assert desk.is_complete
    assert tmp_path.exists()


def test_a_file_of_the_tree_that_is_no_blob_is_replaced(
    desk: FillDesk, files: dict[str, bytes]
) -> None:
    desk.resolve_and_fill()
    planted = desk.staging / "tree" / "config.json"
    planted.unlink()
    planted.write_bytes(b'{"a": 9}')  # the right size
    desk.fill()
    assert desk.content() == files


def test_a_partial_file_that_is_a_blob_already_is_never_written(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    desk.resolve_and_fill()
    digest = hashlib.sha256(files[BIG]).hexdigest()
    blob = desk.root / "blobs" / "sha256" / digest[:2] / digest
    other = FillDesk(desk.root, hub.url)
    hub.repos["acme/tiny"].commit({BIG: b"z" * 3847})
    other.change(key="f" * 16)
    other.resolve()
    (other.staging / "partial").mkdir()
    os.link(blob, other.staging / "partial" / "0")
    other.fill()
    assert blob.read_bytes() == files[BIG]
    assert other.content() == {BIG: b"z" * 3847}


def test_a_partial_file_that_is_longer_than_listed_is_cut(
    desk: FillDesk, files: dict[str, bytes]
) -> None:
    desk.resolve()
    (desk.staging / "partial").mkdir()
    for index in range(len(files)):
        (desk.staging / "partial" / str(index)).write_bytes(b"?" * 9999)
    desk.fill()
    assert desk.content() == files


def test_a_torn_record_is_cut_and_continued(desk: FillDesk) -> None:
    desk.staging.mkdir(parents=True)
    digests = [Digest(f"{n}" * 64) for n in range(3)]
    (desk.staging / "parts").write_text(f"0 0 {digests[0]}\n0 1 1234")
    with closing_fd(os.open(desk.staging, os.O_RDONLY)) as fd:
        with closing(Parts(fd)) as parts:
            assert [parts.digest(0, n) for n in range(2)] == [digests[0], None]
            parts.record(5, 6, digests[2])
        with closing(Parts(fd)) as parts:
            assert (parts.digest(0, 0), parts.digest(5, 6)) == (digests[0], digests[2])
    text = (desk.staging / "parts").read_text()
    assert text == f"0 0 {digests[0]}\n5 6 {digests[2]}\n"


def test_planted_links_in_the_staging_are_not_followed(desk: FillDesk, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("keep me")
    desk.resolve()
    (desk.staging / "partial").mkdir()
    (desk.staging / "partial" / "3").symlink_to(outside)
    with pytest.raises(CacheRootError):
        desk.fill()
    assert outside.read_text() == "keep me"


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["resolve", "fill"])
def test_a_model_larger_than_max_size_is_refused(desk: FillDesk, operation: str) -> None:
    desk.resolve()
    desk.change(max_size_bytes=5000)
    with pytest.raises(BudgetExceededError, match="5355 bytes; maxSize accepts 5000"):
        getattr(desk, operation)()


def test_a_model_of_exactly_max_size_is_filled(desk: FillDesk) -> None:
    desk.change(max_size_bytes=5355)
    desk.resolve_and_fill()
    assert desk.is_complete


def test_a_disk_without_room_is_refused_before_the_first_byte(desk: FillDesk, hub: Hub) -> None:
    desk.resolve()
    listing = desk.staging / "listing.json"
    listing.write_text(listing.read_text().replace('"size": 3847', f'"size": {1 << 60}'))
    before = len(hub.requests)
    with pytest.raises(DiskFullError, match="are to be fetched"):
        desk.fill()
    assert len(hub.requests) == before


def test_a_digest_of_the_manifest_is_accepted(desk: FillDesk) -> None:
    desk.resolve_and_fill()
    digest = hashlib.sha256((desk.staging / "manifest").read_bytes()).hexdigest()
    desk.change(digest=f"sha256:{digest}")
    desk.fill()
    assert desk.is_complete


def test_a_digest_of_the_only_file_is_accepted(desk: FillDesk, files: dict[str, bytes]) -> None:
    digest = hashlib.sha256(files[BIG]).hexdigest()
    desk.change(digest=f"sha256:{digest}", allow_patterns=(BIG,))
    desk.resolve_and_fill()
    assert desk.is_complete


@pytest.mark.parametrize("patterns", [(), (BIG,)], ids=["of many files", "of one file"])
def test_another_digest_than_the_pinned_one_leaves_nothing_to_publish(
    desk: FillDesk, patterns: tuple[str, ...]
) -> None:
    desk.change(digest="sha256:" + "0" * 64, allow_patterns=patterns)
    desk.resolve()
    with pytest.raises(PermanentError, match="the catalog pins sha256:000") as refused:
        desk.fill()
    assert refused.value.reason is FillFailure.INTEGRITY_MISMATCH
    assert not desk.is_complete


def test_a_pin_that_changes_makes_a_complete_staging_incomplete(desk: FillDesk) -> None:
    desk.resolve_and_fill()
    desk.change(digest="sha256:" + "0" * 64)
    with pytest.raises(PermanentError, match="the catalog pins"):
        desk.fill()
    assert not desk.is_complete


def test_a_fault_of_the_disk_is_told_in_one_sentence(desk: FillDesk) -> None:
    desk.resolve()
    (desk.staging / "partial").write_text("in the way")
    with pytest.raises(CacheRootError, match="filling 0123456789abcdef: Not a directory"):
        desk.fill()


def test_parts_are_recorded_as_they_are_completed(desk: FillDesk, files: dict[str, bytes]) -> None:
    desk.resolve_and_fill()
    big = files[BIG]
    lines = (desk.staging / "parts").read_text().splitlines()
    assert [line for line in lines if line.startswith("3 ")] == [
        f"3 {n} {hashlib.sha256(big[: (n + 1) * PART]).hexdigest()}" for n in range(4)
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["no room", "no quota"])
def test_a_disk_that_fills_up_in_the_middle_is_said(
    desk: FillDesk, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    written: list[int] = []

    class FullDisk:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def pwrite(self, fd: int, data: memoryview, position: int) -> int:
            if len(written) == 3:
                raise OSError(number, os.strerror(number))
            written.append(os.pwrite(fd, data[:700], position))  # a full disk takes less than all
            return written[-1]

    desk.resolve()
    with monkeypatch.context() as patch:
        patch.setattr(partial, "os", FullDisk())
        with pytest.raises(DiskFullError, match="the disk is full"):
            desk.fill()
    assert not desk.is_complete
    desk.fill()
    assert desk.content() == files


def test_two_names_that_the_filesystem_takes_for_one_are_a_drift(desk: FillDesk) -> None:
    desk.resolve_and_fill()
    listing = parse_listing((desk.staging / "listing.json").read_text())
    assert listing is not None
    file = next(f for f in listing.files if f.path == BIG)
    assert file.sha256 is not None
    with (
        closing_fd(os.open(desk.root, os.O_RDONLY)) as root_fd,
        closing_fd(os.open(desk.staging, os.O_RDONLY)) as staging_fd,
        closing(StagedTree(root_fd, staging_fd, listing)) as tree,
    ):
        assert tree.link(file, file.sha256)
        with pytest.raises(SourceDriftedError, match="are one name on this filesystem"):
            tree.link(file, file.sha256)  # the name is taken by what came before


def test_a_listing_that_is_too_large_to_be_read_again_is_refused(
    desk: FillDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.fill.staging.LISTING_MAX_BYTES", 100)
    with pytest.raises(SourceDriftedError, match="accepted: up to 100"):
        desk.resolve()
    assert not (desk.staging / "listing.json").exists()


def test_a_listing_that_is_there_is_compared_before_it_would_be_written_out(
    desk: FillDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.resolve()
    before = desk.staging.joinpath("listing.json").stat().st_ino
    monkeypatch.delattr("agent.planning.values.Listing.text")  # of a large one too much to hold
    desk.resolve()
    assert desk.staging.joinpath("listing.json").stat().st_ino == before
