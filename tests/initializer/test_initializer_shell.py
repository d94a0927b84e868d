"""The pod's command: one line of shell, with the shells that KServe's images have."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from slots_and_pods import Pod, Slot, tree

from larder.contract import INITIALIZER_COMMAND, INITIALIZER_SCRIPT, SLOTS_MOUNT_ROOT, SlotMount

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "sh": ["/bin/sh"]}
ODD = "s3://b/a b  c\t$HOME ${HOME} `id` \"q\" 's' ; & | * ? [x] \\n -n #x é".replace("\t", " ")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return command


@pytest.fixture
def larder(tmp_path: Path) -> Path:
    """What `/larder` is in a pod; a space shows whether the script quotes."""
    return tmp_path / "lar der"


def run(
    pod: Pod, shell: list[str], larder: Path, rows: list[SlotMount], *arguments: str
) -> "tuple[int, list[str] | None, str, str]":
    """Run the container's command as the kubelet would, with `/larder` mapped."""
    _sh, option, script, name = INITIALIZER_COMMAND
    assert script.count(SLOTS_MOUNT_ROOT + "/") == 1
    mapped = script.replace(f"{SLOTS_MOUNT_ROOT}/", f"'{larder}'/")
    done = pod.run_command([*shell, option, mapped, name, *arguments], rows)
    return done.code, done.fallback, done.message, done.output


def put(larder: Path, key: str, pod: Pod) -> Slot:
    slot = Slot(larder / key)
    (slot.path / "initializer").write_bytes(pod.initializer.read_bytes())
    return slot


def path_without(root: Path, *missing: str) -> str:
    """A PATH that has what the script needs, except for some."""
    directory = root / "bin"
    directory.mkdir()
    for name in ("grep", "sh", "python3", "cat"):
        if name not in missing:
            found = sys.executable if name == "python3" else shutil.which(name)
            (directory / name).symlink_to(found or "")
    return str(directory)


def test_the_script_has_nothing_that_the_kubelet_expands() -> None:
    assert "$(" not in INITIALIZER_SCRIPT
    assert "$$" not in INITIALIZER_SCRIPT
    assert "\n" not in INITIALIZER_SCRIPT


def test_a_slots_initializer_runs_with_the_arguments_as_they_are(
    pod: Pod, shell: list[str], larder: Path
) -> None:
    slot = put(larder, "52a2d80d4bc5fa16", pod)
    slot.publish()

    code, fallback, message, _ = run(pod, shell, larder, [slot.row(ODD)], ODD, f"{pod.models}/o o")

    assert (code, fallback, message[:4]) == (0, None, "hit ")
    assert "config.json" in tree(pod.models / "o o")


def test_the_fallback_gets_odd_arguments_as_they_are(
    pod: Pod, shell: list[str], larder: Path
) -> None:
    slot = put(larder, "52a2d80d4bc5fa16", pod)
    arguments = [ODD, f"{pod.models}/o o", "", "*", "hf://o/$m", "/mnt/$(x)/$$"]

    assert run(pod, shell, larder, [slot.row()], *arguments)[1] == arguments


def test_without_any_slot_the_fallback_gets_the_arguments(
    pod: Pod, shell: list[str], larder: Path
) -> None:
    arguments = [ODD, "/mnt/models"]

    code, fallback, message, output = run(pod, shell, larder, [], *arguments)

    assert (code, fallback, message, output) == (0, arguments, "", "")


def test_an_empty_slot_is_passed_over(pod: Pod, shell: list[str], larder: Path) -> None:
    (larder / "0000000000000000").mkdir(parents=True)
    slot = put(larder, "52a2d80d4bc5fa16", pod)
    slot.publish()

    assert run(pod, shell, larder, [slot.row()], "hf://o/m", str(pod.models))[2][:3] == "hit"


@pytest.mark.parametrize("kept", [0, 100, 5000, -1, -20])
def test_an_initializer_that_lost_its_end_is_passed_over(
    pod: Pod, shell: list[str], larder: Path, kept: int
) -> None:
    damaged = put(larder, "0000000000000000", pod)
    whole = pod.initializer.read_bytes()
    (damaged.path / "initializer").write_bytes(whole[: kept - 1 if kept < 0 else kept])
    arguments = ["hf://o/m", str(pod.models)]

    assert run(pod, shell, larder, [damaged.row()], *arguments)[1] == arguments

    slot = put(larder, "52a2d80d4bc5fa16", pod)
    slot.publish()

    assert run(pod, shell, larder, [slot.row()], *arguments)[2][:3] == "hit"


@pytest.mark.parametrize("kind", ["a directory", "a dangling link", "a link to itself"])
def test_an_initializer_that_cannot_be_read_is_passed_over(
    pod: Pod, shell: list[str], larder: Path, kind: str
) -> None:
    place = larder / "0000000000000000" / "initializer"
    place.parent.mkdir(parents=True)
    if kind == "a directory":
        place.mkdir()
    else:
        place.symlink_to("nowhere" if kind == "a dangling link" else place)
    arguments = ["hf://o/m", str(pod.models)]

    code, fallback, _, output = run(pod, shell, larder, [], *arguments)

    assert (code, fallback, output) == (0, arguments, "")


def test_an_initializer_without_permission_is_passed_over(
    pod: Pod, shell: list[str], larder: Path
) -> None:
    slot = put(larder, "52a2d80d4bc5fa16", pod)
    slot.publish()
    (slot.path / "initializer").chmod(0)
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root reads everything, and setpriv is not installed")
        shell = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *shell]
    arguments = ["hf://o/m", str(pod.models)]

    assert run(pod, shell, larder, [slot.row()], *arguments)[1] == arguments
    (slot.path / "initializer").chmod(0o444)
    assert run(pod, shell, larder, [slot.row()], *arguments)[2][:3] == "hit"


def test_an_image_without_python3_runs_the_fallback(
    pod: Pod, shell: list[str], larder: Path
) -> None:
    slot = put(larder, "52a2d80d4bc5fa16", pod)
    slot.publish()
    shell = [shutil.which(shell[0]) or "", *shell[1:]]
    arguments = ["hf://o/m", str(pod.models)]
    pod.environment["PATH"] = path_without(pod.root)
    assert run(pod, shell, larder, [slot.row()], *arguments)[2][:3] == "hit"

    (pod.root / "bin" / "python3").unlink()
    code, fallback, message, _ = run(pod, shell, larder, [slot.row()], *arguments)

    assert (code, fallback, message) == (0, arguments, "")


def test_an_image_without_grep_runs_the_fallback(pod: Pod, larder: Path) -> None:
    slot = put(larder, "52a2d80d4bc5fa16", pod)
    slot.publish()
    pod.environment["PATH"] = path_without(pod.root, "grep")
    arguments = ["hf://o/m", str(pod.models)]

    code, fallback, message, _ = run(pod, ["/bin/sh"], larder, [slot.row()], *arguments)

    assert (code, fallback, message) == (0, arguments, "")


def test_without_a_named_fallback_it_is_kserves_entrypoint() -> None:
    done = subprocess.run(  # noqa: S603 - the command under test
        [*INITIALIZER_COMMAND, "hf://o/m", "/mnt/models"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 127
    assert "/storage-initializer/scripts/initializer-entrypoint" in done.stderr
