"""The demo as pods: the hub that is told what to do, the model server that says what it read."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from demo import model_server, serve
from demo.hub import Hub, Repo

FILES = {"config.json": b"{}", "model.safetensors": b"w" * 20_000}
PATIENCE_SECONDS = 30.0


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({"acme/tiny": Repo(dict(FILES))}) as opened:
        yield opened


@pytest.fixture
def control(hub: Hub) -> Iterator[str]:
    with serve.Control(hub, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def fetch(url: str) -> bytes:
    with urlopen(url, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - our own
        return bytes(answer.read())


def say(control: str, document: object) -> Any:
    request = Request(control, json.dumps(document).encode())  # noqa: S310 - our own
    with urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - likewise
        return json.loads(answer.read())


def file_url(hub: Hub) -> str:
    return f"{hub.url}/acme/tiny/resolve/main/model.safetensors"


def test_the_models_are_the_same_bytes_everywhere(tmp_path: Path) -> None:
    repos = serve.make_repos(tmp_path)
    assert {name: repo.branches["main"] for name, repo in repos.items()} == {
        "larder-demo/tiny": "0e637f374c2f23852d6f404087fdbbca67485356",
        "larder-demo/spare": "23257ed88b121d5f90f4536a41d0f4e8ec65ce8f",
        "larder-demo/llama": "01df296f32d836333e532bdf013a50a5eb6a8b7a",
    }


def test_the_control_port_tells_digests_bytes_and_fetches(hub: Hub, control: str) -> None:
    before = json.loads(fetch(control))
    fetch(file_url(hub))
    after = json.loads(fetch(control))
    assert after["bytesSent"] - before["bytesSent"] == 20_000
    assert after["requests"] == before["requests"] + 1
    assert after["fetches"] == {"acme/tiny/model.safetensors": 1}
    digests = after["models"]["acme/tiny"]["digests"]
    assert digests == {path: hashlib.sha256(text).hexdigest() for path, text in FILES.items()}


def test_a_stall_holds_a_file_until_the_hub_is_told_to_go_on(hub: Hub, control: str) -> None:
    say(control, {"stall": {"path": ".safetensors", "afterBytes": 1000}})
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fetch(file_url(hub))))
    reader.start()
    assert hub.stalled.wait(PATIENCE_SECONDS)
    assert json.loads(fetch(control))["isStalled"]
    assert not say(control, {})["isStalled"]
    reader.join(PATIENCE_SECONDS)
    assert got == [FILES["model.safetensors"]]


def test_a_rate_holds_until_it_is_left_out(hub: Hub, control: str) -> None:
    say(control, {"bytesPerSecond": 1_000_000})
    assert hub.limit is not None
    say(control, {})
    assert hub.limit is None


@pytest.mark.parametrize("document", [{"rate": 1}, {"stall": {"path": "x"}}, [1], {"stall": 1}])
def test_the_control_port_refuses_nonsense(hub: Hub, control: str, document: object) -> None:
    with pytest.raises(HTTPError) as refused:
        say(control, document)
    with refused.value:
        assert refused.value.code == 400
    assert not hub.faults


def test_a_model_server_tells_the_digests_of_what_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "slot").mkdir()
    (tmp_path / "slot" / "weights").write_bytes(b"bytes")
    (tmp_path / "models" / "sub").mkdir(parents=True)
    (tmp_path / "models" / "sub" / "weights").symlink_to(tmp_path / "slot" / "weights")
    command = [sys.executable, "-m", "demo.model_server", str(tmp_path / "models"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - ours
        assert server.stdout is not None
        port = int(server.stdout.readline().split()[-1])
        digests = json.loads(fetch(f"http://127.0.0.1:{port}/digests"))
        assert digests == {"sub/weights": hashlib.sha256(b"bytes").hexdigest()}
        assert json.loads(fetch(f"http://127.0.0.1:{port}/v2/health/ready")) == {"ready": True}
        server.terminate()
        assert server.wait(PATIENCE_SECONDS) == 0


def test_a_model_server_without_a_model_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model_server.main([str(tmp_path)]) == 1
    assert "there is no file in" in capsys.readouterr().err
