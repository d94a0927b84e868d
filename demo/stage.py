"""Where the demo plays: a directory and the processes in it, gone when it is over.

<work>/hub/<owner>/<model>/     what the demo's own hub serves
<work>/catalog.yaml  tls.crt  tls.key  agent.log  webhook.log
<work>/node/var/lib/larder/     a node's `/`, with the agent's cache root in it
<work>/empty-node/              the `/` of a node that no agent runs on
<work>/pods/<name>/             init containers, see `demo.kubelet`
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from demo.kubelet import PASSED_ON
from demo.processes import Interrupts, Program
from demo.show import Show
from larder.layout import DEFAULT_ROOT, Key, slot_path

PREFIX: Final = "larder-demo-"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """A directory, what is printed to, and what ends with them."""

    work: Path
    show: Show
    interrupts: Interrupts
    ends: ExitStack

    @property
    def node(self) -> Path:
        """The directory that stands for the node's `/`."""
        return self.work / "node"

    @property
    def cache_root(self) -> Path:
        """The agent's, where it is on every node."""
        return self.node / DEFAULT_ROOT.relative_to("/")

    def slot(self, key: Key) -> Path:
        """A slot on the node."""
        return self.cache_root / slot_path(key)

    def enter(self, resource: AbstractContextManager[T]) -> T:
        """Enter what is to end with the stage."""
        with self.interrupts.shielded():
            return self.ends.enter_context(resource)

    def start(self, name: str, *flags: str | Path) -> Program:
        """Start one of Larder's programs; it ends with the stage."""
        command = [sys.executable, "-P", "-m", name, *map(str, flags)]
        environment = dict(_surroundings(self.work))
        return self.enter(Program(name, command, self.work / f"{name}.log", environment))


@contextmanager
def open_stage(show: Show) -> Iterator[Stage]:
    """A fresh stage. Once it is being cleared, signals wait."""
    interrupts = Interrupts()
    with interrupts.caught(), ExitStack() as ends:
        try:
            with interrupts.shielded():
                work = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
                ends.callback(shutil.rmtree, work)
            yield Stage(work, show, interrupts, ends)
        finally:
            interrupts.ignore()


def _surroundings(work: Path) -> Iterator[tuple[str, str]]:
    """The machine's variables, and none that Larder's programs or the hub's client would heed."""
    yield "PATH", os.environ.get("PATH", os.defpath)
    yield "HOME", str(work)
    yield "TMPDIR", str(work)
    for name in PASSED_ON:
        for spelled in (name, name.lower()):
            if spelled in os.environ:
                yield spelled, os.environ[spelled]
