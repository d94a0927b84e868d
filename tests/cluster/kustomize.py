"""`deploy/` as kubectl sees it, and what docs/install.md tells people to type."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.DOTALL | re.MULTILINE)

Object = dict[str, Any]


def kubectl(*words: str) -> "subprocess.CompletedProcess[str]":
    """What kubectl does with words."""
    return subprocess.run(  # noqa: S603 - ours
        ["kubectl", *words],  # noqa: S607 - the one on the PATH
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def applied(*words: str) -> list[str]:
    """Apply as the page says; a line an object. A warning of the API server is a failure."""
    done = kubectl("apply", "--server-side", *words)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    return done.stdout.splitlines()


def rendered(folder: Path) -> list[Object]:
    """The objects that an overlay comes to."""
    done = kubectl("kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def typed(heading: str) -> list[str]:
    """The commands of a section of the page on installing, in their order."""
    page = (ROOT / "docs/install.md").read_text()
    (section,) = [part for part in page.split("\n## ") if part.startswith(f"{heading}\n")]
    return [line.strip() for block in _BLOCK.findall(section) for line in block.splitlines()]


def run_typed(command: str) -> str:
    """Run a command of the page in a shell, at the root of the checkout; what it printed."""
    done = subprocess.run(  # noqa: S603 - the page's own words
        ["/bin/bash", "-euo", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
