"""The demo's pieces: reviews, containers, processes, figures."""

import json
import os
import signal
import sys
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demo.admission import Admitted, initializer_of, make_review, pod_diff, recorded_namespace
from demo.kubelet import lay_out, mapped
from demo.processes import DemoError, Interrupted, Interrupts, Program, run_to_end
from demo.report import DemoReport, ModelFigures, PodStart
from demo.show import Show
from demo.source import check_against_manifest, other_hub, own_bytes
from larder.contract import INITIALIZER_COMMAND, KSERVE_ENTRYPOINT
from larder.layout import MANIFEST, Digest
from larder.manifest import ManifestFile, make_manifest

RECORDED = Path(__file__).parents[1] / "recorded" / "hf-raw.after-kserve.json"
PLACES = ["/larder", "/mnt/models", KSERVE_ENTRYPOINT]
PATIENCE_SECONDS = 30.0
KEY = "0123456789abcdef"


# --- admission ----------------------------------------------------------------------------------


def test_the_review_is_the_recorded_one_but_for_model_and_hub() -> None:
    review = make_review("iris", "hf://larder-demo/iris", "http://127.0.0.1:1")
    env = initializer_of(review["request"]["object"])["env"]
    assert env.pop() == {"name": "HF_ENDPOINT", "value": "http://127.0.0.1:1"}
    text = json.dumps(review).replace("hf://larder-demo/iris", "hf://Qwen/Qwen2-0.5B-Instruct")
    assert json.loads(text.replace("iris", "qwen-hf")) == json.loads(RECORDED.read_text())
    assert recorded_namespace() == review["request"]["namespace"]


def test_a_diff_has_changed_lines_little_around_them_and_gaps() -> None:
    before = {"a": 1, "b": 2, "c": 3, "d": 4}
    lines = pod_diff(Admitted(before, {**before, "c": 5}, "Cached"))
    assert lines == ["@", " b: 2", "-c: 3", "+c: 5", " d: 4"]


# --- kubelet ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("/mnt/models", "/c/mnt/models", id="a path"),
        pytest.param("/mnt/models/a", "/c/mnt/models/a", id="below a path"),
        pytest.param("1\nu\t/larder/k\t\tu", "1\nu\t/c/larder/k\t\tu", id="between tabs"),
        pytest.param('"${F:-' + KSERVE_ENTRYPOINT + '}"', '"${F:-/c' + KSERVE_ENTRYPOINT + '}"',
                     id="in the shell line"),
        pytest.param("hf://larder/model", "hf://larder/model", id="a URI's owner stays"),
        pytest.param("hf://larder-demo/iris", "hf://larder-demo/iris", id="a longer owner stays"),
        pytest.param("/mnt/models2", "/mnt/models2", id="a longer name stays"),
        pytest.param("/var/lib/larder/x", "/var/lib/larder/x", id="the same name elsewhere stays"),
        pytest.param("/dev/null", "/dev/null", id="another path stays"),
    ],
)  # fmt: skip
def test_paths_of_the_container_are_mapped_and_nothing_else(text: str, expected: str) -> None:
    assert mapped(text, PLACES, Path("/c")) == expected


def pod_with_slot() -> Any:
    pod = make_review("iris", "hf://larder-demo/iris", "http://127.0.0.1:1")["request"]["object"]
    container = initializer_of(pod)
    container["command"] = list(INITIALIZER_COMMAND)
    container["volumeMounts"].append({"name": "slot", "mountPath": f"/larder/{KEY}"})
    path = {"path": f"/var/lib/larder/slots/{KEY}", "type": "DirectoryOrCreate"}
    pod["spec"]["volumes"].append({"name": "slot", "hostPath": path})
    return pod


def test_a_container_has_its_empty_dir_and_a_link_to_the_nodes_directory(tmp_path: Path) -> None:
    container = lay_out(pod_with_slot(), tmp_path / "node", tmp_path / "pod")
    slot = tmp_path / "node" / "var" / "lib" / "larder" / "slots" / KEY
    assert list(container.models.iterdir()) == []
    assert (container.directory / "larder" / KEY).readlink() == slot
    assert slot.is_dir()
    assert container.command[-2:] == ("hf://larder-demo/iris", str(container.models))
    assert container.environment["HF_ENDPOINT"] == "http://127.0.0.1:1"


