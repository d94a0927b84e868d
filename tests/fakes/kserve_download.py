"""KServe's own download, as the oracle of what a model's tree is."""

import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = "import sys; from kserve_storage import Storage; Storage.download(*sys.argv[1:])"


def kserve_downloads(uri: str, folder: Path, **env: str) -> dict[str, bytes]:
    """What an initializer with these variables makes of a URI, by path."""
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, uri, str(folder)]
    subprocess.run(command, env={**os.environ, **env}, check=True, capture_output=True)  # noqa: S603 - ours
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
