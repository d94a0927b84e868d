"""Killed before any of its steps, a fill is completed by the next one (P2, P10)."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fill_crashes import Crash, MemorySource, crash_before
from fill_desk import PART, FillDesk
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.planning.values import Algorithm, Checksum, Listing, RemoteFile
from demo.hub_repos import git_blob_id
from larder.errors import SourceUnavailableError
from larder.layout import Digest

MAX_STEPS = 500


def test_a_fill_killed_before_any_step_is_completed_by_the_next(
    desk: FillDesk, files: dict[str, bytes]
) -> None:
    desk.resolve()
    pristine = desk.root.with_name("pristine")
    shutil.copytree(desk.root, pristine)
    for step in range(1, MAX_STEPS):
        shutil.rmtree(desk.root)
        shutil.copytree(pristine, desk.root)
        try:
            with crash_before(step):
                desk.fill()
        except Crash:
            assert_nothing_wrong_is_visible(desk, files)
        else:
            break
        desk.fill()
        assert desk.is_complete
        assert desk.content() == files
        assert desk.fetched_bytes <= sum(map(len, files.values()))
    else:
        pytest.fail("a fill takes more steps than anybody counted")
    assert step > 60  # the crashes came before steps that are really there


def test_what_a_killed_fill_recorded_is_not_fetched_again(
    desk: FillDesk, files: dict[str, bytes]
) -> None:
    desk.resolve()
    pristine = desk.root.with_name("pristine")
    shutil.copytree(desk.root, pristine)
    kept_anything = False
    for step in range(1, MAX_STEPS):
        shutil.rmtree(desk.root)
        shutil.copytree(pristine, desk.root)
        try:
            with crash_before(step):
                desk.fill()
        except Crash:
            pass
        else:
            break
        kept_bytes = recorded_bytes(desk, files)
        kept_anything |= kept_bytes > 0
        desk.fill()
        assert desk.fetched_bytes == sum(map(len, files.values())) - kept_bytes
    assert kept_anything


def recorded_bytes(desk: FillDesk, files: dict[str, bytes]) -> int:
    """What `parts` says is safe, read without the code that wrote it."""
    parts = desk.staging / "parts"
    lines = parts.read_text().splitlines() if parts.exists() else []
    ends: dict[int, int] = {}
    for line in lines:
        file, part, _ = line.split(" ")
        ends[int(file)] = (int(part) + 1) * PART
    sizes = [len(files[path]) for path in sorted(files)]
    return sum(min(end, sizes[file]) for file, end in ends.items())


def assert_nothing_wrong_is_visible(desk: FillDesk, files: dict[str, bytes]) -> None:
    """Whatever has a blob's name or is in the tree is whole; complete means all of it."""
    for blob in (desk.root / "blobs").glob("sha256/*/*"):
        if not blob.name.startswith(".larder-"):
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    content = desk.content()
    assert content.items() <= files.items()
    if desk.is_complete:
        assert content == files


def remote_file(path: str, content: bytes, *, is_lfs: bool) -> RemoteFile:
    if is_lfs:
        return RemoteFile(path, len(content), sha256=Digest(hashlib.sha256(content).hexdigest()))
    return RemoteFile(
        path, len(content), checksum=Checksum(Algorithm.GIT_BLOB, git_blob_id(content))
    )


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 500), min_size=1, max_size=3),
    part_bytes=st.integers(40, 300),
    breaks=st.lists(st.integers(0, 400), max_size=12),
    tries=st.integers(1, 3),
)
def test_however_often_the_source_breaks_off_the_bytes_are_right_in_the_end(
    sizes: list[int], part_bytes: int, breaks: list[int], tries: int
) -> None:
    files = {f"f{n}": bytes([n + 1]) * size for n, size in enumerate(sizes)}
    listed = tuple(remote_file(p, c, is_lfs=n % 2 == 0) for n, (p, c) in enumerate(files.items()))
    listing = Listing("hf://acme/tiny", "a" * 40, listed)
    with TemporaryDirectory() as folder:
        desk = FillDesk(Path(folder))
        desk.change(pace=replace(desk.job.pace, part_bytes=part_bytes, tries=tries))
        desk.staging.mkdir(parents=True)
        (desk.staging / "listing.json").write_text(listing.text())
        source = MemorySource(listing, files, breaks)
        runs, is_done = 0, False
        while not is_done:
            runs += 1
            try:
                desk.fill(source)
            except SourceUnavailableError:
                assert_nothing_wrong_is_visible(desk, files)
            else:
                is_done = True
        assert desk.content() == files
        assert desk.is_complete
        lost_at_most = (runs - 1) * part_bytes  # a run that ends loses the part it was in
        assert source.served_bytes <= sum(sizes) + lost_at_most


@settings(max_examples=40)
@given(damage=st.binary(max_size=400), kept=st.integers(0, 2000))
def test_a_damaged_record_of_parts_never_makes_wrong_bytes(damage: bytes, kept: int) -> None:
    files = {"a": b"a" * 2500, "b": b"b" * 10}
    listed = tuple(remote_file(p, c, is_lfs=p == "a") for p, c in files.items())
    listing = Listing("hf://acme/tiny", "a" * 40, listed)
    with TemporaryDirectory() as folder:
        desk = FillDesk(Path(folder))
        desk.change(pace=replace(desk.job.pace, tries=1))
        desk.staging.mkdir(parents=True)
        (desk.staging / "listing.json").write_text(listing.text())
        with pytest.raises(SourceUnavailableError):
            desk.fill(MemorySource(listing, files, [2400]))
        record = desk.staging / "parts"
        record.write_bytes(record.read_bytes()[:kept] + damage)
        desk.fill(MemorySource(listing, files, []))
        assert desk.content() == files


@settings(max_examples=40)
@given(offset=st.integers(0, 2399), bit=st.integers(0, 7))
def test_a_bit_that_flips_between_two_runs_is_found(offset: int, bit: int) -> None:
    content = b"a" * 2500
    listing = Listing("hf://acme/tiny", "a" * 40, (remote_file("a", content, is_lfs=True),))
    with TemporaryDirectory() as folder:
        desk = FillDesk(Path(folder))
        desk.change(pace=replace(desk.job.pace, tries=1))
        desk.staging.mkdir(parents=True)
        (desk.staging / "listing.json").write_text(listing.text())
        with pytest.raises(SourceUnavailableError):
            desk.fill(MemorySource(listing, {"a": content}, [2400]))
        partial = desk.staging / "partial" / "0"
        damaged = bytearray(partial.read_bytes())
        damaged[offset] ^= 1 << bit
        partial.write_bytes(damaged)
        source = MemorySource(listing, {"a": content}, [])
        desk.fill(source)
        assert desk.content() == {"a": content}
        damaged_bytes = PART if offset < 2000 else 0  # that part alone; what follows is as recorded
        assert source.served_bytes == 500 + damaged_bytes