def test_a_pod_without_a_command_runs_what_its_image_brings(tmp_path: Path) -> None:
    pod = pod_with_slot()
    del initializer_of(pod)["command"]
    program = Path(lay_out(pod, tmp_path / "node", tmp_path / "pod").command[0])
    assert program == tmp_path / "pod" / KSERVE_ENTRYPOINT.lstrip("/")
    assert os.access(program, os.X_OK)


def test_no_token_of_the_users_reaches_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HOME", "/home/user/.cache")
    container = lay_out(pod_with_slot(), tmp_path / "node", tmp_path / "pod")
    assert "hf_secret" not in container.environment.values()
    assert container.environment["HF_HOME"].startswith(str(container.directory))


def test_a_directory_that_a_shell_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="holds a character that a shell would read"):
        lay_out(pod_with_slot(), tmp_path / "node", tmp_path / "a b")
    assert list(tmp_path.iterdir()) == []


def test_a_container_that_fails_is_told_with_its_log(tmp_path: Path) -> None:
    pod = pod_with_slot()
    initializer_of(pod)["command"] = ["/bin/sh", "-c", "echo no luck; exit 3"]
    container = lay_out(pod, tmp_path / "node", tmp_path / "pod")
    with pytest.raises(DemoError, match="ended with status 3") as error:
        container.run(Interrupts())
    assert error.value.log == ("no luck",)


# --- processes ----------------------------------------------------------------------------------


FOREVER = "__import__('time').sleep(600)"


def program(tmp_path: Path, source: str) -> Program:
    command = [sys.executable, "-c", source]
    return Program("tester", command, tmp_path / "tester.log", {"PATH": os.environ["PATH"]})


def test_a_program_that_ends_by_itself_is_told_with_its_log(tmp_path: Path) -> None:
    with (
        program(tmp_path, "print('no catalog'); raise SystemExit(2)") as running,
        pytest.raises(DemoError, match="the tester ended by itself, with status 2") as error,
    ):
        running.wait_until(lambda: None, "start", PATIENCE_SECONDS)
    assert error.value.log == ("no catalog",)


def test_a_wait_has_an_end(tmp_path: Path) -> None:
    with (
        program(tmp_path, FOREVER) as running,
        pytest.raises(DemoError, match=r"the tester did not start within 0 s"),
    ):
        running.wait_until(lambda: None, "start", 0.01)


def test_an_event_is_found_between_lines_that_are_none(tmp_path: Path) -> None:
    lines = ["oops", '{"event": "up", "port": 1}', '{"event": "up", "key": "k"}', '{"ev']
    with program(tmp_path, f"print({chr(10).join(lines)!r}, flush=True); {FOREVER}") as running:
        seen = running.wait_until(lambda: running.event("up"), "say so", PATIENCE_SECONDS)
        assert seen["port"] == 1
        assert running.event("up", key="k") == {"event": "up", "key": "k"}
        assert running.event("down") is None


CHILD = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); "


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def ends(number: int) -> bool:
    """Whether a process that was killed is gone; the kernel takes a moment."""
    polls = (threading.Event().wait(0.05) or is_running(number) for _ in range(200))
    return not all(polls)


def test_the_children_of_a_program_go_with_it(tmp_path: Path) -> None:
    with program(tmp_path, CHILD + "p.wait()") as running:
        log = tmp_path / "tester.log"
        running.wait_until(lambda: log.read_text() or None, "start", PATIENCE_SECONDS)
        child = int(log.read_text())
        assert is_running(child)
    assert ends(child)


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="took longer than 1 s"):
        run_to_end(
            ["/bin/sh", "-c", f"sleep 600 & echo $! > {tmp_path}/child; wait"],
            {"PATH": os.environ["PATH"]}, tmp_path, Interrupts(), 1.0,
        )  # fmt: skip
    assert ends(int((tmp_path / "child").read_text()))


