"""An initializer, a slot and a pod of two versions: they serve, or fall back with a reason.

`tests/recorded/0.1.0` is what that version's programs wrote, its initializer among it. Whichever
of the two programs runs, it meets what the other version's agent and webhook wrote. What the
formats hold is in `tests/larder/test_version_skew.py`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slots_and_pods import Pod, Run, Slot, tree

from agent.store.inventory import scan
from agent.store.root import CacheRoot
from initializer.program import program
from larder.contract import SLOTS_MOUNT_ROOT, SLOTS_VARIABLE, STORAGE_INITIALIZER, format_slots
from larder.status import ModelState

RECORDED = Path(__file__).parents[1] / "recorded/0.1.0"
KEY = "6378328551d57e5c"
URI = "hf://Qwen/Qwen2-0.5B-Instruct"
COMMIT = "c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
PROGRAMS = {
    "of 0.1.0": (RECORDED / "root/slots" / KEY / "initializer").read_bytes(),
    "of today": program(),
}
LINKS = {"config.json": "config.json", "weights/part-1.bin": "weights/part-1.bin"}


@pytest.fixture(params=PROGRAMS)
def runs(request: pytest.FixtureRequest, pod: Pod) -> Callable[..., Run]:
    """A pod that starts with one of the programs."""
    pod.initializer.write_bytes(PROGRAMS[request.param])
    return pod.run


@pytest.fixture
def recorded(tmp_path: Path) -> Slot:
    """A slot of 0.1.0, where a pod mounts it."""
    mount = tmp_path / "larder" / KEY
    shutil.copytree(RECORDED / "root/slots" / KEY, mount)
    return Slot(mount)


def initializer_of(name: str) -> Any:
    pod = json.loads((RECORDED / f"pods/{name}.json").read_text())
    return next(c for c in pod["spec"]["initContainers"] if c["name"] == STORAGE_INITIALIZER)


def slots_of(name: str, tmp_path: Path) -> str:
    """What a pod of 0.1.0 has in LARDER_SLOTS, with the mounts of this test."""
    variables = {v["name"]: v.get("value", "") for v in initializer_of(name)["env"]}
    return str(variables[SLOTS_VARIABLE].replace(SLOTS_MOUNT_ROOT, f"{tmp_path}/larder"))


def links_into(slot: Slot) -> dict[str, str]:
    links = {n: f"-> {slot.mount}/content/{target}" for n, target in LINKS.items()}
    return {"weights": "/"} | links


# --- both ways ------------------------------------------------------------------------------------


def test_a_pod_and_a_slot_of_0_1_0_are_served(
    runs: Callable[..., Run], recorded: Slot, pod: Pod, tmp_path: Path
) -> None:
    done = runs(slots_of("host-path", tmp_path), URI, pod.models)
    assert (done.code, done.message[:4], done.fallback) == (0, "hit ", None)
    assert tree(pod.models) == links_into(recorded)


def test_a_pod_of_0_1_0_is_served_from_a_slot_of_today(
    runs: Callable[..., Run], pod: Pod, tmp_path: Path
) -> None:
    slot = Slot(tmp_path / "larder" / KEY)
    slot.say(ModelState.READY)
    slot.publish()
    assert runs(slots_of("host-path", tmp_path), URI, pod.models).message.startswith("hit ")


def test_a_pod_of_today_is_served_from_a_slot_of_0_1_0(
    runs: Callable[..., Run], recorded: Slot, pod: Pod
) -> None:
    assert runs([recorded.row(URI)], URI, pod.models).message.startswith("hit ")
    assert tree(pod.models) == links_into(recorded)


def test_the_command_of_a_pod_of_0_1_0_starts_the_program_of_the_slot(
    recorded: Slot, pod: Pod, tmp_path: Path
) -> None:
    command = initializer_of("host-path")["command"]
    command = [word.replace("/larder/*/", f"{tmp_path}/larder/*/") for word in command]
    for name, text in PROGRAMS.items():
        (recorded.path / "initializer").write_bytes(text)
        shutil.rmtree(pod.models)
        done = pod.run_command([*command, URI, str(pod.models)], slots_of("host-path", tmp_path))
        assert done.message.startswith("hit "), name


@pytest.mark.parametrize(
    ("number", "reason"),
    [(0, "NotCached"), (5, "Evicting"), (6, "Failed (AccessDenied)"), (7, "Quarantined")],
    ids=["Absent", "Evicting", "Failed", "Quarantined"],
)
def test_a_status_of_0_1_0_says_why_a_pod_falls_back(
    runs: Callable[..., Run], slot: Slot, pod: Pod, number: int, reason: str
) -> None:
    slot.write_status((RECORDED / "statuses").read_text().splitlines()[number])
    done = runs([slot.row(URI)], URI, pod.models)
    assert reason in done.output
    assert done.fallback == [URI, str(pod.models)]


def test_an_agent_takes_over_a_root_of_0_1_0(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "root", tmp_path / "root")
    with CacheRoot.open_readonly(tmp_path / "root") as root:
        inventory = scan(root.fd)
    slot = inventory.slots[KEY]
    assert slot.manifest
    assert slot.status
    assert (slot.manifest.revision, slot.status.state) == (COMMIT, ModelState.READY)
    assert inventory.findings == ()


# --- a later version ------------------------------------------------------------------------------


def _later_slots(slots: str, _: Slot) -> str:
    return "2" + slots[1:]


def _longer_rows(slots: str, _: Slot) -> str:
    return slots.rstrip("\n") + "\tmore\n"


def _later_manifest(slots: str, slot: Slot) -> str:
    slot.write_manifest("2" + (slot.path / "manifest").read_text()[1:])
    return slots


def _changed_status(slot: Slot, **keys: object) -> None:
    slot.set_aside()
    text = (RECORDED / "statuses").read_text().splitlines()[2]
    slot.write_status(json.dumps(json.loads(text) | keys))


def _later_status(slots: str, slot: Slot) -> str:
    _changed_status(slot, version=2)
    return slots


def _later_state(slots: str, slot: Slot) -> str:
    _changed_status(slot, state="Warming")
    return slots


def _more_keys(slots: str, slot: Slot) -> str:
    _changed_status(slot, state="Failed", reason="LaterReason", later={"at": 1})
    return slots


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(_later_slots, "ContractUnknown", id="slots of version 2"),
        pytest.param(_longer_rows, "ContractUnknown", id="rows with a field more"),
        pytest.param(_later_manifest, "ContractUnknown", id="a manifest of version 2"),
        pytest.param(_later_status, "ContractUnknown", id="a status of version 2"),
        pytest.param(_later_state, "ContractUnknown", id="a state that nobody knows"),
        pytest.param(_more_keys, "Failed (LaterReason)", id="more keys, and a reason unknown here"),
    ],
)
def test_what_a_later_version_wrote_is_a_fallback_with_its_reason(
    runs: Callable[..., Run],
    recorded: Slot,
    pod: Pod,
    change: Callable[[str, Slot], str],
    said: str,
) -> None:
    slots = change(format_slots([recorded.row(URI)]), recorded)
    done = runs(slots, URI, pod.models)
    assert (done.code, said in done.output) == (0, True), done.output
    assert done.fallback
    assert done.fallback[1:] == [str(pod.models)]
    assert done.fallback[0] in {URI, f"{URI}:{COMMIT}"}
    assert tree(pod.models) == {}


def test_more_files_of_a_later_agent_are_findings_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(RECORDED / "root", root)
    (root / "slots" / KEY / "later.json").write_text("{}")
    (root / "later").mkdir()
    (root / "slots" / KEY / "status.json").write_text('{"version": 2, "state": "Warming"}')
    (root / "layout.json").write_text('{"schema": 2, "oldestReader": 1, "later": true}')
    with CacheRoot.open_readonly(root) as opened:
        inventory = scan(opened.fd)
    assert inventory.slots[KEY].manifest
    assert inventory.slots[KEY].status is None
    assert {str(finding.path) for finding in inventory.findings} == {
        "later",
        f"slots/{KEY}/later.json",
    }
