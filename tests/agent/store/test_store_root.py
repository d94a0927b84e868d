import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from stocked_root import IRIS, IRIS_FILES, StockedRoot, open_root, snapshot

from agent.planning.values import Disk
from agent.settings import AgentSettings
from agent.store import at
from agent.store.inventory import scan
from agent.store.root import CacheRoot
from agent.store.store import Store
from larder.errors import CacheRootError
from larder.layout import CURRENT
from runtime.clock import ManualClock

TOP = ["adopt", "blobs", "layout.json", "lock", "quarantine", "slots", "staging", "trash"]


def test_a_missing_root_is_made_with_its_directories(tmp_path: Path) -> None:
    with open_root(tmp_path / "root") as root:
        assert at.names(root.fd) == TOP
        assert root.path == tmp_path / "root"
    assert (tmp_path / "root" / "layout.json").read_text() == CURRENT.text()
    assert (tmp_path / "root" / "slots").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o755


def test_a_fresh_filesystem_with_lost_and_found_will_do(tmp_path: Path) -> None:
    (tmp_path / "root" / "lost+found").mkdir(parents=True)
    with open_root(tmp_path / "root") as root:
        assert scan(root.fd).findings == ()


def test_slots_that_pods_made_before_the_first_agent_came_are_taken_over(tmp_path: Path) -> None:
    slot = tmp_path / "root" / "slots" / ("a" * 16)
    slot.mkdir(parents=True)  # the kubelet's DirectoryOrCreate, on a node without an agent
    with open_root(tmp_path / "root") as root:
        assert Store(root).recover() == ()
    assert slot.is_dir()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    open_root(tmp_path / "root").close()
    before = snapshot(tmp_path / "root")
    open_root(tmp_path / "root").close()
    assert snapshot(tmp_path / "root") == before


@pytest.mark.parametrize(
    "left",
    [["lock"], ["lock", ".larder-0123"], ["lock", "layout.json"]],
    ids=["killed before the layout", "killed in the layout", "killed before the directories"],
)
def test_a_first_start_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, left: list[str]
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in left:
        (root / name).write_text(CURRENT.text() if name == "layout.json" else "")
    open_root(root).close()
    assert set(TOP) <= {entry.name for entry in root.iterdir()}


def _foreign(root: Path) -> None:
    root.mkdir()
    (root / "photos").mkdir()


