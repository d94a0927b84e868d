"""Waiting for an agent that is there, stops, is killed, or comes back: on a clock of our own."""

import errno
import os
import posix
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from slots_and_pods import COMMIT, FILES, FakeTime, Pod, Slot, tree

from initializer import links, wait
from initializer.links import Pair
from initializer.watch import READY_POLLS, Outcome
from larder.contract import SlotMount, format_slots
from larder.status import ModelState


def pair_of(slot: Slot, destination: Path, subpath: str = "", uri: str = "hf://o/m") -> Pair:
    return Pair(uri, str(destination), slot.mount, subpath, uri, None)


def serve_one(pair: Pair, time: FakeTime) -> Outcome:
    return wait.serve([pair], time.clock)[pair]


def remaining(rows: list[SlotMount], time: FakeTime, *arguments: str | Path) -> list[str] | None:
    posix.environ[b"LARDER_SLOTS"] = os.fsencode(format_slots(rows))
    try:
        return wait.remaining([str(a) for a in arguments], time.clock)
    finally:
        del posix.environ[b"LARDER_SLOTS"]


def download(slot: Slot, time: FakeTime, start: int, stop: int, **fields: object) -> None:
    """A living fill: the sequence moves each second."""
    for second in range(start, stop):
        time.at(second, lambda n=second: slot.say(ModelState.DOWNLOADING, n + 1, **fields))  # type: ignore[misc] # bound now


# --- joined -----------------------------------------------------------------------------------


