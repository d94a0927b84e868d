"""Kills the agent at random moments, again and again, and checks P2, P3, P4 and P10 in between.

    python -m tests.crash.run --runs 200 [--seed N]

A hub serves three models. Each life of the agent gets one of three catalogs (so that models come,
go, and share files), and dies by SIGKILL: at a random moment while it starts, recovers, resolves,
fetches or verifies, or, every other one, in an ambush while it publishes or evicts. A life is at
most a few seconds. At the end one undisturbed life must bring everything to rest, with nothing
left over.

P10 is held to figures on a second root, with a hub so slow that kills fall into fills: whatever a
life finds recorded, the hub does not send again.
"""

import argparse
import contextlib
import fcntl
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from demo.hub import Hub, Repo
from larder.identity import identity_of
from tests.crash.checker import BrokenPromiseError, Checker

MIB = 1024 * 1024
PART_BYTES = 64 * MIB
BUDGET_BYTES = 600 * MIB
LONGEST_LIFE_SECONDS = 2.5
SLOW_BYTES_PER_SECOND = 35 * MIB  # so that most lives record a part
ON_THE_WAY_BYTES = 48 * MIB  # sent to readers that were dead, or had enough; and the listings
SLOW_KILLS = 12


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
        self._root = root
        self._log = log
        self._command = [
            *(sys.executable, "-m", "agent", "--catalog", str(catalog_file)),
            *("--cache-root", str(root), "--node-name", "crash", "--allow-any-disk"),
            *("--budget", str(BUDGET_BYTES)),
        ]

    def live(self, seconds: float, ambush_seconds: float | None = None) -> None:
        """One life of so many seconds; of an ambush, once a model is published or evicted."""
        with self._log.open("ab") as log:
            agent = subprocess.Popen(self._command, stdout=log, stderr=log)  # noqa: S603 - ours
        deadline = time.monotonic() + seconds
        while agent.poll() is None and time.monotonic() < deadline:
            if ambush_seconds is None:
                wait(agent, seconds)
            elif self._is_busy():
                wait(agent, ambush_seconds)
                break
            else:
                wait(agent, 0.0005)
        if agent.poll() is not None:
            raise BrokenPromiseError(f"the agent ended by itself with status {agent.returncode}")
        agent.send_signal(signal.SIGKILL)
        agent.wait()

    def _is_busy(self) -> bool:
        """Whether a model is half way into its slot, or on its way out."""
        for staging in self._root.glob("staging/*/manifest"):
            slot = self._root / "slots" / staging.parent.name
            if (slot / "manifest").exists() or (slot / "content").exists():
                return True
        return any(self._root.glob("trash/*"))

    def rest(self) -> None:
        """One undisturbed life, to the end."""
        done = subprocess.run(  # noqa: S603 - ours
            [*self._command, "--once"], capture_output=True, timeout=300, check=False
        )
        if done.returncode:
            tail = done.stdout[-2000:].decode(errors="replace")
            raise BrokenPromiseError(f"P10: --once ended with {done.returncode}:\n{tail}")


def wait(agent: subprocess.Popen[bytes], seconds: float) -> None:
    """Let an agent live for so many seconds, or until it ends."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        agent.wait(seconds)


def wait_for_children(staging: Path) -> None:
    """A fill's child ends when its parent is gone: its lock on the staging is free then."""
    for lock in staging.glob("*/lock"):
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)


def digests(models: list[Model]) -> dict[str, dict[str, str]]:
    return {
        m.key: {path: hashlib.sha256(data).hexdigest() for path, data in m.files.items()}
        for m in models
    }


