"""What comes of archives, and of files whose size nobody says, becomes blobs that a tree links."""

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event as Signal
from typing import Any

import pytest

from agent.fill import unpack
from agent.fill.engine import resolve
from agent.fill.job import Event, Job, Operation, Pace, Progress, Steering
from agent.fill.staging import read_listing
from agent.fill.workplace import Workplace
from agent.sources.https import HttpsSource
from agent.sources.secret import NO_SECRET
from agent.sources.web import Timeouts, Web
from agent.store import at
from agent.store.inventory import is_complete, scan
from larder.errors import (
    BudgetExceededError,
    PermanentError,
    SourceDriftedError,
    SourceUnavailableError,
    TransientError,
)
from larder.layout import Key
from larder.manifest import parse_manifest
from larder.status import ModelState
from runtime.clock import ManualClock
from tests.fakes.fault_proxy import Fault, FaultProxy, Reset
from tests.fakes.file_server import FileServer

KEY = Key("ab" * 8)
FILES = {"config.json": b"{}", "w/1.bin": b"1" * 700_000, "w/2.bin": b"1" * 700_000, "empty": b""}
ROOM = 2_000_000


def tar_of(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]  # any mode
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


class Desk:
    """One key on one root, and the server that it is filled from."""

    def __init__(self, root: Path, url: str, name: str = "m.tar") -> None:
        self.root, self.events = root, list[Event]()
        self.clock, self.steering = ManualClock(), Steering()
        self.url = url
        pace = Pace(part_bytes=100_000, read_timeout_seconds=5.0)
        uri = f"https://models.example/{name}"
        self.job = Job(Operation.FILL, str(root), KEY, uri, "", url, pace=pace, max_size_bytes=ROOM)

    @property
    def staging(self) -> Path:
        return self.root / "staging" / KEY

    def change(self, **changes: Any) -> None:
        self.job = replace(self.job, **changes)

    def run(self, operation: Operation) -> None:
        root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        staging_fd = at.open_directory(root_fd, ("staging", KEY), create=True)
        clock = self.clock
        try:
            with closing(HttpsSource(self.url, NO_SECRET, clock, Web(Timeouts(5.0, 5.0)))) as web:
                place = Workplace(
                    root_fd,
                    staging_fd,
                    web,
                    clock,
                    self.events.append,
                    self.wait,
                    lambda: 1.0,
                    lambda: self.steering,
                )
                if operation is Operation.RESOLVE:
                    resolve(self.job, place)
                    return
                listing = read_listing(staging_fd)
                assert listing
                assert listing.unmeasured
                unpack.fill_unmeasured(self.job, place, listing, listing.unmeasured)
                assert is_complete(staging_fd)
        finally:
            os.close(staging_fd)
            os.close(root_fd)

    def wait(self, seconds: float, ended: Signal) -> None:
        assert not ended.is_set()
        self.clock.advance(seconds)

    def resolve(self) -> None:
        self.run(Operation.RESOLVE)

    def fill(self) -> None:
        self.run(Operation.FILL)

    def content(self) -> dict[str, bytes]:
        tree = self.staging / "tree"
        return {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file()}

    def blobs(self) -> set[bytes]:
        return {p.read_bytes() for p in (self.root / "blobs").rglob("*") if p.is_file()}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"/m.tar": tar_of(FILES), "/m.gguf": bytes(range(256)) * 4000}) as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path, server: FileServer) -> Desk:
    return Desk(tmp_path, server.url)


# --- archives -------------------------------------------------------------------------------------


def test_an_archive_becomes_its_members_and_is_gone(desk: Desk) -> None:
    desk.resolve()
    desk.fill()
    assert desk.content() == FILES
    manifest = parse_manifest((desk.staging / "manifest").read_text())
    assert {(f.path, f.size_bytes, f.sha256) for f in manifest.files} == {
        (path, len(data), hashlib.sha256(data).hexdigest()) for path, data in FILES.items()
    }
    assert manifest.revision.startswith("sha256:")
    one, two = ((desk.staging / "tree/w" / n).stat() for n in ("1.bin", "2.bin"))
    assert one.st_ino == two.st_ino
    assert stat.S_IMODE(one.st_mode) == 0o444
    assert desk.blobs() == set(FILES.values())
    assert {p.name for p in desk.staging.iterdir()} == {
        "listing.json",
        "manifest",
        "partial",
        "tree",
    }
    assert not list((desk.staging / "partial").iterdir())


def test_progress_is_of_the_archive_and_of_all_that_it_may_hold(
    desk: Desk, server: FileServer
) -> None:
    desk.resolve()
    desk.events.clear()
    desk.fill()
    told = [event for event in desk.events if isinstance(event, Progress)]
    size = len(server.files["/m.tar"])
    assert {event.bytes_total for event in told} == {size + ROOM}
    states = [event.state for event in told]
    assert states == [ModelState.DOWNLOADING] * (len(told) - 1) + [ModelState.VERIFYING]
    assert told[-1].bytes_done == size + sum(map(len, FILES.values()))
    assert told[-1].bytes_fetched == size


