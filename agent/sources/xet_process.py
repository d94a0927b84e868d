"""The process of hf-xet from outside: started, asked for ranges, watched, killed.

It dies with whoever started it: it ends when its socket does, and a fill that is killed takes its
whole process group along. Its environment is its starter's, with what says where it may write
(empty folders below `home_fd`, no log) and how it gets out. What it prints is not looked at.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from agent.sources.web import Network
from larder.layout import XET
from runtime.memory import resident_bytes

WATCH_SECONDS: Final = 0.1
_WORDS_MAX_BYTES: Final = 4096


class XetProcess:
    """One process, within a limit of resident memory. Several threads may use it."""

    def __init__(self, home_fd: int, network: Network, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._why = ""
        self._ended = threading.Event()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "agent.sources.xet_child"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={**os.environ, **_environment(home_fd, network)},
                pass_fds=(home_fd,),
            )
        self._watcher = threading.Thread(target=self._watch, name="xet-watch", daemon=True)
        self._watcher.start()

    def ask(self, asked: Mapping[str, object]) -> int:
        """Ask for a range; the descriptor of a pipe with its bytes. Raises `OSError`."""
        read_fd, write_fd = os.pipe()
        try:
            socket.send_fds(self._control, [json.dumps(asked).encode()], [write_fd])
        except OSError:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return read_fd

    def fault(self) -> str:
        """Why it was killed, or what it said before it ended; empty if nobody knows."""
        with suppress(OSError):
            said = self._control.recv(_WORDS_MAX_BYTES, socket.MSG_DONTWAIT)
            self._why = self._why or said.decode(errors="replace")
        return self._why

    def kill(self, why: str) -> None:
        """End it at once, and with it every pipe; the first reason is the one that counts."""
        self._why = self._why or why
        self._ended.set()
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill("the fill is over")
        self._watcher.join()
        self._control.close()

    def _watch(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            if resident_bytes(self._process.pid) > self._limit_bytes:
                self.kill(f"it took more than {self._limit_bytes} bytes of memory")


class XetBody:
    """The bytes of a range, out of a pipe. To be closed by whoever reads it."""

    def __init__(self, process: XetProcess, pipe_fd: int, start: int) -> None:
        self.start = start
        self._process = process
        self._pipe_fd = pipe_fd

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as bytes come; a process that ended brings no more."""
        return os.readv(self._pipe_fd, [buffer])

    def abort(self) -> None:
        """End the process that stands still, and so whoever waits for it."""
        self._process.kill("nothing came for too long")

    def close(self) -> None:
        """Read no more."""
        os.close(self._pipe_fd)


def _environment(home_fd: int, network: Network) -> dict[str, str]:
    said = {"HF_XET_CACHE": f"/proc/self/fd/{home_fd}/{XET}", "HF_XET_LOG_DEST": os.devnull}
    if network.proxy:
        names = ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")
        said |= dict.fromkeys(names, network.proxy)
    if network.ca_bundle:
        said["SSL_CERT_FILE"] = network.ca_bundle
    return said
