"""hf-xet as an option: the real one, against a store of chunks, in real children of fills."""

import random
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from os import kill
from pathlib import Path
from typing import Any

import pytest
import structlog
from fill_desk import KEY
from fill_parent import Parent

from agent.fill.job import Job, Operation, Pace
from agent.fill.runner import FillResult
from agent.sources.secret import HF_TOKEN, Secret
from demo.hub import Fault, Hub, Repo, Status
from larder.layout import staging_path
from tests.fakes.xet_cas import TOKEN, Cas

MIB = 1024 * 1024
BIG = "model.safetensors"
CONTENT = random.Random(7).randbytes(6 * MIB + 1)  # noqa: S311 - the same in every run
BEARER = "hf_verysecretverysecret"
ENOUGH_SECONDS = 60.0
PACE = Pace(part_bytes=MIB, range_bytes=2 * MIB, first_wait_seconds=0.01, chunk_seconds=600.0)


class XetParent(Parent):
    """One whose fills may use hf-xet."""

    enough_seconds = ENOUGH_SECONDS

    def __init__(self, root: Path, endpoint: str) -> None:
        root.mkdir()
        job = Job(
            Operation.RESOLVE,
            str(root),
            KEY,
            "hf://acme/tiny",
            "main",
            endpoint,
            Secret({HF_TOKEN: BEARER}),
            pace=PACE,
            xet_memory_bytes=1024 * MIB,
        )
        super().__init__(job)
        self.staging = root / staging_path(KEY)

    def resolve(self) -> None:
        self.start()
        assert self.result().error is None

    def fill(self, **changes: Any) -> FillResult:
        self.resolve()
        self.start(operation=Operation.FILL, **changes)
        return self.result()


@pytest.fixture
def cas() -> Iterator[Cas]:
    with Cas() as cas:
        yield cas


@pytest.fixture
def hub(tmp_path: Path, cas: Cas) -> Iterator[Hub]:
    uploaded = tmp_path / "uploaded"
    uploaded.write_bytes(CONTENT)
    repo = Repo({"config.json": b"{}", BIG: uploaded}, private=True, tokens=(BEARER,))
    with Hub({"acme/tiny": repo}, cdn=True) as hub:
        hub.xet = cas.store([uploaded])
        cas.requests.clear()
        yield hub


@pytest.fixture
def parent(tmp_path: Path, hub: Hub) -> Iterator[XetParent]:
    parent = XetParent(tmp_path / "root", hub.url)
    yield parent
    parent.fills.stop()


def downloads(cas: Cas) -> int:
    return sum(request.startswith("GET /download/") for request in cas.requests)


def of_big_over_https(hub: Hub) -> int:
    return sum(request.kind == "get" and request.path == BIG for request in hub.requests)