def test_of_a_killed_run_the_archive_stays_and_members_are_made_anew(
    desk: Desk, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.resolve()
    added = iter(range(100))
    add_blob = unpack.add_blob

    def add_some(*arguments: Any) -> None:
        add_blob(*arguments)
        if next(added) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(unpack, "add_blob", add_some)
    with pytest.raises(KeyboardInterrupt):
        desk.fill()
    monkeypatch.setattr(unpack, "add_blob", add_blob)
    root_fd = os.open(desk.root, os.O_RDONLY | os.O_DIRECTORY)
    assert not [f for f in scan(root_fd).findings if "staging" in str(f)]
    os.close(root_fd)
    server.files["/m.tar"] = b"what is asked for now is another one"
    desk.fill()
    assert desk.content() == FILES
    assert desk.blobs() == set(FILES.values())


def test_an_archive_goes_on_where_its_connection_broke(tmp_path: Path, server: FileServer) -> None:
    with FaultProxy(server.url) as proxy:
        desk = Desk(tmp_path, proxy.url)
        desk.resolve()
        is_body = lambda asked: asked.headers.get("Range") != "bytes=0-0"  # noqa: E731 - a predicate
        proxy.faults.append(Fault(Reset(500_000), is_body, times=1))
        desk.fill()
    assert desk.content() == FILES


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (tar_of({"../../x": b"x"}), SourceDriftedError, "leads out"),
        (tar_of({"a": b"1", "./a": b"2"}), SourceDriftedError, "'a'"),
        (tar_of(FILES)[:-20_000], SourceDriftedError, "damaged"),
        (tar_of({"a": bytes(ROOM + 1)}, "w:gz"), BudgetExceededError, "maxSize accepts"),
    ],
)
def test_an_archive_that_is_refused_is_no_model(
    desk: Desk, server: FileServer, data: bytes, error: type[Exception], says: str
) -> None:
    server.files["/m.tar"] = data
    desk.resolve()
    with pytest.raises(error, match=says):
        desk.fill()
    assert not (desk.staging / "manifest").exists()
    assert not (desk.root / "staging/x").exists()
    assert sum(map(len, desk.content().values())) <= ROOM


def test_an_archive_beyond_its_entry_s_size_is_not_fetched(desk: Desk, server: FileServer) -> None:
    desk.change(max_size_bytes=len(server.files["/m.tar"]) - 1)
    with pytest.raises(BudgetExceededError, match="maxSize accepts"):
        desk.resolve()


def test_what_may_come_of_it_is_what_room_was_reserved_for(desk: Desk) -> None:
    desk.resolve()
    desk.change(max_size_bytes=ROOM + 1)
    with pytest.raises(TransientError, match="listed anew") as refused:
        desk.fill()
    assert refused.value.reason == "SourceDrifted"
    desk.resolve()
    desk.fill()
    assert desk.content() == FILES


def test_the_catalog_s_digest_is_that_of_the_manifest(desk: Desk) -> None:
    desk.change(digest="sha256:" + "0" * 64)
    desk.resolve()
    with pytest.raises(PermanentError, match="the catalog pins"):
        desk.fill()
    desk.change(digest=None)
    desk.fill()
    text = (desk.staging / "manifest").read_bytes()
    desk.change(digest="sha256:" + hashlib.sha256(text).hexdigest())
    desk.fill()


# --- a file whose size nobody says ----------------------------------------------------------------


@pytest.fixture
def chunked(tmp_path: Path, server: FileServer) -> Desk:
    server.sends_chunks = True
    desk = Desk(tmp_path, server.url, "m.gguf")
    desk.resolve()
    return desk


def test_a_file_in_chunks_is_taken_as_it_comes(chunked: Desk, server: FileServer) -> None:
    chunked.fill()
    assert chunked.content() == {"m.gguf": server.files["/m.gguf"]}
    last = chunked.events[-1]
    assert isinstance(last, Progress)
    assert last.bytes_fetched == last.bytes_done == 1_024_000


def test_a_file_in_chunks_comes_no_faster_than_the_node_lets_it(chunked: Desk) -> None:
    started = chunked.clock.monotonic()
    chunked.steering = Steering(bytes_per_second=100_000)
    chunked.fill()
    assert chunked.clock.monotonic() - started == pytest.approx(1_024_000 / 100_000, abs=0.5)


def test_a_file_in_chunks_that_breaks_off_is_no_file(chunked: Desk, server: FileServer) -> None:
    server.breaks_off = True
    with pytest.raises(SourceUnavailableError):
        chunked.fill()
    assert chunked.content() == {}
    server.breaks_off = False
    chunked.fill()


def test_a_file_in_chunks_that_is_larger_than_it_may_be_is_refused(
    tmp_path: Path, server: FileServer
) -> None:
    server.sends_chunks = True
    desk = Desk(tmp_path, server.url, "m.gguf")
    desk.change(max_size_bytes=1_023_999)
    desk.resolve()
    with pytest.raises(BudgetExceededError, match="more than 1023999 bytes, which maxSize accepts"):
        desk.fill()
    assert desk.content() == {}


def test_a_file_in_chunks_that_is_another_by_now_is_a_drift(
    chunked: Desk, server: FileServer
) -> None:
    server.files["/m.gguf"] = b"another"
    with pytest.raises(SourceDriftedError):
        chunked.fill()