def kill_and_check(runs: int, source: random.Random, directory: Path) -> str:
    """P2, P3 and P4, over changing catalogs."""
    repos, models = make_models(source)
    big, small, shared = models
    root, catalog_file = directory / "root", directory / "catalog.yaml"
    checker = Checker(root, digests(models), BUDGET_BYTES)
    wanted, seen = models, 0
    with Hub(repos) as hub:
        lives = Lives(root, catalog_file, directory / "agent.log")
        for run in range(runs):
            wanted = source.choice(([big, small], [small, shared], models))
            write(catalog_file, catalog(wanted, hub.url))
            if run % 2:
                lives.live(source.uniform(0.2, LONGEST_LIFE_SECONDS))
            else:
                lives.live(LONGEST_LIFE_SECONDS, ambush_seconds=source.uniform(0, 0.004))
            wait_for_children(root / "staging")
            seen += bool(checker.look({m.key for m in wanted}))
        lives.rest()
    if checker.look({m.key for m in wanted}) != {m.key for m in wanted}:
        raise BrokenPromiseError("P10: at rest the root does not hold what is listed")
    for place in ("staging", "trash", "quarantine"):
        if names := [path.name for path in (root / place).iterdir()]:
            raise BrokenPromiseError(f"P2: at rest {place}/ still holds {names}")
    return f"{runs} kills, content was there after {seen} of them"


def kill_and_count(source: random.Random, directory: Path) -> str:
    """P10: recorded parts are not fetched again."""
    repos, models = make_models(source)
    big, small, _ = models
    root, catalog_file = directory / "slow-root", directory / "slow-catalog.yaml"
    kills, needed = 0, big.size_bytes + small.size_bytes
    with Hub(repos, limit_rate=SLOW_BYTES_PER_SECOND) as hub:
        write(catalog_file, catalog([big, small], hub.url))
        lives = Lives(root, catalog_file, directory / "agent.log")
        while not (root / "slots" / big.key / "content").exists() and kills < SLOW_KILLS:
            kept, sent = recorded(root, [big, small]), hub.bytes_sent
            lives.live(source.uniform(2.0, 3.5))
            kills += 1
            wait_for_children(root / "staging")
            refuse_again(hub.bytes_sent - sent, needed - kept)
        kept, sent = recorded(root, [big, small]), hub.bytes_sent
        lives.rest()
        refuse_again(hub.bytes_sent - sent, needed - kept)
        sent = hub.bytes_sent
    Checker(root, digests(models), BUDGET_BYTES).look({big.key, small.key})
    return f"{kills} kills in fills, {sent / MIB:.0f} MiB sent for {needed / MIB:.0f} MiB"


def recorded(root: Path, models: list[Model]) -> int:
    """Bytes that a root's own records say are safe, read without the code that wrote them."""
    safe = 0
    for model in models:
        sizes = [len(model.files[path]) for path in sorted(model.files, key=str.encode)]
        parts = root / "staging" / model.key / "parts"
        ends: dict[int, int] = {}
        for line in parts.read_text().split("\n")[:-1] if parts.exists() else []:
            file, part, _ = map(str, line.split(" "))
            ends[int(file)] = min(sizes[int(file)], (int(part) + 1) * PART_BYTES)
        is_ready = (root / "slots" / model.key / "content").exists()
        safe += model.size_bytes if is_ready else sum(ends.values())
    return safe


def refuse_again(sent: int, missing: int) -> None:
    """A life is sent what it does not have, and little more."""
    if sent > missing + ON_THE_WAY_BYTES:
        raise BrokenPromiseError(f"P10: {sent} bytes sent to a life that missed {missing}")


def run_all(runs: int, seed: int, directory: Path) -> str:
    """Everything; what was seen, in one line."""
    source = random.Random(seed)  # noqa: S311 - a test that can be repeated
    first = kill_and_check(runs, source, directory)
    return f"{first}; {kill_and_count(source, directory)}; seed {seed}"


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
        sys.stdout.write(run_all(arguments.runs, arguments.seed, directory) + "\n")
    except BrokenPromiseError as error:
        sys.stdout.write(f"BROKEN with seed {arguments.seed}: {error}\nkept: {directory}\n")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
