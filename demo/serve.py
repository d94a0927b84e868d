"""The hub as a pod of a cluster: makes its models, serves them, and does what it is told.

    python3 -m demo.serve       --port 8080: the hub;  --control-port 8081: what is said to it

The models are the same bytes on every machine, so a catalog can name their commits. `GET /` at the
control port tells what happened since the start:

    {"models": {"larder-demo/tiny": {"commit": …, "digests": {path: SHA-256}}, …},
     "requests": 7, "bytesSent": 1234, "isStalled": false,
     "fetches": {"larder-demo/tiny/config.json": 1}}

`spare` is there for whoever needs a model that no catalog names yet.

`POST /` says how to behave from now on, and answers with the same; what is left out is normal:

    {"bytesPerSecond": 1000000, "stall": {"path": "model-00002-of-00003.safetensors",
                                          "afterBytes": 1000}}
"""

import argparse
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from hashlib import file_digest, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from demo.hub import Fault, Hub, Repo, Stall, drip_at
from demo.hub_repos import HubFile
from demo.models import make_checkpoint

ANYWHERE: Final = "0.0.0.0"  # noqa: S104 - pods call the pod's address
OWNER: Final = "larder-demo"
SIZES_BYTES: Final = {"tiny": 1_000_000, "spare": 2_000_000, "llama": 64_000_000}


def make_repos(directory: Path) -> dict[str, Repo]:
    """Make the models below a directory; their commits follow from their bytes."""
    for name, size_bytes in SIZES_BYTES.items():
        make_checkpoint(directory / name, size_bytes)
    return {f"{OWNER}/{name}": Repo.from_directory(directory / name) for name in SIZES_BYTES}


def behave(hub: Hub, said: dict[str, Any]) -> None:
    """Do as a document says. Raises KeyError, TypeError or ValueError for nonsense."""
    if odd := said.keys() - {"bytesPerSecond", "stall"}:
        raise ValueError(f"accepted: bytesPerSecond, stall; not {', '.join(odd)}")
    rate, stall = said.get("bytesPerSecond"), said.get("stall")
    limit = None if rate is None else drip_at(int(rate))
    faults = [Fault(Stall(int(stall["afterBytes"])), path=str(stall["path"]))] if stall else []
    hub.limit, hub.faults[:] = limit, faults
    if not stall:
        hub.release()


def account(hub: Hub) -> dict[str, Any]:
    """What the hub holds and what was fetched of it."""
    fetched = Counter(f"{r.repo_id}/{r.path}" for r in hub.requests if r.kind == "get")
    return {
        "models": {name: _model(repo) for name, repo in hub.repos.items()},
        "requests": len(hub.requests),
        "bytesSent": hub.bytes_sent,
        "isStalled": hub.stalled.is_set(),
        "fetches": fetched,
    }


def _model(repo: Repo) -> dict[str, Any]:
    commit = repo.commits[repo.branches["main"]]
    digests = {path: file.sha256 or _digest(file) for path, file in commit.files.items()}
    return {"commit": commit.hash, "digests": digests}


def _digest(file: HubFile) -> str:
    if isinstance(file.content, bytes):
        return sha256(file.content).hexdigest()
    with file.content.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


class Control(ThreadingHTTPServer):
    """Tells what the hub did, and tells the hub what to do."""

    def __init__(self, hub: Hub, port: int) -> None:
        super().__init__((ANYWHERE, port), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    server: Control

    def do_GET(self) -> None:
        self._answer(200, account(self.server.hub))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            behave(self.server.hub, dict(json.loads(body)))
        except (KeyError, TypeError, ValueError) as error:
            self._answer(400, {"error": f"{type(error).__name__}: {error}"})
        else:
            self._answer(200, account(self.server.hub))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: the hub counts."""

    def _answer(self, status: int, said: object) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the models and serve until a signal comes; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m demo.serve")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--control-port", type=int, default=8081)
    asked = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with TemporaryDirectory() as directory:
        hub = Hub(make_repos(Path(directory)), address=(ANYWHERE, asked.port))
        with hub, Control(hub, asked.control_port) as control:
            threading.Thread(target=control.serve_forever, name="control", daemon=True).start()
            sys.stdout.write(f"{json.dumps(account(hub))}\n")
            sys.stdout.flush()
            stop.wait()
            control.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
