"""Several ranges and files at once: whatever breaks, the bytes are right and nothing is lost."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fill_desk import PART, FillDesk
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.fill import cursor, partial
from agent.fill.job import Progress, Steering
from agent.planning.values import Listing, RemoteFile
from agent.sources.interface import RangeRefusedError, SourceRequest
from demo.hub import Cut, Fault, Headers, Hub, IgnoreRange, Repo, Status, Truncate
from larder.contract import FillFailure
from larder.errors import (
    CacheRootError,
    PermanentError,
    SourceDriftedError,
    SourceUnavailableError,
    TransientError,
)
from larder.layout import Digest

BIG = "model.safetensors"
CONTENT = bytes(range(256)) * 40  # 10,240 bytes: eleven parts
ENOUGH_SECONDS = 30.0


@pytest.fixture
def files() -> dict[str, bytes]:
    return {"a.bin": b"a" * 4000, "config.json": b"{}", BIG: CONTENT}


@pytest.fixture
def desk(tmp_path: Path, hub: Hub) -> FillDesk:
    desk = FillDesk(tmp_path / "root", hub.url)
    desk.change(pace=replace(desk.job.pace, range_bytes=2 * PART, first_streams=4, tries=3))
    return desk


def asked(hub: Hub) -> set[str | None]:
    return {r.range for r in hub.requests if r.kind == "cdn" and r.path == BIG}


def test_ranges_of_a_file_are_asked_for_each_once(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    desk.resolve_and_fill()
    assert desk.content() == files
    assert desk.fetched_bytes == sum(map(len, files.values()))
    ranges = [f"bytes={start}-{start + 1999}" for start in range(0, 10_000, 2000)]
    assert asked(hub) == {*ranges, "bytes=10000-"}


@pytest.mark.parametrize("fault", [Cut(700), Truncate(700), Status(503), Status(403)])
def test_a_range_that_breaks_is_asked_for_again_where_it_broke(
    desk: FillDesk, hub: Hub, files: dict[str, bytes], fault: Any
) -> None:
    hub.faults.append(Fault(fault, path=BIG, kind="cdn", times=2))
    desk.resolve_and_fill()
    assert desk.content() == files
    assert desk.fetched_bytes == sum(map(len, files.values()))


def test_a_server_that_gives_no_ranges_is_read_by_one_stream(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    hub.faults.append(Fault(IgnoreRange(), path=BIG))
    desk.resolve_and_fill()
    assert desk.content() == files


def test_a_server_that_refuses_ranges_has_the_file_started_over(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    hub.faults.append(Fault(Status(416), path=BIG, kind="cdn", times=2))
    desk.resolve_and_fill()
    assert desk.content() == files


def test_another_commit_in_the_middle_ends_all_of_it(desk: FillDesk, hub: Hub) -> None:
    hub.faults.append(Fault(Headers({"X-Repo-Commit": "f" * 40}), kind="get", path=BIG))
    desk.resolve()
    with pytest.raises(SourceDriftedError, match="another commit of acme/tiny"):
        desk.fill()
    assert not desk.is_complete
    assert threading.active_count() < 20


def test_a_source_that_stays_broken_ends_the_fill_and_keeps_what_came(
    desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    hub.faults.append(Fault(Cut(1500), path=BIG, kind="cdn"))
    desk.change(pace=replace(desk.job.pace, tries=1))
    desk.resolve()
    with pytest.raises(SourceUnavailableError):
        desk.fill()
    hub.faults.clear()
    desk.fill()
    assert desk.content() == files
    assert desk.fetched_bytes < sum(map(len, files.values()))


# --- a source in memory ---------------------------------------------------------------------------


class RangesSource:
    """Serves one content in ranges, and lets a test say what a request comes to."""

    def __init__(self, listing: Listing, content: bytes) -> None:
        self.listing = listing
        self.content = content
        self.served_bytes = 0
        self.refuses_from: int | None = None
        self.ignores_ranges = False
        self.breaks: list[int] = []
        self._lock = threading.Lock()

    def list(self, request: SourceRequest) -> Listing:
        raise AssertionError(request)

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator["RangeOf"]:
        assert listing == self.listing
        assert 0 <= offset < file.size_bytes
        if self.refuses_from is not None and offset >= self.refuses_from > 0:
            raise RangeRefusedError("no ranges here")
        start, end = offset, file.size_bytes if length is None else offset + length
        assert end <= file.size_bytes
        if self.ignores_ranges:
            start, end = 0, file.size_bytes
        with self._lock:
            left = self.breaks.pop(0) if self.breaks else end - start
        yield RangeOf(self, start, min(end, start + left), is_cut=start + left < end)

    def served(self, count: int) -> None:
        with self._lock:
            self.served_bytes += count


class RangeOf:
    def __init__(self, source: RangesSource, start: int, end: int, *, is_cut: bool) -> None:
        self.start = self._at = start
        self._source, self._end, self._is_cut = source, end, is_cut

    def readinto(self, buffer: memoryview) -> int:
        if self._at == self._end and self._is_cut:
            raise SourceUnavailableError("the connection broke")
        chunk = self._source.content[self._at : min(self._end, self._at + len(buffer))]
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        self._source.served(len(chunk))
        return len(chunk)

    def abort(self) -> None:
        self._end, self._is_cut = self._at, True


def one_file(content: bytes) -> Listing:
    digest = Digest(hashlib.sha256(content).hexdigest())
    return Listing("hf://acme/tiny", "a" * 40, (RemoteFile(BIG, len(content), sha256=digest),))


def desk_for(folder: str, listing: Listing, **pace: Any) -> FillDesk:
    desk = FillDesk(Path(folder))
    desk.change(pace=replace(desk.job.pace, **pace))
    desk.staging.mkdir(parents=True)
    (desk.staging / "listing.json").write_text(listing.text())
    return desk


class SilentSource(RangesSource):
    """Refuses the first range, once it has been asked for the second: that it never answers."""

    def __init__(self, listing: Listing, content: bytes) -> None:
        super().__init__(listing, content)
        self.is_asked, self.may_answer = threading.Event(), threading.Event()
        self.has_answered = False

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator[RangeOf]:
        if offset:
            self.is_asked.set()
            self.may_answer.wait(ENOUGH_SECONDS)
            self.has_answered = True
            with super().fetch(listing, file, offset, length) as body:
                yield body
        self.is_asked.wait(ENOUGH_SECONDS)
        raise PermanentError(FillFailure.MODEL_NOT_FOUND, "it is gone")


def test_a_fault_is_told_though_another_stream_waits_for_an_answer(tmp_path: Path) -> None:
    content = b"x" * 4000
    listing = one_file(content)
    desk = desk_for(str(tmp_path / "root"), listing, range_bytes=2000, first_streams=2)
    source = SilentSource(listing, content)
    try:
        with pytest.raises(PermanentError, match="it is gone"):
            desk.fill(source)
        assert not source.has_answered
    finally:
        source.may_answer.set()


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 4000),
    part_bytes=st.integers(40, 900),
    range_bytes=st.integers(30, 900),
    streams=st.integers(1, 6),
    breaks=st.lists(st.integers(0, 300), max_size=15),
    ignores=st.booleans(),
    refuses_from=st.none() | st.integers(1, 4000),
    damaged=st.none() | st.integers(0, 4000),
)
def test_whatever_a_source_does_with_ranges_the_bytes_are_right(  # noqa: PLR0913, PLR0917 - all may go wrong
    size: int,
    part_bytes: int,
    range_bytes: int,
    streams: int,
    breaks: list[int],
    ignores: bool,
    refuses_from: int | None,
    damaged: int | None,
) -> None:
    content = (b"0123456789abcdefghijklmnopqrstuvwxyz!" * 120)[:size]
    listing = one_file(content)
    with TemporaryDirectory() as folder:
        desk = desk_for(
            folder,
            listing,
            part_bytes=part_bytes,
            range_bytes=range_bytes,
            first_streams=streams,
            tries=3,
        )
        source = RangesSource(listing, content)
        source.breaks, source.ignores_ranges = breaks, ignores
        source.refuses_from = refuses_from
        for _ in range(20):
            try:
                desk.fill(source)
            except SourceUnavailableError:
                source.breaks = source.breaks[:3]
                damage(desk, damaged)
                continue
            break
        assert desk.content() == {BIG: content}
        assert desk.is_complete


def damage(desk: FillDesk, offset: int | None) -> None:
    """Turn a bit of what is there, as a disk might between two runs."""
    content = bytearray((desk.staging / "partial" / "0").read_bytes())
    if offset is not None and offset < len(content):
        content[offset] ^= 1
        (desk.staging / "partial" / "0").write_bytes(content)


def test_a_run_that_is_killed_anywhere_loses_a_window_at_most(tmp_path: Path) -> None:
    listing = one_file(CONTENT)
    desk = desk_for(str(tmp_path), listing, range_bytes=PART, first_streams=3, tries=1)
    source = RangesSource(listing, CONTENT)
    source.breaks = [1000, 1000, 1000, 0]
    with pytest.raises(SourceUnavailableError):
        desk.fill(source)
    first = source.served_bytes
    desk.fill(source)
    assert desk.content() == {BIG: CONTENT}
    assert source.served_bytes - len(CONTENT) <= 4 * PART
    assert first <= source.served_bytes


class Dripping(RangesSource):
    """Its first body gives a byte, and then nothing until it is aborted."""

    def __init__(self, listing: Listing, content: bytes, desk: FillDesk, bodies: int) -> None:
        super().__init__(listing, content)
        self.desk = desk
        self.bodies = bodies

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator[Any]:
        if self.bodies:
            self.bodies -= 1
            yield Drip(self, offset)
        else:
            with super().fetch(listing, file, offset, length) as body:
                yield body


class Drip:
    def __init__(self, source: Dripping, start: int) -> None:
        self.start = start
        self._source = source
        self._aborted = threading.Event()

    def readinto(self, buffer: memoryview) -> int:
        del buffer
        self._source.desk.clock.advance(30.0)
        assert self._aborted.wait(ENOUGH_SECONDS)
        raise SourceUnavailableError("the connection broke")

    def abort(self) -> None:
        self._aborted.set()


def test_a_connection_that_hardly_moves_is_given_up_for_another(tmp_path: Path) -> None:
    listing = one_file(CONTENT)
    desk = desk_for(str(tmp_path), listing)
    desk.fill(Dripping(listing, CONTENT, desk, bodies=2))
    assert desk.content() == {BIG: CONTENT}
    assert desk.waits == [1.0, 2.0]


def test_a_source_that_drips_and_drips_is_given_up(tmp_path: Path) -> None:
    listing = one_file(CONTENT)
    desk = desk_for(str(tmp_path), listing)
    with pytest.raises(SourceUnavailableError, match=r"less than 262144 bytes of .* in 30 s"):
        desk.fill(Dripping(listing, CONTENT, desk, bodies=99))


class Trickling(RangesSource):
    """A chunk of 2000 bytes every twenty seconds, for ever."""

    desk: FillDesk

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator[Any]:
        with super().fetch(listing, file, offset, length) as body:
            yield Trickle(body, self.desk)


class Trickle:
    def __init__(self, body: "RangeOf", desk: FillDesk) -> None:
        self.start = body.start
        self._body, self._desk = body, desk

    def readinto(self, buffer: memoryview) -> int:
        self._desk.clock.advance(20.0)
        return self._body.readinto(buffer[:2000])

    def abort(self) -> None:
        self._body.abort()


def test_a_drip_that_never_stops_is_given_up_after_minutes(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    listing = one_file(content)
    desk = desk_for(str(tmp_path), listing, part_bytes=1_000_000)
    source = Trickling(listing, content)
    source.desk = desk
    with pytest.raises(SourceUnavailableError, match="sends 6000 bytes in 60 s"):
        desk.fill(source)
    assert desk.clock.monotonic() - 1000.0 == 4 * 60.0


# --- space and the page cache ---------------------------------------------------------------------


def test_all_of_a_model_is_set_aside_before_the_first_byte(tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    listing = one_file(content)
    desk = desk_for(str(tmp_path), listing, part_bytes=1_000_000, tries=1)
    source = RangesSource(listing, content)
    source.breaks = [1]
    with pytest.raises(SourceUnavailableError):
        desk.fill(source)
    found = (desk.staging / "partial" / "0").stat()
    assert found.st_blocks * 512 >= 3_000_000
    assert found.st_size == 1
    told = [e.is_set_aside for e in desk.events if isinstance(e, Progress) and e.bytes_fetched]
    assert all(told)


def test_a_filesystem_that_sets_nothing_aside_is_filled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.store.at.set_aside", lambda *_: False)
    listing = one_file(CONTENT)
    desk = desk_for(str(tmp_path), listing)
    desk.fill(RangesSource(listing, CONTENT))
    assert desk.content() == {BIG: CONTENT}
    assert not [e for e in desk.events if isinstance(e, Progress) and e.is_set_aside]


class Watched:
    """Stands for `os`; notes what is synced and what the page cache is told to let go of."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fdatasync(self, fd: int) -> None:
        self.calls.append(("sync",))
        os.fdatasync(fd)

    def posix_fadvise(self, fd: int, start: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        self.calls.append(("drop", start, length))
        os.posix_fadvise(fd, start, length, advice)


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_the_page_cache_lets_go_of_what_is_synced_unless_a_pod_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_waited_for: bool
) -> None:
    listing, watched = one_file(CONTENT[:2500]), Watched()
    desk = desk_for(str(tmp_path), listing)
    desk.steering = Steering(keeps_cache=is_waited_for)
    monkeypatch.setattr(cursor, "os", watched)
    desk.fill(RangesSource(listing, CONTENT[:2500]))
    drops = [call for call in watched.calls if call[0] == "drop"]
    if is_waited_for:
        assert drops == []
    else:
        assert drops == [("drop", 0, 1000), ("drop", 1000, 1000), ("drop", 2000, 500)]
        assert watched.calls == [c for drop in drops for c in (("sync",), drop)]


