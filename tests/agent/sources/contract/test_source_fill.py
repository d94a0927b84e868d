"""A fill's child process, given each source: the whole way from a URI to a complete staging."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.fill.job import Failed, Job, Listed, Operation, Pace, event_line, parse_event
from larder.layout import Key, staging_path
from larder.manifest import parse_manifest
from tests.agent.sources.contract.remotes import BEARER, BIG, CONTENT, Remote

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
        secret=remote.server.secret(remote.proxy.url),
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
    said = run(job)
    assert isinstance(said[0], Listed)
    said = run(replace(job, operation=Operation.FILL))
    assert json.loads(event_line(said[-1])) == {"event": "done"}  # type: ignore[arg-type]  # an event
    staging = tmp_path / staging_path(KEY)
    manifest = parse_manifest((staging / "manifest").read_text())
    assert manifest.storage_uri == remote.server.storage_uri
    assert (staging / "tree" / BIG).read_bytes() == CONTENT


def test_what_changed_meanwhile_is_said_to_have(remote: Remote, job: Job) -> None:
    run(job)
    remote.server.put({BIG: CONTENT[::-1]})
    last = run(replace(job, operation=Operation.FILL))[-1]
    if isinstance(last, Failed):
        assert last.reason == "SourceDrifted"
    else:
        assert remote.server.revision  # a commit: what was listed is still there
