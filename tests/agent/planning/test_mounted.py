"""Which slots a pod holds, from the pod as the API server has it."""

from pathlib import PurePosixPath
from typing import Any

import pytest

from agent.planning.mounted import is_waiting, keys_mounted

ROOT = PurePosixPath("/var/lib/larder")
A, B = "a" * 16, "b" * 16


def pod(*volumes: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"spec": {"volumes": list(volumes)}, "status": {"phase": "Running", **status}}


def path(text: str) -> dict[str, Any]:
    return {"name": "v", "hostPath": {"path": text}}


def claim(name: str) -> dict[str, Any]:
    return {"name": "v", "persistentVolumeClaim": {"claimName": name}}


@pytest.mark.parametrize(
    ("volumes", "keys"),
    [
        pytest.param([path(f"{ROOT}/slots/{A}")], {A}, id="a slot"),
        pytest.param([path(f"{ROOT}/slots/{A}/content")], {A}, id="a slot's content"),
        pytest.param([path(f"{ROOT}//slots/{A}/")], {A}, id="written otherwise"),
        pytest.param([claim(f"larder-{B}"), path(f"{ROOT}/slots/{A}")], {A, B}, id="a claim, too"),
        pytest.param([path("/")], set(), id="the node's whole disk is a monitor's"),
        pytest.param([path(str(ROOT))], set(), id="the root is an agent's"),
        pytest.param([path(f"{ROOT}/slots/short")], set(), id="no key"),
        pytest.param([path(f"/elsewhere/slots/{A}")], set(), id="another root"),
        pytest.param([claim(f"larder-{B}-content")], {B}, id="the claim of a content"),
        pytest.param([claim("models")], set(), id="another claim"),
        pytest.param([{"name": "v", "emptyDir": {}}], set(), id="no path at all"),
    ],
)
def test_a_pod_uses_the_slots_it_mounts(volumes: list[dict[str, Any]], keys: set[str]) -> None:
    assert keys_mounted(pod(*volumes), ROOT) == keys


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_uses_nothing(phase: str) -> None:
    assert keys_mounted(pod(path(f"{ROOT}/slots/{A}"), phase=phase), ROOT) == set()


def test_a_pod_without_spec_or_status_uses_nothing_and_waits_for_nothing() -> None:
    assert keys_mounted({}, ROOT) == set()
    assert not is_waiting({})


@pytest.mark.parametrize(
    ("status", "waiting"),
    [
        pytest.param({"phase": "Pending"}, True, id="nothing was started yet"),
        pytest.param(
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    {"name": "storage-initializer", "state": {"running": {}}}
                ],
            },
            True,
            id="its initializer waits",
        ),
        pytest.param(
            {
                "phase": "Pending",
                "initContainerStatuses": [
                    {"name": "storage-initializer", "state": {"terminated": {"exitCode": 0}}}
                ],
            },
            False,
            id="its initializer ended",
        ),
        pytest.param({"phase": "Running"}, False, id="it runs"),
    ],
)
def test_a_pod_waits_until_its_initializer_ended(status: dict[str, Any], waiting: bool) -> None:
    assert is_waiting({"status": status}) is waiting
