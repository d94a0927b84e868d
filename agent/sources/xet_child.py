"""The hf-xet of one fill, in a process of its own: `python -m agent.sources.xet_child`.

Standard input is a socket of packets. Each is a range to fetch, as JSON (`agent.sources.xet`), and
comes with the descriptor of a pipe: the range's bytes go down it, in order, and then it ends. What
goes wrong is said in one line on the socket, and ends the process. Whoever reads a pipe has to
count all the same: after a fault, hf-xet's stream may just end (seen in 1.8.0 for a refused token,
an answer 500, and a store that is not there). When the socket ends, so does the process.

Nothing but this module imports hf_xet, and this module nothing of ours.
"""

import json
import os
import re
import socket
import sys
import threading
from typing import Any, Final

import hf_xet  # type: ignore[import-untyped]  # ships no types

PACKET_MAX_BYTES: Final = 64 * 1024
_FAULT_MAX_CHARACTERS: Final = 300
_SETTINGS: Final = {
    "telemetry.enabled": False,
    "chunk_cache.size_bytes": 0,
    "client.connect_timeout": "10s",
    "client.read_timeout": "30s",
    "client.retry_max_attempts": 3,
    "client.retry_max_duration": "30s",
}
"""Its own are minutes: a fill that waits for so long has gone another way."""


def main() -> int:
    """Serve until the socket ends; never returns."""
    with socket.socket(fileno=0) as control:
        fetcher = _Fetcher(control)
        while True:
            packet, pipes, _, _ = socket.recv_fds(control, PACKET_MAX_BYTES, 1)
            if not packet:
                os._exit(0)
            threading.Thread(
                target=fetcher.fetch, args=(json.loads(packet), pipes[0]), daemon=True
            ).start()


class _Fetcher:
    """Fetches ranges, each in a thread of its own; all by one token share their connections."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._session = hf_xet.XetSession(hf_xet.XetConfig().with_config(_SETTINGS))
        self._groups: dict[str, Any] = {}

    def fetch(self, asked: dict[str, Any], pipe: int) -> None:
        """Send a range down a pipe."""
        with open(pipe, "wb", buffering=0) as sink:
            try:
                self._send(asked, sink)
            except BrokenPipeError:
                pass  # whoever asked has seen enough
            except Exception as error:  # noqa: BLE001 - it raises what it likes; all of it ends us
                self._control.send(said(error, asked["token"]).encode())  # before the pipe ends
                os._exit(1)

    def _send(self, asked: dict[str, Any], sink: Any) -> None:
        group = self._group(asked)
        file = hf_xet.XetFileInfo(asked["hash"], asked["size"])
        stream = group.download_stream(file, start=asked["start"], end=asked["stop"])
        try:
            for chunk in stream:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[sink.write(rest) :]
        finally:
            stream.cancel()

    def _group(self, asked: dict[str, Any]) -> Any:
        with self._lock:
            token = asked["token"]
            if token not in self._groups:
                self._groups.clear()
                self._groups[token] = self._session.new_download_stream_group(
                    endpoint=asked["endpoint"],
                    token=token,
                    token_expiry_unix_secs=asked["expires"],
                )
            return self._groups[token]


def said(error: Exception, token: str) -> str:
    """An error in one line, without the token and without URLs, which are signed."""
    text = re.sub(r"\S*://\S*", "a URL", f"{type(error).__name__}: {error}".replace(token, "***"))
    return " ".join(text.split())[:_FAULT_MAX_CHARACTERS]


if __name__ == "__main__":
    sys.exit(main())
