"""An API server's objects in memory, below the real adapters, and turns that interleave at will.

It keeps what the adapters rely on: a growing resource version, 409 for an old one or a name taken,
404 for what is not there, 422 for a path of a Service that is none, merge and JSON patches.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import jsonpatch

from runtime.kube.client import JSON_PATCH, KubeClient
from runtime.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    KubeError,
    NotFoundError,
    UnavailableError,
)

Json = dict[str, Any]
_SEGMENT = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?")  # of a path, empty for "/"


class Memory:
    """The objects by path. `before_call` runs before each request."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.version = 100
        self.writes: list[str] = []
        self.before_call: Callable[[], object] = lambda: None
        self.lost_answers = 0  # so many of the next writes are done, but their answer is lost

    def put(self, path: str, content: Json) -> Json:
        """Keep an object, past the API."""
        self.version += 1
        content["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = deepcopy(content)
        return deepcopy(content)

    def write(self, path: str, content: Json) -> Json:
        """Keep an object by a request."""
        self.writes.append(path)
        answer = self.put(path, content)
        if self.lost_answers:
            self.lost_answers -= 1
            raise UnavailableError(f"{path}: no answer in time")
        return answer


class MemoryClient(KubeClient):
    """A client without a connection."""

    def __init__(self, memory: Memory) -> None:  # there is no configuration to read
        self._memory = memory

    def get(self, path: str, **_: Any) -> Json:
        self._memory.before_call()
        return deepcopy(self._held(path))

    def create(self, path: str, content: Json, **_: Any) -> Json:
        self._memory.before_call()
        at = f"{path}/{content['metadata']['name']}"
        if at in self._memory.objects:
            raise AlreadyExistsError(f"{at}: exists already")
        return self._memory.write(at, deepcopy(content))

    def patch(self, path: str, content: Any, *, content_type: str = "", **_: Any) -> Json:
        self._memory.before_call()
        held = self._held(path)
        if content_type == JSON_PATCH:
            new = jsonpatch.apply_patch(held, content)
        else:
            new = jsonpatch.JsonPatch([]).apply(_merged(held, content))
        if new["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"]:
            raise ConflictError(f"{path}: was changed by somebody else")
        for webhook in new.get("webhooks", ()):
            segments = webhook["clientConfig"]["service"]["path"].strip("/").split("/")
            if not all(_SEGMENT.fullmatch(segment) for segment in segments):
                raise InvalidError(f"{path}: refused with 422")
        return self._memory.write(path, new)

    def _held(self, path: str) -> Json:
        if path not in self._memory.objects:
            raise NotFoundError(f"{path}: not found")
        return self._memory.objects[path]


def _merged(held: Json, patch: Json) -> Json:
    new = deepcopy(held)
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        elif isinstance(value, dict):
            new[name] = _merged(new.get(name) or {}, value)
        else:
            new[name] = value
    return new


class _StoppedError(Exception):
    """The test is over; whoever still waits for its move may go."""


class _Player:
    def __init__(self, play: Callable[[], object], moved: threading.Semaphore) -> None:
        self.go = threading.Semaphore(0)
        self.is_over = self.is_stopped = False
        self.surprise: Exception | None = None
        self._play = play
        self._moved = moved
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.wait()
            self._play()
        except (KubeError, _StoppedError):
            pass  # the turn failed; there will be another one
        except Exception as error:  # noqa: BLE001 - handed to the test
            self.surprise = error
        self.is_over = True
        self._moved.release()

    def wait(self) -> None:
        """Until it is this player's move."""
        self.go.acquire()
        if self.is_stopped:
            raise _StoppedError


def interleave(
    memory: Memory,
    plays: Sequence[Callable[[], object]],
    choose: Callable[[int], int],
    after_each: Callable[[], object],
) -> None:
    """Run plays side by side: before each request, `choose` says which of those left goes on.

    Exactly one runs at any time. `after_each` looks at the world after every request.
    """
    moved = threading.Semaphore(0)
    players = [_Player(play, moved) for play in plays]
    here = {player.thread: player for player in players}

    def stop_and_wait() -> None:
        moved.release()
        here[threading.current_thread()].wait()

    for player in players:
        player.thread.start()
    try:
        with _calling(memory, stop_and_wait):
            while left := [player for player in players if not player.is_over]:
                left[choose(len(left))].go.release()
                moved.acquire()
                after_each()
    finally:
        for player in players:
            player.is_stopped = True
            player.go.release()
            player.thread.join()
    for player in players:
        if player.surprise:
            raise player.surprise


@contextmanager
def _calling(memory: Memory, before: Callable[[], object]) -> Iterator[None]:
    earlier, memory.before_call = memory.before_call, before
    try:
        yield
    finally:
        memory.before_call = earlier
