"""Real children: exec'd, watched, killed in the middle, and continued by the next one."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from fill_desk import KEY, PACE, FillDesk
from fill_parent import Parent

from agent.fill.child import child_environment
from agent.fill.job import Heard, Job, Operation, Pace, Steering, event_line
from agent.fill.runner import Fills
from agent.sources.secret import HF_TOKEN, Secret
from demo.hub import Cut, Fault, FlipBit, Hub, Repo, Stall, Status
from larder.contract import FillFailure
from larder.errors import PermanentError, TransientError
from larder.layout import Key
from larder.status import ModelState

BIG = "model.safetensors"
BEARER = "hf_verysecretverysecret"
SECRET = Secret({HF_TOKEN: BEARER})
ENOUGH_SECONDS = Parent.enough_seconds


def job_at(root: Path, hub: Hub) -> Job:
    uri = "hf://acme/tiny"
    return Job(Operation.FILL, str(root), KEY, uri, "main", hub.url, SECRET, pace=PACE)


@pytest.fixture
def parent(tmp_path: Path, hub: Hub) -> Iterator[Parent]:
    (tmp_path / "root").mkdir()
    parent = Parent(job_at(tmp_path / "root", hub))
    yield parent
    parent.fills.stop()


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_child_resolves_and_another_fills(
    parent: Parent, desk: FillDesk, hub: Hub, files: dict[str, bytes]
) -> None:
    resolved = parent.run(Operation.RESOLVE)
    assert (resolved.key, resolved.operation, resolved.error) == (KEY, Operation.RESOLVE, None)
    assert not hub.counts()["get"]
    filled = parent.run(Operation.FILL)
    assert filled.error is None
    assert filled.size_bytes == sum(map(len, files.values()))
    assert desk.content() == files
    assert desk.is_complete
    assert parent.fills.in_flight() == ()


def test_what_a_child_makes_can_be_read_by_pods_whatever_umask_the_agent_has(
    parent: Parent, desk: FillDesk
) -> None:
    before = os.umask(0o077)
    try:
        parent.run(Operation.RESOLVE)
        assert parent.run(Operation.FILL).error is None
    finally:
        os.umask(before)
    tree = desk.staging / "tree"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tree.rglob("*")}
    assert modes == {0o444, 0o755}


def test_a_child_at_work_is_in_flight_with_its_progress(parent: Parent, hub: Hub) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(Fault(Stall(after_bytes=2500), path=BIG, kind="cdn"))
    parent.start()
    assert hub.stalled.wait(ENOUGH_SECONDS)
    (progress,) = parent.fills.in_flight()
    assert (progress.key, progress.reserved_bytes) == (KEY, 1234)
    assert progress.state in {ModelState.QUEUED, ModelState.DOWNLOADING}
    with pytest.raises(ValueError, match="has a child already"):
        parent.start()
    hub.release()
    assert parent.result().error is None


@pytest.mark.parametrize(
    ("fault", "reason", "error"),
    [
        pytest.param(
            Fault(Status(401), kind="get"), FillFailure.ACCESS_DENIED, PermanentError, id="401"
        ),
        pytest.param(
            Fault(Status(403, "GatedRepo"), kind="get"),
            FillFailure.ACCESS_DENIED,
            PermanentError,
            id="gated",
        ),
        pytest.param(
            Fault(Status(404, "EntryNotFound"), kind="get"),
            FillFailure.SOURCE_DRIFTED,
            PermanentError,
            id="404",
        ),
        pytest.param(
            Fault(Status(500), kind="get"), FillFailure.SOURCE_UNAVAILABLE, TransientError, id="500"
        ),
        pytest.param(
            Fault(FlipBit(7), path=BIG), FillFailure.INTEGRITY_MISMATCH, TransientError, id="a bit"
        ),
    ],
)
def test_a_fault_reaches_the_parent_with_its_reason(
    parent: Parent, hub: Hub, fault: Fault, reason: FillFailure, error: type[Exception]
) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(replace(fault, hits=0))
    result = parent.run(Operation.FILL, pace=replace(PACE, tries=1))
    assert isinstance(result.error, error)
    assert result.error.reason is reason


def test_when_to_ask_again_reaches_the_parent(parent: Parent, hub: Hub) -> None:
    hub.faults.append(Fault(Status(429, headers={"Retry-After": "600"}), kind="api"))
    error = parent.run(Operation.RESOLVE).error
    assert isinstance(error, TransientError)
    assert error.retry_after_seconds == 600.0


def test_a_scheme_without_a_source_fails(parent: Parent) -> None:
    error = parent.run(Operation.RESOLVE, storage_uri="ftp://host/model").error
    assert isinstance(error, PermanentError)
    assert "no source for ftp://" in str(error)


def test_a_cache_root_that_is_gone_fails_in_one_sentence(parent: Parent) -> None:
    error = parent.run(Operation.RESOLVE, root="/nonexistent/root").error
    assert isinstance(error, TransientError)
    assert str(error) == (f"opening staging {KEY}: No such file or directory (/nonexistent/root)")


def test_a_staging_that_another_child_holds_is_left_alone(parent: Parent, hub: Hub) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(Fault(Stall(after_bytes=10), path=BIG, kind="cdn", times=1))
    parent.start()
    assert hub.stalled.wait(ENOUGH_SECONDS)
    second = Parent(parent.job)
    error = second.run(Operation.FILL).error
    assert isinstance(error, TransientError)
    assert "has not ended yet" in str(error)
    hub.release()
    assert parent.result().error is None


# --- ended from outside ---------------------------------------------------------------------------


@pytest.mark.parametrize("after_bytes", [0, 1, 999, 1000, 2500, 3846])
def test_a_child_killed_in_the_middle_is_continued_without_fetching_recorded_parts_again(
    parent: Parent, desk: FillDesk, hub: Hub, files: dict[str, bytes], after_bytes: int
) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(Fault(Stall(after_bytes), path=BIG, kind="cdn", times=1))
    parent.start()
    assert hub.stalled.wait(ENOUGH_SECONDS)
    recorded = after_bytes // 1000
    assert wait_for(lambda: big_parts(desk) == recorded)
    os.kill(parent.pid, signal.SIGKILL)
    error = parent.result().error
    assert isinstance(error, TransientError)
    assert "ended without a word (signal 9)" in str(error)
    assert not desk.is_complete
    hub.release()
    assert parent.run(Operation.FILL).error is None
    assert desk.content() == files
    links = [r.range for r in hub.requests if r.kind == "cdn"]
    assert links == [None, f"bytes={recorded * 1000}-" if recorded else None]


def big_parts(desk: FillDesk) -> int:
    parts = desk.staging / "parts"
    lines = parts.read_text().splitlines() if parts.exists() else []
    return sum(line.startswith("3 ") for line in lines)


def wait_for(condition: Any) -> bool:
    """Whether something that another process does comes true soon."""
    pause = threading.Event()
    return any(condition() or pause.wait(0.01) for _ in range(6000))


def test_a_child_without_progress_is_killed_and_said_to_be_stalled(
    parent: Parent, hub: Hub, desk: FillDesk
) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(Fault(Stall(after_bytes=2500), path=BIG, kind="cdn"))
    parent.start()
    assert hub.stalled.wait(ENOUGH_SECONDS)
    assert wait_for(lambda: big_parts(desk) == 2)
    parent.clock.advance(59.0)
    parent.fills.watch()
    assert is_alive(parent.pid)
    parent.clock.advance(1.0)
    parent.fills.watch()
    error = parent.result().error
    assert isinstance(error, TransientError)
    assert error.reason is FillFailure.STALLED
    assert "no byte arrived for 60 s" in str(error)


def test_a_long_listing_goes_on_as_long_as_its_source_answers(
    parent: Parent, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    parent.fills = Fills(
        clock=parent.clock, wake=parent.news.release, python=program(tmp_path, f"cat {fifo}")
    )
    parent.start(operation=Operation.RESOLVE)
    (child,) = parent.fills._children.values()
    with fifo.open("wb", buffering=0) as answers:
        for _ in range(3):
            parent.clock.advance(59.0)
            answers.write(event_line(Heard()))
            assert wait_for(lambda: child.idle_seconds() == 0.0)
        parent.fills.watch()
        assert is_alive(parent.pid)
        parent.clock.advance(60.0)
        parent.fills.watch()
    assert "no byte arrived for 60 s" in str(parent.result().error)


def test_a_child_that_outgrows_its_memory_is_killed(
    tmp_path: Path, hub: Hub, parent: Parent
) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(Fault(Stall(after_bytes=2500), path=BIG, kind="cdn"))
    parent.fills = Fills(
        clock=parent.clock, wake=parent.news.release, memory_limit_bytes=1024 * 1024
    )
    parent.start()
    assert hub.stalled.wait(ENOUGH_SECONDS)
    parent.fills.watch()
    error = parent.result().error
    assert isinstance(error, TransientError)
    assert "needs more than 1048576 bytes of memory" in str(error)
    assert tmp_path.exists()


def test_cancel_ends_a_child_and_keeps_what_it_recorded(
    parent: Parent, hub: Hub, desk: FillDesk, files: dict[str, bytes]
) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(Fault(Stall(after_bytes=2500), path=BIG, kind="cdn", times=1))
    parent.start()
    assert hub.stalled.wait(ENOUGH_SECONDS)
    assert wait_for(lambda: big_parts(desk) == 2)
    pid = parent.pid
    parent.fills.cancel(KEY)
    assert not is_alive(pid)
    assert parent.fills.in_flight() == ()
    assert parent.fills.take_finished() == ()
    hub.release()
    assert parent.run(Operation.FILL).error is None
    assert desk.content() == files


def test_a_child_whose_parent_is_gone_exits_by_itself(parent: Parent, hub: Hub) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(Fault(Stall(after_bytes=10), path=BIG, kind="cdn"))
    job = replace(parent.job, pace=replace(PACE, read_timeout_seconds=600.0))
    command = [sys.executable, "-P", "-m", "agent.fill"]
    child = subprocess.Popen(  # noqa: S603 - our own interpreter
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    with child:
        assert child.stdin is not None
        child.stdin.write(job.line())
        child.stdin.flush()
        assert hub.stalled.wait(ENOUGH_SECONDS)
        assert child.poll() is None
        child.stdin.close()  # as the kernel does for a parent that was killed
        try:
            assert child.wait(ENOUGH_SECONDS) == 0
        finally:
            child.kill()


def test_a_child_needs_a_fraction_of_the_model_s_size_in_memory(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    (tmp_path / "root").mkdir()
    peak_mib = 0.0
    with Hub({"acme/tiny": Repo({BIG: weights})}) as hub:
        parent = Parent(job_at(tmp_path / "root", hub))
        assert parent.run(Operation.RESOLVE, pace=Pace()).error is None
        parent.start(pace=Pace(first_streams=8))
        status = Path(f"/proc/{parent.pid}/status")
        while not (finished := parent.fills.take_finished()):
            with suppress(OSError):  # it is gone
                found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
                peak_mib = int(found[1]) / 1024 if found else peak_mib
            parent.news.acquire(timeout=0.02)
    assert finished[0].error is None
    assert 10 < peak_mib < 100


# --- steered from outside -------------------------------------------------------------------------


def test_children_are_held_to_a_rate_together_and_let_go(
    tmp_path: Path, parent: Parent, hub: Hub
) -> None:
    hub.repos["acme/tiny"].commit({BIG: os.urandom(4_000_000)})
    others = replace(parent.job, key=Key("f" * 16), root=str(tmp_path / "root"))
    for job in (parent.job, others):
        parent.fills.start(replace(job, operation=Operation.RESOLVE, pace=Pace()), 0)
        assert parent.result().error is None
    parent.fills.steer(20_000, frozenset())
    for job in (parent.job, others):
        parent.fills.start(replace(job, pace=Pace()), 0)
    first, second = parent.fills._children.values()
    assert {first._steering, second._steering} == {Steering(10_000)}
    assert wait_for(lambda: all(c._state.progress.bytes_fetched for c in (first, second)))
    assert max(c._state.progress.bytes_fetched for c in (first, second)) < 1_000_000
    parent.fills.steer(0, frozenset({KEY}))
    assert (first._steering, second._steering) == (Steering(0, keeps_cache=True), Steering())
    assert parent.result().error is None
    assert parent.result().error is None


def test_cancelling_what_does_not_run_does_nothing(parent: Parent) -> None:
    parent.fills.cancel(Key("f" * 16))
    assert parent.fills.in_flight() == ()


def test_stop_ends_every_child(parent: Parent, hub: Hub) -> None:
    parent.run(Operation.RESOLVE)
    hub.faults.append(Fault(Stall(after_bytes=10), path=BIG, kind="cdn"))
    parent.start()
    assert hub.stalled.wait(ENOUGH_SECONDS)
    pid = parent.pid
    parent.fills.stop()
    assert not is_alive(pid)
    assert parent.fills.in_flight() == ()


# --- children that are not ours -------------------------------------------------------------------


def program(tmp_path: Path, script: str) -> str:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param("exit 3", "without a word (exit status 3)", id="dies silently"),
        pytest.param("read job; kill -TERM $$", "without a word (signal 15)", id="is killed"),
        pytest.param("echo hello; cat >/dev/null", "says what is no event", id="says garbage"),
        pytest.param("echo '{}'; cat >/dev/null", "says what is no event", id="says no event"),
        pytest.param(
            "head -c 100000 /dev/zero; cat >/dev/null", "says what is no event", id="never ends"
        ),
        pytest.param("echo >&2 secret; exit 1", "exit status 1", id="complains"),
    ],
)
def test_a_child_that_misbehaves_is_a_failure_in_one_sentence(
    parent: Parent, tmp_path: Path, script: str, says: str
) -> None:
    parent.fills = Fills(
        clock=parent.clock, wake=parent.news.release, python=program(tmp_path, script)
    )
    error = parent.run(Operation.FILL).error
    assert isinstance(error, TransientError)
    assert says in str(error)
    assert "secret" not in str(error)


def test_a_child_that_cannot_be_started_is_a_failure_in_one_sentence(parent: Parent) -> None:
    parent.fills = Fills(clock=parent.clock, wake=parent.news.release, python="/nonexistent")
    error = parent.run(Operation.FILL).error
    assert isinstance(error, TransientError)
    assert "cannot be started: No such file or directory" in str(error)


def test_what_a_child_complains_of_is_logged_without_the_token(
    parent: Parent, tmp_path: Path
) -> None:
    script = f"echo >&2 trouble with {BEARER}; exit 1"
    parent.fills = Fills(
        clock=parent.clock, wake=parent.news.release, python=program(tmp_path, script)
    )
    with structlog.testing.capture_logs() as logs:
        parent.run(Operation.FILL)
    (line,) = [line for line in logs if line["event"] == "fill child ended"]
    assert line["stderr"] == "trouble with ***\n"
    assert line["exit_status"] == 1


def test_what_a_source_says_is_told_without_the_token_and_in_short(
    parent: Parent, tmp_path: Path
) -> None:
    said = {
        "event": "failed",
        "reason": "SourceDrifted",
        "message": f"the hub says {BEARER}" + "x" * 20_000,
        "permanent": True,
        "retryAfterSeconds": None,
    }
    parent.fills = Fills(
        clock=parent.clock,
        wake=parent.news.release,
        python=program(tmp_path, f"echo '{json.dumps(said)}'"),
    )
    message = str(parent.run(Operation.FILL).error)
    assert message.startswith("the hub says ***xxx")
    assert len(message) <= 1000


def test_rate_is_bytes_a_second_of_the_last_ten(parent: Parent, tmp_path: Path) -> None:
    said = [
        {"event": "progress", "state": "Downloading", "bytesDone": n, "bytesTotal": 9000,
         "bytesFetched": n}
        for n in (0, 1000, 4000)
    ]  # fmt: skip
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    parent.fills = Fills(
        clock=parent.clock, wake=parent.news.release, python=program(tmp_path, f"cat {fifo}")
    )
    parent.start()
    with fifo.open("w") as line:
        for event, done in zip(said, (0, 1000, 4000), strict=True):
            line.write(json.dumps(event) + "\n")
            line.flush()
            assert wait_for(lambda done=done: progress_of(parent) == ("Downloading", done))
            parent.clock.advance(2.0)
        assert parent.fills.in_flight()[0].rate_bytes_per_second == 4000 // 6
        parent.clock.advance(6.0)
        assert parent.fills.in_flight()[0].rate_bytes_per_second == 3000 // 10
        parent.clock.advance(100.0)
        assert parent.fills.in_flight()[0].rate_bytes_per_second == 0
    parent.result()


def progress_of(parent: Parent) -> tuple[str, int]:
    (progress,) = parent.fills.in_flight()
    return progress.state, progress.bytes_done


# --- the token ------------------------------------------------------------------------------------


def test_the_token_is_nowhere_but_on_the_way_to_the_hub(
    parent: Parent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    monkeypatch.setenv("HF_TOKEN", BEARER)
    gated = {"acme/tiny": Repo(dict(files), gated=True, tokens=(BEARER,))}
    with Hub(gated, cdn=True) as hub, structlog.testing.capture_logs() as logs:
        parent.job = replace(parent.job, endpoint=hub.url)
        assert parent.run(Operation.RESOLVE).error is None
        hub.faults += [
            Fault(Stall(after_bytes=100), path=BIG, kind="cdn", times=1),
            Fault(Cut(after_bytes=100), path=BIG, kind="cdn"),
        ]
        parent.start(pace=replace(PACE, tries=2, first_wait_seconds=0.01))
        assert hub.stalled.wait(ENOUGH_SECONDS)
        process = Path(f"/proc/{parent.pid}")
        seen = [(process / name).read_bytes() for name in ("cmdline", "environ")]
        hub.release()
        result = parent.result()
        assert set(hub.authorizations("hub")) == {f"Bearer {BEARER}"}
        assert hub.authorizations("cdn") == []
    assert result.error is not None
    on_disk = [p.read_bytes() for p in (tmp_path / "root").rglob("*") if p.is_file()]
    texts = [repr(result), str(result.error), repr(parent.job), repr(logs)]
    for text in [*seen, *on_disk, *(t.encode() for t in texts)]:
        assert BEARER.encode() not in text
    assert all("sig=" not in text for text in texts)


def test_a_child_gets_proxies_and_certificates_of_our_environment_and_no_credential() -> None:
    ours = {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy:3128",
        "SSL_CERT_FILE": "/ca.pem",
        "HF_TOKEN": "t",
        "HUGGING_FACE_HUB_TOKEN": "t",
        "AWS_SECRET_ACCESS_KEY": "s",
        "LD_PRELOAD": "/x.so",
        "HOME": "/root",
    }
    given = child_environment(ours)
    assert given["HTTPS_PROXY"] == "http://proxy:3128"
    assert given["SSL_CERT_FILE"] == "/ca.pem"
    assert given["HF_HUB_DISABLE_XET"] == "1"
    assert given["HF_HUB_DISABLE_TELEMETRY"] == "1"
    kept = {name for name in given if not name.startswith("HF_")}
    assert kept == {"PATH", "HTTPS_PROXY", "SSL_CERT_FILE"}
    assert "HF_TOKEN" not in given


def test_a_child_without_a_job_says_so_and_shows_nothing_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "agent.fill"],
        input=b'{"secret": "' + BEARER.encode() + b'"}\n',
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr == b"python -m agent.fill: standard input does not hold a job\n"
