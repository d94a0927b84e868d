"""A model server for predictor pods of the demo and the tests: says which bytes it was given.

    python3 -m demo.model_server [DIR]      /mnt/models, where KServe puts a model

It waits for nothing: at start it reads every file, through links too, and listens when it has read
them, so that a pod is ready once its server has its model. `GET /digests` answers with the SHA-256
of each file by its path; any other path answers 200. An empty directory ends it with status 1.
Alone in its image: it imports nothing of Larder but the demo.
"""

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from demo.models import files_below


class ModelServer(ThreadingHTTPServer):
    """Serves the digests of a model's files, as they were at start."""

    def __init__(self, digests: Mapping[str, str], host: str, port: int) -> None:
        super().__init__((host, port), _Handler)
        self.digests = digests


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer

    def do_GET(self) -> None:
        said: object = self.server.digests if self.path == "/digests" else {"ready": True}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing of requests: they are probes."""


def digests_below(models: Path) -> dict[str, str]:
    """The SHA-256 of each file of a model, by its path in the directory."""
    digests = {}
    for file in files_below(models):
        with file.open("rb") as stream:
            digests[file.relative_to(models).as_posix()] = file_digest(stream, "sha256").hexdigest()
    return digests


def main(argv: Sequence[str] | None = None) -> int:
    """Read the model, serve until a signal ends the process; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m demo.model_server")
    parser.add_argument("directory", metavar="DIR", type=Path, nargs="?", default="/mnt/models")
    parser.add_argument("--port", type=int, default=8080, help="default: 8080, as KServe's servers")
    asked = parser.parse_args(argv)
    digests = digests_below(asked.directory)
    if not digests:
        sys.stderr.write(f"model server: there is no file in {asked.directory}\n")
        return 1
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0)
    )  # a container's first process has no default
    with ModelServer(digests, "0.0.0.0", asked.port) as server:  # noqa: S104 - the kubelet probes it
        sys.stdout.write(f"{len(digests)} files of {asked.directory} at {server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