def interrupt(number: signal.Signals, interrupts: Interrupts, done: list[str]) -> None:
    with interrupts.caught():
        with interrupts.shielded():
            os.kill(os.getpid(), number)
            done.append("shielded")
        done.append("not reached")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_a_shield(number: signal.Signals) -> None:
    done: list[str] = []
    with pytest.raises(Interrupted) as interrupted:
        interrupt(number, Interrupts(), done)
    assert done == ["shielded"]
    assert interrupted.value.number == number


def interrupted_wait() -> bool:
    with Interrupts().caught():
        os.kill(os.getpid(), signal.SIGINT)
        return threading.Event().wait(PATIENCE_SECONDS)


def test_an_interrupt_comes_at_once_without_a_shield() -> None:
    with pytest.raises(Interrupted):
        interrupted_wait()


def test_cleaning_up_is_not_interrupted() -> None:
    interrupts = Interrupts()
    with interrupts.caught():
        interrupts.ignore()
        with interrupts.shielded():
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- another hub's models -----------------------------------------------------------------------


def slot_and_pod(tmp_path: Path) -> tuple[Path, Path]:
    slot, models = tmp_path / "slot", tmp_path / "models"
    (slot / "content").mkdir(parents=True)
    (models / "a").mkdir(parents=True)
    (slot / "content" / "w").write_bytes(b"weights")
    (models / "a" / "w").symlink_to(slot / "content" / "w")
    digest = Digest("9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c")
    file = ManifestFile("a/w", 7, digest)
    (slot / MANIFEST).write_text(make_manifest("hf://o/m", "c" * 40, [file]).text())
    return slot, models


def test_a_pod_with_the_manifests_files_passes(tmp_path: Path) -> None:
    slot, models = slot_and_pod(tmp_path)
    assert check_against_manifest(models, slot) == "1 files, each with the manifest's digest"


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    slot, models = slot_and_pod(tmp_path)
    (slot / "content" / "w").write_bytes(b"weighty")
    with pytest.raises(ValueError, match="digest is not the manifest's"):
        check_against_manifest(models, slot)


def test_a_missing_or_added_file_is_found(tmp_path: Path) -> None:
    slot, models = slot_and_pod(tmp_path)
    (models / "more").write_bytes(b"")
    with pytest.raises(ValueError, match="differ in more"):
        check_against_manifest(models, slot)


def test_links_and_the_clients_notes_are_no_bytes_from_the_hub(tmp_path: Path) -> None:
    _, models = slot_and_pod(tmp_path)
    (models / ".cache").mkdir()
    (models / ".cache" / "note").write_bytes(b"12345")
    (models / "own").write_bytes(b"123")
    assert own_bytes(models) == 3


def test_a_models_name_fits_the_catalog_and_a_revision_goes_into_the_pods_uri() -> None:
    (offer,) = other_hub("https://huggingface.co/", "Qwen/Qwen2.5_0.5B", "abc").offers
    assert (offer.name, offer.pod_uri) == ("qwen2-5-0-5b", "hf://Qwen/Qwen2.5_0.5B:abc")
    (offer,) = other_hub("https://huggingface.co", "a/b", None).offers
    assert (offer.pod_uri, offer.revision) == ("hf://a/b", "main")


# --- what is shown ------------------------------------------------------------------------------

FIGURES = ModelFigures(
    "iris", "hf://a/iris", "c" * 40, KEY, 6000, "Cached",
    PodStart(2.0, 6100), PodStart(0.0125, 0), 160.0, 1.5, "right",
)  # fmt: skip


def shown(*, ascii_only: bool) -> tuple[Show, StringIO]:
    class Ascii(StringIO):
        encoding = "ascii"

    output = Ascii() if ascii_only else StringIO()
    return Show(Console(file=output, width=110)), output


def test_a_step_that_fails_has_a_cross_and_the_error_goes_on() -> None:
    show, output = shown(ascii_only=False)
    with pytest.raises(DemoError), show.step("one"):
        raise DemoError("no")
    assert output.getvalue().startswith("✗ one ")


def test_an_ascii_terminal_gets_words_for_marks() -> None:
    show, output = shown(ascii_only=True)
    with show.step("one") as step:
        step.detail, step.seconds = "two", 0.02
    assert output.getvalue() == "ok one: two 20 ms\n"
    show.table(DemoReport((FIGURES,), PodStart(0.5, 6100), ("a note",)))
    assert output.getvalue().isascii()
