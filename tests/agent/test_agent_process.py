"""`larder-agent` as its user meets it: flags, exit status, sentences, /metrics, signals."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.hub import Fault, Hub, Repo, Stall
from larder.identity import identity_of
from tests.agent.store.stocked_root import snapshot

FILES = {"config.json": b"{}", "model.safetensors": b"w" * 10_000}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({"acme/a": Repo(dict(FILES))}) as running:
        yield running


def write_catalog(path: Path, hub: Hub, more: str = "") -> Path:
    commit = hub.repos["acme/a"].branches["main"]
    path.write_text(
        "apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels:\n"
        f"  - {{name: a, storageUri: 'hf://acme/a', revision: '{commit}', namespaces: [chat],"
        f" fetchFrom: '{hub.url}'}}\n{more}"
    )
    return path


def slot(root: Path, hub: Hub) -> Path:
    commit = hub.repos["acme/a"].branches["main"]
    return root / "slots" / identity_of("hf://acme/a", revision=commit).key


def command(root: Path, catalog: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "agent", "--catalog", str(catalog), "--cache-root", str(root)),
        *("--node-name", "node-1", "--allow-any-disk", *more),
    ]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - ours


def events(output: str) -> list[str]:
    return [json.loads(line)["event"] for line in output.splitlines()]


def test_once_fills_what_is_listed_and_says_so_with_status_0(tmp_path: Path, hub: Hub) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", hub)
    done = run(command(tmp_path / "root", catalog, "--once"))
    assert done.returncode == 0, done.stdout
    assert events(done.stdout)[:2] == ["agent started", "catalog loaded"]
    assert "model ready" in events(done.stdout)
    content = slot(tmp_path / "root", hub) / "content"
    assert (content / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    again = run(command(tmp_path / "root", catalog, "--once"))
    assert again.returncode == 0
    assert "fill started" not in events(again.stdout)


def test_once_ends_with_status_1_when_a_model_is_not_to_be_had(tmp_path: Path, hub: Hub) -> None:
    more = "  - {name: b, storageUri: 'https://h/b.zip', namespaces: [chat]}\n"
    catalog = write_catalog(tmp_path / "catalog.yaml", hub, more)
    done = run(command(tmp_path / "root", catalog, "--once"))
    assert done.returncode == 1
    assert slot(tmp_path / "root", hub).joinpath("content").is_dir()
    notes = [line for line in done.stdout.splitlines() if "catalog note" in line]
    assert any("an archive is not filled without maxSize" in note for note in notes)


@pytest.mark.parametrize("text", [None, "kind: Nonsense", "models: [", "\ufffd"])
def test_once_ends_with_status_1_when_the_catalog_is_bad(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "catalog.yaml").write_text(text)
    done = run(command(tmp_path / "root", tmp_path / "catalog.yaml", "--once"))
    assert done.returncode == 1
    assert "catalog is bad: nothing is filled or evicted until it is mended" in events(done.stdout)
    assert not list((tmp_path / "root" / "slots").iterdir())


def test_a_running_agent_serves_metrics_and_ends_on_sigterm(tmp_path: Path, hub: Hub) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    catalog = write_catalog(tmp_path / "catalog.yaml", hub)
    arguments = command(tmp_path / "root", catalog, "--metrics-port", str(port))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as agent:  # noqa: S603 - ours
        assert agent.stdout is not None
        for line in agent.stdout:
            if json.loads(line)["event"] == "model ready":
                break
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        agent.send_signal(signal.SIGTERM)
        rest = agent.stdout.read()
        assert agent.wait(30) == 0
    assert 'larder_agent_fills_total{result="Success"} 1.0' in text
    assert 'larder_agent_evictions_total{reason="Unlisted"} 0.0' in text
    assert events(rest)[-1] == "agent stopped"


def test_an_agent_that_is_stopped_in_a_fill_leaves_no_child_behind(
    tmp_path: Path, hub: Hub
) -> None:
    hub.faults.append(Fault(Stall(after_bytes=10), kind="get", times=1))
    catalog = write_catalog(tmp_path / "catalog.yaml", hub)
    arguments = command(tmp_path / "root", catalog)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as agent:  # noqa: S603 - ours
        assert hub.stalled.wait(30)
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        assert len(children) == 1
        agent.send_signal(signal.SIGTERM)
        assert agent.stdout is not None
        agent.stdout.read()
        assert agent.wait(30) == 0
    assert not Path(f"/proc/{children[0]}").exists()
    status = json.loads((slot(tmp_path / "root", hub) / "status.json").read_text())
    assert status["restarting"] is True


def prepare_file(root: Path) -> None:
    root.write_text("")


def prepare_foreign(root: Path) -> None:
    root.mkdir()
    (root / "thesis.tex").write_text("mine")


def prepare_newer(root: Path) -> None:
    root.mkdir()
    (root / "layout.json").write_text('{"schema": 9, "oldestReader": 8}\n')


def prepare_link(root: Path) -> None:
    root.with_name("elsewhere").mkdir()
    root.symlink_to(root.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        pytest.param(prepare_file, "is a file; give a directory", id="a file"),
        pytest.param(prepare_foreign, "neither empty nor a cache", id="somebody's directory"),
        pytest.param(prepare_newer, "written by a newer Larder", id="a newer schema"),
        pytest.param(prepare_link, "is a symbolic link", id="a link"),
    ],
)
def test_an_unfit_root_is_refused_in_one_sentence_and_left_as_it_was(
    tmp_path: Path, hub: Hub, prepare: object, sentence: str
) -> None:
    root = tmp_path / "root"
    assert callable(prepare)
    prepare(root)
    before = sorted(tmp_path.rglob("*"))
    catalog = write_catalog(tmp_path / "catalog.yaml", hub)
    done = run(command(root, catalog, "--once"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert sentence in line
    assert sorted(tmp_path.rglob("*")) == sorted([*before, catalog])


def test_a_root_on_the_root_filesystem_needs_the_flag(hub: Hub, tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", hub)
    root = Path("/larder-test-root-that-is-never-made")
    arguments = [a for a in command(root, catalog, "--once") if a != "--allow-any-disk"]
    done = run(arguments)
    assert done.returncode == 2
    assert "--allow-any-disk" in done.stderr
    assert not root.exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        pytest.param(["--budget", "much"], "--budget 'much' is neither a quantity", id="budget"),
        pytest.param(["--node-label", "gpu"], "accepted: key=value", id="label without value"),
        pytest.param(["--metrics-port", "70000"], "--metrics-port should be less", id="port"),
        pytest.param(["--colour"], "unrecognized arguments: --colour", id="unknown flag"),
    ],
)
def test_wrong_use_is_told_in_one_sentence_with_status_2(
    tmp_path: Path, flags: list[str], sentence: str
) -> None:
    done = run(command(tmp_path / "root", tmp_path / "catalog.yaml", *flags))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert sentence in line
    assert not (tmp_path / "root").exists()


def test_a_port_of_metrics_that_is_taken_is_said_in_one_sentence(tmp_path: Path, hub: Hub) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", hub)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(command(tmp_path / "root", catalog, "--metrics-port", str(port)))
    assert done.returncode == 2
    place = f"127.0.0.1 port {port}"
    sentence = f"larder-agent: /metrics cannot be served on {place}: Address already in use\n"
    assert done.stderr == sentence


def test_a_second_agent_on_a_root_waits_and_then_ends_without_touching_the_firsts(
    tmp_path: Path, hub: Hub
) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", hub)
    first_arguments = command(tmp_path / "root", catalog)
    with subprocess.Popen(first_arguments, stdout=subprocess.PIPE, text=True) as first:  # noqa: S603 - ours
        assert first.stdout is not None
        for line in first.stdout:
            if json.loads(line).get("state") == "Ready":
                break
        asked, before = len(hub.requests), snapshot(tmp_path / "root")
        second = run(command(tmp_path / "root", catalog))  # its patience is half a minute
        assert (second.returncode, second.stdout) == (2, "")
        (sentence,) = second.stderr.splitlines()
        assert "is held by another agent; one agent a root" in sentence
        assert (len(hub.requests), snapshot(tmp_path / "root")) == (asked, before)
        first.send_signal(signal.SIGTERM)
        rest = first.stdout.read()
        assert first.wait(30) == 0
    assert events(rest) == ["agent stopped"]


def until_it_holds_open(pid: int, path: Path) -> None:
    deadline, pause = time.monotonic() + 30, threading.Event()
    while path not in {fd.resolve() for fd in Path(f"/proc/{pid}/fd").iterdir()}:
        assert time.monotonic() < deadline
        pause.wait(0.02)


def test_an_agent_takes_over_from_one_that_was_killed_while_it_waited(
    tmp_path: Path, hub: Hub
) -> None:
    catalog = write_catalog(tmp_path / "catalog.yaml", hub)
    arguments = command(tmp_path / "root", catalog)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as first:  # noqa: S603 - ours
        assert first.stdout is not None
        for line in first.stdout:
            if json.loads(line)["event"] == "model ready":
                break
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as second:  # noqa: S603 - ours
            until_it_holds_open(second.pid, tmp_path / "root" / "lock")
            first.kill()
            assert second.stdout is not None
            assert json.loads(second.stdout.readline())["event"] == "agent started"
            second.send_signal(signal.SIGTERM)
            rest = events(second.stdout.read())
            assert second.wait(30) == 0
    assert "fill started" not in rest
