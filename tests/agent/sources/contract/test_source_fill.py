"""A fill's child process, given each source: the whole way from a URI to a complete staging."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.fill.job import (
    Done,
    Failed,
    Heard,
    Job,
    Listed,
    Operation,
    Pace,
    event_line,
    parse_event,
)
from demo.hub_faults import Cut, Drip, Stall, Status, Truncate
from larder.layout import Key, staging_path
from larder.manifest import parse_manifest
from tests.agent.sources.contract.remotes import BEARER, BIG, CONTENT, Remote
from tests.fakes.fault_proxy import Action, Asked, Fault, Reset

KEY = Key("ab" * 8)


@pytest.fixture
def job(remote: Remote, tmp_path: Path) -> Job:
    return Job(
        operation=Operation.RESOLVE,
        root=str(tmp_path),
        key=KEY,
        storage_uri=remote.server.storage_uri,
        revision=remote.server.revision or "",
        endpoint=remote.proxy.url + remote.server.path,
        secret=remote.server.secret,
        pace=Pace(part_bytes=100_000),
    )


def run(job: Job) -> list[object]:
    """What a child says of a job."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "agent.fill"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(job.line())
        child.stdin.flush()  # and stays open: its end would end the child
        lines = child.stdout.read().splitlines()
    assert child.returncode == 0
    assert not [line for line in lines if BEARER.encode() in line]
    return [parse_event(line) for line in lines]


def test_a_child_fills_what_the_source_lists(remote: Remote, job: Job, tmp_path: Path) -> None:
    *answers, listed, done = run(job)
    assert {*answers} == {Heard()}
    assert len(answers) == len(remote.proxy.requests)
    assert isinstance(listed, Listed)
    assert done == Done()
    said = run(replace(job, operation=Operation.FILL))
    assert Heard() not in said
    assert json.loads(event_line(said[-1])) == {"event": "done"}  # type: ignore[arg-type]  # an event
    staging = tmp_path / staging_path(KEY)
    manifest = parse_manifest((staging / "manifest").read_text())
    assert manifest.storage_uri == remote.server.storage_uri
    assert (staging / "tree" / BIG).read_bytes() == CONTENT


EACH_ONCE: list[Action] = [
    *(Status(503), Status(429, headers={"Retry-After": "0"}), Status(500)),
    *(Reset(50_000), Truncate(60_000), Cut(10), Stall(20_000), Drip(40_000, 0.01)),
]


def test_a_child_gets_through_what_happens_to_connections(
    remote: Remote, job: Job, tmp_path: Path
) -> None:
    assert isinstance(run(job)[-1], Done)
    faults: list[Fault] = []
    for action in EACH_ONCE:  # one after the other, a request each
        before = tuple(faults)
        faults.append(Fault(action, lambda a, b=before: _is_next(remote, a, b), times=1))
    remote.proxy.faults += faults
    pace = Pace(part_bytes=50_000, tries=20, first_wait_seconds=0.01, read_timeout_seconds=1.0)
    assert run(replace(job, operation=Operation.FILL, pace=pace))[-1] == Done()
    assert all(fault.hits for fault in faults)
    assert (tmp_path / staging_path(KEY) / "tree" / BIG).read_bytes() == CONTENT


def _is_next(remote: Remote, asked: Asked, before: tuple[Fault, ...]) -> bool:
    return remote.server.fetches(asked) and all(fault.hits for fault in before)


def test_what_changed_meanwhile_is_said_to_have(remote: Remote, job: Job) -> None:
    run(job)
    remote.server.put({BIG: CONTENT[::-1]})
    last = run(replace(job, operation=Operation.FILL))[-1]
    if isinstance(last, Failed):
        assert last.reason == "SourceDrifted"
    else:
        assert remote.server.revision  # a commit: what was listed is still there