def test_a_part_is_recorded_only_after_its_bytes_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = one_file(CONTENT)
    desk = desk_for(str(tmp_path), listing, range_bytes=PART, first_streams=4)

    class NoSync(Watched):
        def fdatasync(self, _: int) -> None:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(cursor, "os", NoSync())
    with pytest.raises(CacheRootError, match="Input/output error"):
        desk.fill(RangesSource(listing, CONTENT))
    assert (desk.staging / "parts").read_text() == ""


def test_a_partial_file_that_loses_its_end_is_a_fault_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Losing(Watched):
        def preadv(self, fd: int, buffers: list[memoryview], offset: int) -> int:
            del fd, buffers, offset
            return 0

    listing = one_file(CONTENT)
    desk = desk_for(str(tmp_path), listing)
    monkeypatch.setattr(cursor, "os", Losing())
    with pytest.raises(CacheRootError, match="a partial file has lost its end"):
        desk.fill(RangesSource(listing, CONTENT))


def test_a_stream_that_cannot_write_ends_the_fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Watched):
        def pwrite(self, *_: object) -> int:
            raise OSError(28, "No space left on device")

    listing = one_file(CONTENT)
    desk = desk_for(str(tmp_path), listing, range_bytes=PART, first_streams=4)
    monkeypatch.setattr(partial, "os", Full())
    with pytest.raises((TransientError, PermanentError)) as refused:
        desk.fill(RangesSource(listing, CONTENT))
    assert refused.value.reason is FillFailure.DISK_FULL


# --- as many streams as bring more ----------------------------------------------------------------


def test_streams_are_added_while_they_bring_more(tmp_path: Path) -> None:
    """Time passes with each request, less of it the more streams there are."""
    content = os.urandom(600_000)
    listing = one_file(content)
    desk = desk_for(str(tmp_path), listing, part_bytes=1000, range_bytes=1000)
    names: set[str] = set()

    class Slow(RangesSource):
        @contextmanager
        def fetch(
            self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
        ) -> Iterator[Any]:
            names.add(threading.current_thread().name)
            with super().fetch(listing, file, offset, length) as body:
                yield body
            threading.Event().wait(0.002)
            desk.clock.advance(0.02 / max(1, len(names)))

    desk.fill(Slow(listing, content))
    assert desk.content() == {BIG: content}
    assert len(names) > 1


def test_a_model_in_memory_of_several_files_is_fetched_by_several_streams(tmp_path: Path) -> None:
    files = {f"f{n}": os.urandom(3000) for n in range(12)}
    with Hub({"acme/tiny": Repo(files)}) as hub:
        desk = FillDesk(tmp_path / "root", hub.url)
        desk.change(pace=replace(desk.job.pace, first_streams=5))
        desk.resolve_and_fill()
        assert desk.content() == files