def _layout(text: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        root.mkdir()
        (root / "layout.json").write_text(text)

    return write


def _with_layout(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _layout(CURRENT.text())(root)
        change(root)

    return write


REFUSED = {
    "a file": (lambda root: root.write_text("x"), "is a file; give a directory"),
    "a link to a directory": (
        lambda root: root.symlink_to(root.parent),
        "is a symbolic link; give the directory that it points to",
    ),
    "a dangling link": (lambda root: root.symlink_to("nowhere"), "is a symbolic link"),
    "a directory of somebody else": (
        _foreign,
        "is neither empty nor a cache: it holds 'photos' and no layout.json",
    ),
    "a newer schema": (
        _layout('{"schema": 9, "oldestReader": 7}'),
        "was written by a newer Larder (schema 9, for readers of 7 and up); this one reads up to 1",
    ),
    "an unreadable layout": (_layout("{"), "its layout.json is not readable as one"),
    "a layout that is no text": (_layout("\x00\udcff".encode(errors="replace").decode()), "is not"),
    "a layout of nested brackets": (_layout("[" * 4000), "its layout.json is not readable"),
    "a huge layout": (_layout(" " * 5000), "larger than 4096 bytes"),
    "a layout that is a link": (
        lambda root: (root.mkdir(), (root / "layout.json").symlink_to("/etc/hostname")),
        "Too many levels of symbolic links",
    ),
    "slots that are a file": (
        _with_layout(lambda root: (root / "slots").write_text("x")),
        "slots in it is not a directory",
    ),
    "a trash that is a link": (
        _with_layout(lambda root: (root / "trash").symlink_to("/tmp")),  # noqa: S108 - never opened
        "trash in it is not a directory",
    ),
    "a lock that is a link": (
        _with_layout(lambda root: (root / "lock").symlink_to("elsewhere")),
        "Too many levels of symbolic links",
    ),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_an_unfit_root_is_refused_in_one_sentence_and_left_as_it_was(
    tmp_path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    make(tmp_path / "root")
    before = snapshot(tmp_path)

    with pytest.raises(CacheRootError) as refusal:
        open_root(tmp_path / "root")

    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith(f"cache root {tmp_path / 'root'} ")
    assert "\n" not in str(refusal.value)
    assert snapshot(tmp_path) == before


def test_a_root_is_not_made_where_its_parent_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CacheRootError, match=r"a/b cannot be made: .*/a is not a directory"):
        open_root(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "larder-that-nobody-made"], ids=["existing", "missing"])
def test_the_systems_disk_is_refused_unless_allowed(name: str) -> None:
    before = sorted(Path("/").iterdir())
    variable = f"{AgentSettings.model_config['env_prefix']}ALLOW_ANY_DISK=true"
    sentence = f"is on the system's own disk, .* --allow-any-disk .* {variable}"
    with pytest.raises(CacheRootError, match=sentence):
        CacheRoot.open(
            Path("/") / name,
            allow_any_disk=False,
            clock=ManualClock(),
            stop=threading.Event(),
        )
    assert sorted(Path("/").iterdir()) == before


def test_another_filesystem_needs_no_permission() -> None:
    shared_memory = Path("/dev/shm")  # noqa: S108 - a filesystem of its own
    if not os.path.ismount(shared_memory) or not os.access(shared_memory, os.W_OK):
        pytest.skip("no second filesystem that can be written to")
    root = shared_memory / f"larder-test-{os.getpid()}"
    try:
        CacheRoot.open(
            root, allow_any_disk=False, clock=ManualClock(), stop=threading.Event()
        ).close()
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("file", ["/etc/hosts", "/etc/hostname"])
def test_in_a_pod_the_disk_of_the_kubelet_or_the_runtime_is_the_systems(
    tmp_path: Path, file: str
) -> None:
    """There `/` is an overlay; these files are mounted from where pods and images are kept."""
    if not Path(file).exists():
        pytest.skip(f"no {file}")
    disk, theirs = tmp_path / "disk", tmp_path / "disk/theirs"
    disk.mkdir()
    script = (
        f"mount -t tmpfs none {disk} && touch {theirs} && mount --bind {theirs} {file}"
        f' && mkdir {disk}/root && exec "$@"'
    )
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)  # noqa: S603 - our words
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a mount needs CAP_SYS_ADMIN, unshare and mount")

    sentence = _sentence_of(prefix, disk / "root", allow_any_disk=False)

    assert sentence.startswith(f"cache root {disk}/root is on the system's own disk, ")
    assert _sentence_of(prefix, disk / "root", allow_any_disk=True) == ""


class _Waits(threading.Event):
    """A stop event that is never set; waiting on it moves the clock, and somebody may act."""

    def __init__(self, clock: ManualClock, then: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.waited_seconds: list[float] = []
        self._clock = clock
        self._then = then

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waited_seconds.append(timeout)
        self._clock.advance(timeout)
        self._then()
        return self.is_set()


def test_a_root_held_by_another_agent_is_refused_after_the_wait(tmp_path: Path) -> None:
    clock = ManualClock()
    stop = _Waits(clock)
    with open_root(tmp_path / "root"):
        before = snapshot(tmp_path)
        with pytest.raises(CacheRootError, match="is held by another agent; one agent a root"):
            CacheRoot.open(tmp_path / "root", allow_any_disk=True, clock=clock, stop=stop)
        assert snapshot(tmp_path) == before
    assert sum(stop.waited_seconds) == pytest.approx(30.0)


def test_a_root_that_is_given_back_in_time_is_taken(tmp_path: Path) -> None:
    clock = ManualClock()
    held = open_root(tmp_path / "root")

    def give_back() -> None:
        if clock.monotonic() >= 1010 and held._lock_fd is not None:
            held.close()
            held._lock_fd = None

    stop = _Waits(clock, then=give_back)
    CacheRoot.open(tmp_path / "root", allow_any_disk=True, clock=clock, stop=stop).close()
    assert sum(stop.waited_seconds) == pytest.approx(10.0)


def test_a_stop_while_waiting_for_the_lock_ends_the_wait(tmp_path: Path) -> None:
    clock = ManualClock()
    stop = _Waits(clock, then=lambda: threading.Event.set(stop))
    with open_root(tmp_path / "root"), pytest.raises(CacheRootError):
        CacheRoot.open(tmp_path / "root", allow_any_disk=True, clock=clock, stop=stop)
    assert len(stop.waited_seconds) == 1


def test_a_root_that_a_newer_agent_took_during_the_wait_is_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    held = open_root(tmp_path / "root")

    def upgrade() -> None:
        (tmp_path / "root" / "layout.json").write_text('{"schema": 2, "oldestReader": 2}')
        held.close()

    with pytest.raises(CacheRootError, match="newer Larder"):
        CacheRoot.open(
            tmp_path / "root", allow_any_disk=True, clock=clock, stop=_Waits(clock, then=upgrade)
        )


def test_the_lock_ends_with_the_root_and_is_not_inherited(tmp_path: Path) -> None:
    root = open_root(tmp_path / "root")
    child = subprocess.Popen(["sleep", "60"])  # noqa: S607 - any program will do
    try:
        assert not os.get_inheritable(root.fd)
        root.close()
        open_root(tmp_path / "root").close()
    finally:
        child.kill()
        child.wait()


def test_no_handle_is_left_open(tmp_path: Path, stocked: StockedRoot) -> None:
    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = handles()
    open_root(tmp_path / "fit").close()
    with pytest.raises(CacheRootError):
        CacheRoot.open_readonly(tmp_path)
    for number, (make, _) in enumerate(REFUSED.values()):
        make(tmp_path / str(number))
        with pytest.raises(CacheRootError):
            open_root(tmp_path / str(number))
    stocked.publish(IRIS, IRIS_FILES)
    stocked.scan()
    stocked.evict(IRIS)
    stocked.store.recover()
    assert handles() == before


def test_a_living_cache_can_be_looked_at_without_a_lock(stocked: StockedRoot) -> None:
    stocked.publish(IRIS, IRIS_FILES)
    before = snapshot(stocked.path)
    with CacheRoot.open_readonly(stocked.path) as root:
        assert scan(root.fd).slots[IRIS].is_ready
    assert snapshot(stocked.path) == before


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(lambda _: None, "cannot be used: No such file or directory", id="missing"),
        pytest.param(
            lambda root: root.mkdir(), "holds no cache: it has no layout.json", id="empty"
        ),
        *(
            pytest.param(make, sentence, id=name)
            for name, (make, sentence) in REFUSED.items()
            if "somebody" not in name and "lock" not in name
        ),
    ],
)
def test_looking_at_what_is_no_cache_is_refused(
    tmp_path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    make(tmp_path / "root")
    before = snapshot(tmp_path)
    with pytest.raises(CacheRootError) as refusal:
        CacheRoot.open_readonly(tmp_path / "root")
    assert sentence in str(refusal.value)
    assert snapshot(tmp_path) == before


def test_the_disk_is_what_the_filesystem_says_without_the_reserve(stocked: StockedRoot) -> None:
    found = os.statvfs(stocked.path)
    disk = stocked.root.disk()
    assert disk.total_bytes == found.f_blocks * found.f_frsize
    assert disk.available_bytes == pytest.approx(found.f_bavail * found.f_frsize, rel=0.05)
    assert isinstance(disk, Disk)


def test_a_disk_that_cannot_be_asked_is_refused_in_one_sentence(
    stocked: StockedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> os.statvfs_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fstatvfs", broken)
    with pytest.raises(CacheRootError, match="cannot be used: Input/output error"):
        stocked.root.disk()


def test_a_lock_that_the_filesystem_cannot_give_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int, __: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(CacheRootError, match="cannot be used: No locks available"):
        open_root(tmp_path / "root")


# --- a read-only root; in a process of its own, because uid 0 may write anywhere ---

OPEN = """
import sys, threading
from agent.store.root import CacheRoot
from pathlib import Path
from runtime.clock import ManualClock
from larder.errors import CacheRootError
try:
    CacheRoot.open(
        Path(sys.argv[1]),
        allow_any_disk=bool(sys.argv[2]),
        clock=ManualClock(),
        stop=threading.Event(),
    )
except CacheRootError as error:
    print(error)
"""
WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def _has_capabilities() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    return int(effective.split()[1], 16) != 0


def _sentence_of(prefix: list[str], root: Path, *, allow_any_disk: bool = True) -> str:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[2])])
    done = subprocess.run(  # noqa: S603 - our own words
        [*prefix, sys.executable, "-c", OPEN, str(root), "any" * allow_any_disk],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return done.stdout.strip()


@pytest.mark.parametrize("has_cache", [True, False], ids=["a cache", "an empty directory"])
def test_a_root_that_may_not_be_written_is_refused_without_a_write(
    tmp_path: Path, has_cache: bool
) -> None:
    prefix = WITHOUT_CAPABILITIES if _has_capabilities() else []
    if prefix and shutil.which(prefix[0]) is None:
        pytest.skip("uid 0 may write anywhere, and setpriv is not installed")
    root = tmp_path / "root"
    open_root(root).close() if has_cache else root.mkdir()
    root.chmod(0o555)
    before = snapshot(tmp_path)

    assert _sentence_of(prefix, root) == f"cache root {root} is read-only for uid {os.getuid()}"

    assert snapshot(tmp_path) == before


def test_a_missing_root_in_a_directory_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    prefix = WITHOUT_CAPABILITIES if _has_capabilities() else []
    if prefix and shutil.which(prefix[0]) is None:
        pytest.skip("uid 0 may write anywhere, and setpriv is not installed")
    tmp_path.chmod(0o555)
    root = tmp_path / "root"
    assert _sentence_of(prefix, root) == f"cache root {root} cannot be made: Permission denied"


def test_a_filesystem_mounted_read_only_is_refused_without_a_write(tmp_path: Path) -> None:
    root = tmp_path / "root"
    open_root(root).close()
    mount = f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && "
    prefix = ["unshare", "--mount", "sh", "-c", mount + 'exec "$@"', "sh"]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)  # noqa: S603 - our words
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a read-only mount needs CAP_SYS_ADMIN, unshare and mount")
    before = snapshot(tmp_path)

    sentence = _sentence_of(prefix, root)

    assert sentence == f"cache root {root} is on a filesystem that is mounted read-only"
    assert snapshot(tmp_path) == before
