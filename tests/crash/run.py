"""Kills the agent at random moments, again and again, and checks P2, P3, P4 and P10 in between.

    python tests/crash/run.py --runs 200 [--seed N]

A hub serves three models in a process of its own. Each life of the agent gets one of two catalogs
(so that models come, go, and share files), and dies by SIGKILL at a random moment: while it starts,
recovers, resolves, fetches, verifies, publishes or evicts. Bounded: a life is at most a few seconds.
At the end one undisturbed life must bring everything to rest, with nothing left over. P10 is held
to figures: what the hub sent is the models' bytes plus at most one part for every kill in a fill.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.hub import Hub, Repo  # noqa: E402 - the path above makes it importable
from larder.identity import identity_of  # noqa: E402
from tests.crash.checker import BrokenPromiseError, Checker  # noqa: E402

MIB = 1024 * 1024
PART_BYTES = 64 * MIB
BUDGET_BYTES = 600 * MIB
LONGEST_LIFE_SECONDS = 2.5


@dataclass(frozen=True)
class Model:
    """One model of the test: its place in the hub, and what it holds."""

    name: str
    repo_id: str
    commit: str
    files: dict[str, bytes]

    @property
    def key(self) -> str:
        return identity_of(f"hf://{self.repo_id}", revision=self.commit).key

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.files.values()))


def make_models(source: random.Random) -> tuple[dict[str, Repo], list[Model]]:
    """Big (three parts and more), small (many files), and a revision that shares big's weights."""
    weights = source.randbytes(MIB) * 210
    big = {"model.safetensors": weights, "config.json": b'{"a": 1}', "empty": b""}
    shared = {**big, "config.json": b'{"a": 2}', "extra/notes.txt": b"shares the weights\n"}
    small = {f"part/{n:02}.bin": source.randbytes(200_000 + n) for n in range(24)}
    repos, models = {}, []
    for name, files in (("big", big), ("small", small), ("shared", shared)):
        repo = Repo(dict(files))
        repos[f"acme/{name}"] = repo
        models.append(Model(name, f"acme/{name}", repo.branches["main"], files))
    return repos, models


def catalog(models: list[Model], hub_url: str) -> str:
    lines = [
        "apiVersion: larder.dev/v1alpha1",
        "kind: Catalog",
        "defaults: {unlistedTTL: 0s, freeFloor: 0%, eviction: {minAge: 0s}}",
        "models:",
    ]
    lines += [
        f"  - {{name: {m.name}, storageUri: 'hf://{m.repo_id}', revision: '{m.commit}',"
        f" namespaces: [chat], fetchFrom: '{hub_url}'}}"
        for m in models
    ]
    return "\n".join(lines) + "\n"


class Lives:
    """Starts agents on one root, and ends them."""

    def __init__(self, root: Path, catalog_file: Path, log: Path) -> None:
        self._log = log
        self._command = [
            *(sys.executable, "-m", "agent", "--catalog", str(catalog_file)),
            *("--cache-root", str(root), "--node-name", "crash", "--allow-any-disk"),
            *("--budget", str(BUDGET_BYTES)),
        ]

    def live(self, seconds: float) -> bool:
        """One life of so many seconds; whether it had to be killed."""
        with self._log.open("ab") as log:
            agent = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            agent.wait(seconds)
        except subprocess.TimeoutExpired:
            agent.send_signal(signal.SIGKILL)
            agent.wait()
            return True
        raise BrokenPromiseError(f"the agent ended by itself with status {agent.returncode}")

    def rest(self) -> None:
        """One undisturbed life, to the end."""
        done = subprocess.run([*self._command, "--once"], capture_output=True, timeout=300, check=False)
        if done.returncode:
            raise BrokenPromiseError(f"--once ended with {done.returncode}: {done.stdout[-2000:]!r}")


def wait_for_children(staging: Path) -> None:
    """A fill's child ends when its parent is gone: its lock on the staging is free then."""
    import fcntl

    for lock in staging.glob("*/lock"):
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)


def run(runs: int, seed: int, directory: Path) -> str:
    source = random.Random(seed)
    repos, models = make_models(source)
    big, small, shared = models
    expected = {
        m.key: {path: hashlib.sha256(data).hexdigest() for path, data in m.files.items()}
        for m in models
    }
    root, catalog_file = directory / "root", directory / "catalog.yaml"
    checker = Checker(root, expected, BUDGET_BYTES)
    kills = seen_content = 0
    with Hub(repos) as hub:
        lives = Lives(root, catalog_file, directory / "agent.log")
        for _ in range(runs):
            wanted = source.choice(([big, small], [small, shared], [small, big, shared]))
            write(catalog_file, catalog(wanted, hub.url))
            kills += lives.live(source.uniform(0.2, LONGEST_LIFE_SECONDS))
            wait_for_children(root / "staging")
            seen_content += bool(checker.look({m.key for m in wanted}))
        fetched = hub.bytes_sent
        lives.rest()
        left = checker.look({m.key for m in wanted})
    if left != {m.key for m in wanted}:
        raise BrokenPromiseError(f"at rest the root holds {left}")
    for place in ("staging", "trash", "quarantine"):
        if names := os.listdir(root / place):
            raise BrokenPromiseError(f"at rest {place}/ still holds {names}")
    return (
        f"{runs} runs, {kills} kills, content there after {seen_content}, "
        f"{fetched / MIB:.0f} MiB fetched; seed {seed}"
    )


def write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="larder-crash-"))
    try:
        print(run(arguments.runs, arguments.seed, directory))
    except BrokenPromiseError as error:
        print(f"BROKEN after seed {arguments.seed}: {error}\nkept: {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
