"""Real servers as processes of their own, for the tests that need them.

`installed` says where a program is. One that is missing is left out, unless
`LARDER_TEST_SERVERS=all` says that the machine has them all.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

READY_SECONDS = 60.0
_POLL_SECONDS = 0.02
_PLACES = os.pathsep.join([os.environ.get("PATH", ""), str(Path.home() / "go/bin")])


def installed(program: str) -> str | None:
    """The program's path, or None. Raises `RuntimeError` for one that has to be there."""
    beside_python = Path(sys.executable).parent / program
    if beside_python.exists():
        return str(beside_python)
    found = shutil.which(program, path=_PLACES)
    if found is None and os.environ.get("LARDER_TEST_SERVERS") == "all":
        raise RuntimeError(f"{program} is not installed")
    return found


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], port: int, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The URL of a server that a command starts at a port; it is ended with the context."""
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - the tests' own commands
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        ) as process,
    ):
        try:
            _wait_for(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    for _ in range(int(READY_SECONDS / _POLL_SECONDS)):
        if process.poll() is not None:
            break
        with closing(socket.socket()) as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(_POLL_SECONDS)
    raise RuntimeError(f"{process.args!r} does not listen: {log.read_text()[-2000:]}")
