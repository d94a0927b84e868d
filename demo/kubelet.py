"""What a kubelet does for an init container, with directories in the place of mounts.

    <node>/var/lib/larder/…        a node: a directory that stands for its `/`
    <container>/                   a container: a directory that stands for its `/`
      mnt/models/                  an emptyDir
      larder/<key>                 a hostPath volume: a link to <node>/<path>
      storage-initializer/scripts/initializer-entrypoint     what the image brings
      tmp/  termination-log  log

There is no mount namespace: wherever the command, the arguments or a variable name a path of the
container, the directory's own path is put in front of it. That is all that differs from a node.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.admission import Json, initializer_of
from demo.processes import DemoError, Interrupts, run_to_end, tail
from larder.contract import KSERVE_ENTRYPOINT, SLOTS_MOUNT_ROOT, TERMINATION_LOG_VARIABLE

POD_SECONDS: Final = 3600.0
MODELS: Final = "/mnt/models"
_ENTRYPOINT: Final = Path(__file__).with_name("entrypoint.py")
_LOG: Final = "log"
_MESSAGE: Final = "termination-log"
_SHELL_SAFE = re.compile(r"[A-Za-z0-9_./+-]+")
PASSED_ON: Final = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "LANG", "LC_ALL")
"""Variables of the machine, not of the pod: how anybody on it reaches a hub."""


@dataclass(frozen=True, slots=True)
class InitContainer:
    """A pod's storage initializer, laid out in a directory and not run yet."""

    directory: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def models(self) -> Path:
        """Where the model server would look."""
        return self.directory / MODELS.lstrip("/")

    def run(self, interrupts: Interrupts) -> float:
        """Run it to its end; its wall seconds. Raises `DemoError` if it fails."""
        ended = run_to_end(self.command, self.environment, self.directory, interrupts, POD_SECONDS)
        (self.directory / _LOG).write_text("\n".join(ended.lines))
        if ended.status:
            sentence = f"the init container ended with status {ended.status}"
            raise DemoError(sentence, self.log())
        return ended.seconds

    def log(self) -> tuple[str, ...]:
        """The last lines it said."""
        return tail(self.directory / _LOG)

    def message(self) -> str:
        """Its termination message; empty without one."""
        message = self.directory / _MESSAGE
        return message.read_text() if message.exists() else ""


def lay_out(pod: Json, node: Path, directory: Path) -> InitContainer:
    """Make a directory into a pod's storage initializer on a node."""
    if not _SHELL_SAFE.fullmatch(str(directory)):
        raise DemoError(
            f"{directory} holds a character that a shell would read; accepted: letters, digits "
            "and _ . / + -; TMPDIR says where the demo works"
        )
    container = initializer_of(pod)
    directory.mkdir(parents=True)
    (directory / "tmp").mkdir()
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for mount in container["volumeMounts"]:
        _mount(volumes[mount["name"]], directory / mount["mountPath"].lstrip("/"), node)
    _install_image(directory)
    places = [SLOTS_MOUNT_ROOT, KSERVE_ENTRYPOINT]
    places += [mount["mountPath"] for mount in container["volumeMounts"]]
    command = [*container.get("command", [KSERVE_ENTRYPOINT]), *container["args"]]
    variables = {v["name"]: mapped(v["value"], places, directory) for v in container["env"]}
    return InitContainer(
        directory=directory,
        command=tuple(mapped(word, places, directory) for word in command),
        environment={**dict(_surroundings(directory)), **variables},
    )


def mapped(text: str, places: list[str], directory: Path) -> str:
    """A text in which paths of the container, at or below some places, are paths of the machine."""
    names = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True))
    return re.sub(rf"(?<![\w./])(?:{names})(?![\w.-])", lambda m: f"{directory}{m[0]}", text)


def _mount(volume: Json, place: Path, node: Path) -> None:
    if "hostPath" not in volume:
        place.mkdir(parents=True)
        return
    on_node = node / volume["hostPath"]["path"].lstrip("/")
    if volume["hostPath"].get("type") == "DirectoryOrCreate":
        on_node.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(on_node)


def _install_image(directory: Path) -> None:
    """KServe's entrypoint: kserve-storage, run by this Python."""
    program = directory / KSERVE_ENTRYPOINT.lstrip("/")
    program.parent.mkdir(parents=True)
    command = shlex.join([sys.executable, "-I", str(_ENTRYPOINT)])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)


def _surroundings(directory: Path) -> Iterator[tuple[str, str]]:
    """What an image and a node give to every process; no token, and a home that is fresh."""
    yield "PATH", f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    yield "HOME", str(directory / "tmp")
    yield "HF_HOME", str(directory / "tmp" / "huggingface")
    yield "TMPDIR", str(directory / "tmp")
    yield TERMINATION_LOG_VARIABLE, str(directory / _MESSAGE)
    for name in PASSED_ON:
        for spelled in (name, name.lower()):
            if spelled in os.environ:
                yield spelled, os.environ[spelled]