def xet_of(fill_pid: int) -> int | None:
    """The process that a fill has hf-xet in."""
    for proc in Path("/proc").iterdir():
        with suppress(OSError):
            if proc.name.isdigit() and b"agent.sources.xet_child" in command_of(int(proc.name)):
                parent = (proc / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == fill_pid:
                    return int(proc.name)
    return None


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def ends(pid: int) -> bool:
    """Whether a process goes, soon; one that nobody has waited for is gone, too."""
    pause = threading.Event()
    for _ in range(int(ENOUGH_SECONDS / 0.02)):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        pause.wait(0.02)
    return False


def test_a_file_that_the_hub_has_in_chunks_comes_by_hf_xet_byte_for_byte(
    parent: XetParent, hub: Hub, cas: Cas
) -> None:
    assert parent.fill().error is None
    assert (parent.staging / "tree" / BIG).read_bytes() == CONTENT
    assert downloads(cas) == 4  # ranges of 2 MiB
    assert of_big_over_https(hub) == 0
    assert hub.counts()["xet"] == 1  # one token for all of them
    left = [path for path in (parent.staging / "xet").rglob("*") if not path.is_dir()]
    assert left == []  # neither chunks nor logs


def test_a_fill_is_the_same_with_hf_xet_and_without(
    parent: XetParent, hub: Hub, tmp_path: Path
) -> None:
    plain = XetParent(tmp_path / "plain", hub.url)
    assert plain.fill(xet_memory_bytes=0).error is None
    assert parent.fill().error is None
    manifests = [(each.staging / "manifest").read_bytes() for each in (plain, parent)]
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("by", ["default", "a limit on bandwidth"])
def test_hf_xet_is_not_used_by(by: str, parent: XetParent, hub: Hub, cas: Cas) -> None:
    changes: dict[str, Any] = {}
    if by == "default":
        changes["xet_memory_bytes"] = Job.__dataclass_fields__["xet_memory_bytes"].default
    else:
        parent.fills.steer(1024 * MIB, frozenset())
    assert parent.fill(**changes).error is None
    assert (parent.staging / "tree" / BIG).read_bytes() == CONTENT
    assert cas.requests == []
    assert hub.counts()["xet"] == 0


def faulty(fault: str, hub: Hub, cas: Cas) -> dict[str, Any]:
    """Have something go wrong with hf-xet; what the job has to say for that."""
    match fault:
        case "memory":
            cas.stalls = True
            return {"xet_memory_bytes": 10 * MIB}
        case "stall":
            cas.stalls = True
            return {"pace": replace(PACE, chunk_seconds=1.0)}
        case "bytes":
            cas.flips = True
        case "no token":
            hub.faults.append(Fault(Status(404), kind="xet"))
        case _:
            cas.status = 403
    return {}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("memory", "it took more than 10485760 bytes of memory"),
        ("stall", "nothing came for too long"),
        ("bytes", "a file that it had a part in is not what was listed"),
        ("no token", "127.0.0.1 does not have what was asked of acme/tiny"),
        # hf-xet raises it, or ends its stream as if nothing were wrong
        ("refusal", r"403 Forbidden|the source ended 'model.safetensors' after 0 of 6291457"),
    ],
)
def test_a_fault_of_hf_xet_s_is_told_once_and_the_fill_goes_on_over_https(
    parent: XetParent, hub: Hub, cas: Cas, fault: str, told: str
) -> None:
    changes = faulty(fault, hub, cas)
    with structlog.testing.capture_logs() as logs:
        result = parent.fill(**changes)
    assert result.error is None
    assert (parent.staging / "tree" / BIG).read_bytes() == CONTENT
    assert of_big_over_https(hub) > 0
    (said,) = [log for log in logs if log["log_level"] == "warning"]
    assert (said["event"], said["key"]) == ("fill goes on another way", KEY)
    assert said["reason"].startswith("hf-xet is not used any more: ")
    assert re.search(told, said["reason"])
    assert not any(secret in str(logs) for secret in (TOKEN, BEARER, "secret-of-a-link"))


def test_what_hf_xet_brought_before_it_failed_is_kept(
    parent: XetParent, hub: Hub, cas: Cas
) -> None:
    cas.downloads_left = 2
    assert parent.fill(pace=replace(PACE, most_streams=1)).error is None
    assert (parent.staging / "tree" / BIG).read_bytes() == CONTENT
    ranges = {r.range for r in hub.requests if r.path == BIG and r.kind == "get"}
    assert f"bytes={4 * MIB}-{6 * MIB - 1}" in ranges
    assert f"bytes=0-{2 * MIB - 1}" not in ranges


@pytest.mark.parametrize("end", ["killed", "cancelled"])
def test_no_hf_xet_outlives_its_fill(parent: XetParent, cas: Cas, end: str) -> None:
    cas.stalls = True
    parent.resolve()
    parent.start(operation=Operation.FILL)
    assert cas.stalled.wait(ENOUGH_SECONDS)
    fill, xet = parent.pid, xet_of(parent.pid)
    assert xet is not None
    if end == "killed":
        kill(fill, signal.SIGKILL)  # it alone, as the kernel does when memory ends
    else:
        parent.fills.cancel(KEY)
    assert ends(xet)


def test_hf_xet_is_told_nothing_that_others_can_read_and_never_the_hub_s_token(
    parent: XetParent, cas: Cas
) -> None:
    cas.stalls = True
    parent.resolve()
    parent.start(operation=Operation.FILL)
    assert cas.stalled.wait(ENOUGH_SECONDS)
    xet = xet_of(parent.pid)
    assert xet is not None
    shown = command_of(xet) + Path(f"/proc/{xet}/environ").read_bytes()
    assert BEARER.encode() not in shown
    assert TOKEN.encode() not in shown
    assert cas.authorizations == {f"Bearer {TOKEN}"}