def test_a_fill_that_ends_is_joined(
    slot: Slot, time: FakeTime, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slot.say(ModelState.QUEUED, eta_seconds=60)
    download(slot, time, 1, 40, bytes_total=100, bytes_done=30)
    time.at(40, lambda: slot.say(ModelState.VERIFYING, 41))
    time.at(45, slot.publish)
    time.at(46, lambda: slot.say(ModelState.READY, 42))

    left = remaining([slot.row()], time, "hf://o/m", tmp_path / "m")

    assert left is None
    assert time.seconds == 45
    assert (tmp_path / "message").read_text().startswith("joined ")
    assert {n: (tmp_path / "m" / n).read_bytes() for n in FILES} == FILES
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "larder: hf://o/m: Queued, 60 s left"
    assert lines[1] == "larder: hf://o/m: Downloading 30% of 100 B"
    assert lines[-1].startswith("larder: joined ")
    assert len(lines) == 7


def test_a_second_model_is_joined_with_what_is_left_of_the_time(
    slot: Slot, other_slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.DOWNLOADING, eta_seconds=50, join_timeout_seconds=100)
    time.at(50, slot.publish)
    other_slot.say(ModelState.DOWNLOADING, eta_seconds=60, join_timeout_seconds=100)
    one = pair_of(slot, tmp_path / "a", uri="hf://o/a")
    two = pair_of(other_slot, tmp_path / "b", uri="hf://o/b")

    outcomes = wait.serve([two, one], time.clock)

    assert outcomes[one] == ("Joined", "")
    assert outcomes[two] == ("EtaTooLong", "60 s, and 50 s are left")


def test_parents_come_before_children(
    slot: Slot, other_slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.DOWNLOADING, eta_seconds=5)
    other_slot.publish({"lora.bin": b"l"})
    time.at(5, slot.publish)
    child = pair_of(other_slot, tmp_path / "m" / "lora", uri="hf://o/lora")
    parent = pair_of(slot, tmp_path / "m")

    outcomes = wait.serve([child, parent], time.clock)

    assert [p.uri for p in outcomes] == ["hf://o/m", "hf://o/lora"]
    assert [o.reason for o in outcomes.values()] == ["Joined", "Hit"]
    assert (tmp_path / "m" / "lora" / "lora.bin").read_bytes() == b"l"


def test_a_child_is_not_waited_for_when_its_parent_falls_back(
    slot: Slot, other_slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.FAILED)
    other_slot.say(ModelState.DOWNLOADING, eta_seconds=600)
    child = pair_of(other_slot, tmp_path / "m" / "lora", uri="hf://o/lora")
    parent = pair_of(slot, tmp_path / "m")

    outcomes = wait.serve([child, parent], time.clock)

    assert outcomes[child] == ("Failed", f"goes with {tmp_path}/m")
    assert time.seconds == 0


# --- the agent is stopped, killed, restarted ------------------------------------------------------


def test_an_agent_that_is_killed_stalls_its_pods_for_a_minute(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.DOWNLOADING, 1, eta_seconds=600)
    download(slot, time, 1, 31, eta_seconds=600)

    outcome = serve_one(pair_of(slot, tmp_path / "m"), time)

    assert (outcome.reason, time.seconds) == ("Stalled", 90)


def test_an_agent_that_is_stopped_for_good_is_gone_after_two_minutes(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.DOWNLOADING, 1)
    download(slot, time, 1, 31)
    time.at(31, lambda: slot.say(ModelState.DOWNLOADING, 32, restarting=True))

    outcome = serve_one(pair_of(slot, tmp_path / "m"), time)

    assert (outcome.reason, time.seconds) == ("AgentGone", 151)


def test_an_agent_that_restarts_is_joined(slot: Slot, time: FakeTime, tmp_path: Path) -> None:
    slot.say(ModelState.DOWNLOADING, 1)
    download(slot, time, 1, 31)
    time.at(31, lambda: slot.say(ModelState.DOWNLOADING, 32, restarting=True))
    time.at(131, lambda: slot.say(ModelState.QUEUED, 1, eta_seconds=50))
    download(slot, time, 132, 170)
    time.at(170, slot.publish)

    outcome = serve_one(pair_of(slot, tmp_path / "m"), time)

    assert (outcome.reason, time.seconds) == ("Joined", 170)


def test_a_status_that_is_torn_or_gone_for_a_moment_does_not_end_a_wait(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.DOWNLOADING, 1)
    time.at(1, lambda: slot.write_status('{"version": 1, "sta'))
    time.at(2, slot.lose_status)
    time.at(3, lambda: slot.say(ModelState.DOWNLOADING, 2))
    time.at(5, slot.publish)

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Joined"


# --- every other row ------------------------------------------------------------------------------


def test_a_slot_without_a_status_is_left_after_three_seconds(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    outcome = serve_one(pair_of(slot, tmp_path / "m"), time)

    assert (outcome.reason, time.seconds) == ("NoStatus", 3)


def test_a_status_that_comes_late_is_waited_for(slot: Slot, time: FakeTime, tmp_path: Path) -> None:
    time.at(2.5, lambda: slot.say(ModelState.DOWNLOADING, 1))
    time.at(20, slot.publish)

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Joined"


def test_a_queue_without_an_eta_is_left_after_five_seconds(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.QUEUED)

    outcome = serve_one(pair_of(slot, tmp_path / "m"), time)

    assert (outcome.reason, time.seconds) == ("Queued", 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"version": 1, "state": "Absent", "sequence": 1}', "NotCached"),
        ('{"version": 1, "state": "Failed", "sequence": 1}', "Failed"),
        ('{"version": 1, "state": "Quarantined", "sequence": 1}', "Quarantined"),
        ('{"version": 1, "state": "Evicting", "sequence": 1}', "Evicting"),
        ('{"version": 2}', "ContractUnknown"),
        ('{"version": 1, "state": "Queued", "sequence": 1, "etaSeconds": 1801}', "EtaTooLong"),
    ],
)
def test_some_statuses_are_not_waited_for(
    slot: Slot, time: FakeTime, tmp_path: Path, text: str, expected: str
) -> None:
    slot.write_status(text)

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == expected
    assert time.seconds == 0


def test_a_slot_that_goes_away_in_the_middle_has_no_slot(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.DOWNLOADING)
    time.at(5, lambda: slot.path.rename(tmp_path / "gone"))

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "NoSlot"


