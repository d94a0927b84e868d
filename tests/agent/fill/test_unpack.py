"""What comes of archives, and of files whose size nobody says, becomes blobs that a tree links."""

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.fill.meter import Meter
from agent.fill.staging import StagedTree
from agent.fill.unpack import Unpacking
from agent.planning.values import Listing, RemoteFile
from agent.sources.https import HttpsSource
from agent.sources.secret import NO_SECRET
from agent.sources.web import Timeouts, Web
from agent.store import at
from larder.errors import BudgetExceededError, SourceDriftedError, SourceUnavailableError
from larder.manifest import ManifestFile
from runtime.clock import ManualClock
from tests.fakes.file_server import FileServer

FILES = {"config.json": b"{}", "w/1.bin": b"1" * 700_000, "w/2.bin": b"1" * 700_000, "empty": b""}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


@contextmanager
def unpacking(root: Path, listing: Listing, url: str = "http://h") -> Iterator[Unpacking]:
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    staging_fd = at.open_directory(root_fd, ("staging", "k"), create=True)
    partial_fd = at.open_directory(staging_fd, ("partial",), create=True)
    source = HttpsSource(url, NO_SECRET, ManualClock(), Web(Timeouts(5.0, 5.0)))
    try:
        with closing(StagedTree(root_fd, staging_fd, listing)) as tree:
            meter = Meter(listing.size_bytes, ManualClock(), lambda _: None)
            yield Unpacking(root_fd, partial_fd, source, tree, meter)
    finally:
        source.close()
        for fd in (partial_fd, staging_fd, root_fd):
            os.close(fd)


def staged(root: Path, data: bytes, room: int = 2_000_000) -> Listing:
    partial = root / "staging/k/partial"
    partial.mkdir(parents=True, exist_ok=True)
    (partial / "0").write_bytes(data)
    archive = RemoteFile("m.tgz", len(data), unpacked_bytes=room)
    return Listing("https://h/m.tgz", "sha256:0", (archive,))


def content(root: Path) -> dict[str, bytes]:
    tree = root / "staging/k/tree"
    return {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


def test_every_member_is_a_blob_that_the_tree_links(tmp_path: Path) -> None:
    listing = staged(tmp_path, tar_of(FILES))
    with unpacking(tmp_path, listing) as work:
        files = work.run(listing, listing.files[0])
    assert content(tmp_path) == FILES
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}
    assert {(f.path, f.size_bytes, f.sha256) for f in files} == {
        (path, len(data), digests[path]) for path, data in FILES.items()
    }
    assert all(isinstance(file, ManifestFile) for file in files)
    one, two = ((tmp_path / "staging/k/tree/w" / n).stat() for n in ("1.bin", "2.bin"))
    assert one.st_ino == two.st_ino
    assert stat.S_IMODE(one.st_mode) == 0o444
    assert [p.name for p in (tmp_path / "staging/k/partial").iterdir()] == ["0"]


@pytest.mark.parametrize("written", [None, b"half of a mem"], ids=["a blob by now", "half"])
def test_what_a_killed_run_left_is_made_anew(tmp_path: Path, written: bytes | None) -> None:
    listing = staged(tmp_path, tar_of(FILES))
    left = tmp_path / "staging/k/partial/1"
    with unpacking(tmp_path, listing) as work:
        work.run(listing, listing.files[0])
        blob = next(p for p in (tmp_path / "blobs").rglob("*") if p.is_file())
        before = blob.read_bytes()
        if written is None:
            os.link(blob, left)
        else:
            left.write_bytes(written)
    with unpacking(tmp_path, listing) as work:
        assert len(work.run(listing, listing.files[0])) == len(FILES)
    assert content(tmp_path) == FILES
    assert blob.read_bytes() == before


def test_an_archive_that_is_refused_leaves_no_more_than_it_may_hold(tmp_path: Path) -> None:
    listing = staged(tmp_path, tar_of(FILES), room=1_000_000)
    with unpacking(tmp_path, listing) as work, pytest.raises(BudgetExceededError, match="maxSize"):
        work.run(listing, listing.files[0])
    assert sum(map(len, content(tmp_path).values())) <= 1_000_000
    listing = staged(tmp_path, tar_of({"../../x": b"x"}))
    with unpacking(tmp_path, listing) as work, pytest.raises(SourceDriftedError, match="leads out"):
        work.run(listing, listing.files[0])
    assert not (tmp_path / "staging/x").exists()


def test_names_that_this_filesystem_folds_or_that_come_twice_are_refused(tmp_path: Path) -> None:
    listing = staged(tmp_path, tar_of({"a": b"1", "./a": b"2"}))
    with unpacking(tmp_path, listing) as work, pytest.raises(SourceDriftedError, match="'a'"):
        work.run(listing, listing.files[0])


# --- a file whose size nobody says ----------------------------------------------------------------

URI = "https://models.example/m.gguf"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"/m.gguf": bytes(range(256)) * 4000}) as server:
        server.sends_chunks = True
        yield server


def unsized(server: FileServer, room: int = 2_000_000) -> Listing:
    file = RemoteFile("m.gguf", 0, etag=server.etag("/m.gguf"), unpacked_bytes=room)
    return Listing(URI, "sha256:0", (file,))


def test_a_file_in_chunks_is_taken_as_it_comes(server: FileServer, tmp_path: Path) -> None:
    listing = unsized(server, room=1_024_000)
    with unpacking(tmp_path, listing, server.url) as work:
        (file,) = work.run(listing, listing.files[0])
    assert content(tmp_path) == {"m.gguf": server.files["/m.gguf"]}
    assert (file.path, file.size_bytes) == ("m.gguf", 1_024_000)


def test_a_file_in_chunks_that_breaks_off_is_no_file(server: FileServer, tmp_path: Path) -> None:
    server.breaks_off = True
    listing = unsized(server)
    with unpacking(tmp_path, listing, server.url) as work, pytest.raises(SourceUnavailableError):
        work.run(listing, listing.files[0])
    assert content(tmp_path) == {}


def test_a_file_that_is_larger_than_it_may_be_is_refused(
    server: FileServer, tmp_path: Path
) -> None:
    listing = unsized(server, room=1_023_999)
    with unpacking(tmp_path, listing, server.url) as work, pytest.raises(BudgetExceededError):
        work.run(listing, listing.files[0])
    assert content(tmp_path) == {}


def test_a_file_that_is_another_by_now_is_a_drift(server: FileServer, tmp_path: Path) -> None:
    listing = unsized(server)
    server.files["/m.gguf"] = b"another"
    with unpacking(tmp_path, listing, server.url) as work, pytest.raises(SourceDriftedError):
        work.run(listing, listing.files[0])