def test_a_model_is_quarantined_even_while_it_is_filled(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.VERIFYING)
    time.at(1, lambda: ((slot.path / "quarantined").touch(), slot.publish()))

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Quarantined"
    assert not (tmp_path / "m").exists()


def test_content_may_come_a_little_later_than_ready(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.READY)
    time.at(READY_POLLS * wait.POLL_SECONDS, slot.publish)

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Joined"


def test_content_that_is_damaged_may_be_whole_a_little_later(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.publish()
    slot.say(ModelState.DOWNLOADING)
    config = slot.path / "content" / "config.json"
    config.write_bytes(b"{")
    time.at(30, lambda: config.write_bytes(FILES["config.json"]))

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Joined"


def test_an_empty_content_without_a_manifest_is_not_used(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    (slot.path / "content").mkdir()
    slot.say(ModelState.READY)

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Unreadable"


@pytest.mark.parametrize(
    "damage",
    [
        lambda slot: (slot.path / "content" / "config.json").unlink(),
        lambda slot: (slot.path / "content" / "config.json").write_bytes(b"{"),
        lambda slot: (slot.path / "content" / "config.json").write_bytes(b"{}\n"),
        lambda slot: (slot.path / "content" / "empty").write_bytes(b"x"),
        lambda slot: slot.write_manifest(""),
        lambda slot: slot.write_manifest("1\nsource hf://o/m x\n" + "0" * 64 + " 2 config.jso"),
        lambda slot: slot.write_manifest("1\nsource hf://o/m x\nconfig.json\n"),
        lambda slot: slot.write_manifest(
            "1\nsource hf://o/m x\n" + "0" * 64 + " two config.json\n"
        ),
    ],
    ids=[
        "a file is gone",
        "a file is too short",
        "a file is too long",
        "an empty file is none",
        "the manifest is empty",
        "the manifest is cut short",
        "a manifest's line is none",
        "a manifest's size is none",
    ],
)
def test_damage_is_unreadable_and_leaves_nothing(
    slot: Slot, time: FakeTime, tmp_path: Path, damage: object
) -> None:
    slot.publish()
    slot.say(ModelState.READY)
    damage(slot)  # type: ignore[operator] # one of the above

    outcome = serve_one(pair_of(slot, tmp_path / "m"), time)

    assert outcome.reason == "Unreadable"
    assert not (tmp_path / "m").exists()


def test_a_directory_where_a_file_should_be_is_unreadable(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.publish()
    (slot.path / "content" / "config.json").unlink()
    (slot.path / "content" / "config.json").mkdir()

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason in {"Unreadable", "NoStatus"}


@pytest.mark.parametrize(
    "failure",
    [
        (call, code)
        for call in ("open", "read", "stat", "fstat")
        for code in (errno.EACCES, errno.EIO, errno.ESTALE)
    ],
    ids=lambda failure: f"{failure[0]} {errno.errorcode[failure[1]]}",
)
def test_a_disk_or_a_policy_that_says_no_is_unreadable_at_once(
    slot: Slot,
    time: FakeTime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: "tuple[str, int]",
) -> None:
    call, code = failure
    slot.publish()
    slot.say(ModelState.DOWNLOADING)

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code), "x")

    with monkeypatch.context() as patched:
        patched.setattr(posix, call, refuse)
        outcome = serve_one(pair_of(slot, tmp_path / "m"), time)

    assert outcome == ("Unreadable", f"{os.strerror(code)}: x")
    assert time.seconds == 0


def test_a_status_that_cannot_be_read_is_unreadable(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    (slot.path / "status.json").mkdir()

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Unreadable"


# --- evictions race with us -----------------------------------------------------------------------


def test_content_that_is_taken_away_while_it_is_linked_is_no_hit(
    slot: Slot, time: FakeTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot.publish()

    def evicted(place: Pair, wanted: dict[str, str], linked: dict[str, str]) -> None:
        real(place, wanted, linked)
        slot.say(ModelState.EVICTING)
        slot.set_aside()

    real = links.place
    monkeypatch.setattr(links, "place", evicted)

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Evicting"
    assert tree(tmp_path / "m") == {}


def test_content_that_is_replaced_while_it_is_linked_is_linked_anew(
    slot: Slot, time: FakeTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot.publish({"old.bin": b"old", "both": b"1"})
    seen = []

    def replaced(place: Pair, wanted: dict[str, str], linked: dict[str, str]) -> None:
        real(place, wanted, linked)
        seen.append(sorted(wanted))
        if len(seen) == 1:
            slot.set_aside()
            slot.publish({"new.bin": b"new", "both": b"22"})
            slot.say(ModelState.READY)

    real = links.place
    monkeypatch.setattr(links, "place", replaced)

    assert serve_one(pair_of(slot, tmp_path / "m"), time).reason == "Joined"
    assert seen == [["both", "old.bin"], ["both", "new.bin"]]
    assert sorted(tree(tmp_path / "m")) == ["both", "new.bin"]


def test_a_plain_hit_looks_at_content_again_too(pod: Pod, slot: Slot) -> None:
    slot.publish()
    slot.say(ModelState.EVICTING)
    source = pod.initializer.read_text()
    race = (
        f"        link(place, links)\n        posix.rename(mount + '/content', '{slot.path}.x')\n"
    )
    pod.initializer.write_text(source.replace("        link(place, links)\n", race, 1))

    run = pod.run([slot.row()], "hf://o/m", pod.models)

    assert run.fallback == ["hf://o/m", str(pod.models)]
    assert "Evicting" in run.output
    assert tree(pod.models) == {}


# --- the fallback's arguments -----------------------------------------------------------------


def test_pairs_that_joined_are_done_before_the_rest_falls_back(
    slot: Slot, other_slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.FAILED)
    other_slot.say(ModelState.DOWNLOADING)
    time.at(30, other_slot.publish)
    rows = [slot.row("hf://o/a", fallback="hf://o/a:main"), other_slot.row("hf://o/b")]

    left = remaining(rows, time, "hf://o/a", tmp_path / "a/", "hf://o/b", tmp_path / "b")

    assert left == ["hf://o/a:main", str(tmp_path / "a")]
    assert time.seconds == 30
    assert {n: (tmp_path / "b" / n).read_bytes() for n in FILES} == FILES
    assert not (tmp_path / "message").exists()


def test_a_fill_that_is_given_up_hands_its_commit_to_the_fallback(
    slot: Slot, time: FakeTime, tmp_path: Path
) -> None:
    slot.say(ModelState.DOWNLOADING, revision=COMMIT)

    left = remaining([slot.row(fallback="hf://o/m:main")], time, "hf://o/m", tmp_path / "m")

    assert left == [f"hf://o/m:{COMMIT}", str(tmp_path / "m")]


# --- the process ------------------------------------------------------------------------------


def test_a_pod_that_is_deleted_while_it_waits_stops_at_once(pod: Pod, slot: Slot) -> None:
    slot.say(ModelState.DOWNLOADING, eta_seconds=600)
    environment = {
        "LARDER_SLOTS": format_slots([slot.row()]),
        "LARDER_FALLBACK": str(pod.fallback),
    }
    command = [sys.executable, "-I", "-S", str(pod.initializer), "hf://o/m", str(pod.models)]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"larder: hf://o/m: Downloading, 600 s left\n"
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert not pod.record.exists()


def test_the_fallback_starts_with_pythons_signals_undone(pod: Pod, slot: Slot) -> None:
    pod.fallback.write_text(f"#!/bin/sh\ngrep SigIgn /proc/self/status > '{pod.record}'\n")

    pod.run([slot.row()], "hf://o/other", pod.models)

    ignored = int(pod.record.read_text().split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)
