"""What the initializer does when a pod is no plain hit: link again, wait for the agent, fall back.

Runs in KServe's image behind `hit`, with the standard library of Python 3.9 and nothing of Larder
but its siblings. Each URI, parents before children, is linked once its content is usable: Hit at
the first look, Joined after a wait (`watch` says how long). What is left goes to KServe's own
initializer, once, and never comes back to waiting. What Larder made below those destinations is
taken away first (`links`): KServe's hub client takes a directory with anything in it for a finished
download when the hub is away. So a URI whose destination lies below one that falls back goes along.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from initializer.hit import NotHit, decoded, fall_back, report, slots
from initializer.links import Pair, attempt, clean_up, is_below, unreadable
from initializer.watch import Outcome, Progress, Status, Watch, parse_status, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

POLL_SECONDS = 0.25
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_REVISION = re.compile(r"(hf://[^/:]+/[^/:]+:).*")


class Clock(NamedTuple):
    """The program's time, in seconds."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


def main(arguments: list[str]) -> None:
    """Serve the arguments' pairs and return; or become the fallback for those that are left."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    try:
        left = remaining(arguments, Clock(time.monotonic, time.sleep))
    except Exception as error:  # noqa: BLE001 - P1: a bug must not stop a pod
        where = traceback.extract_tb(error.__traceback__)[-1]  # the text could hold a token
        say(f"{type(error).__name__} in {where.name}, line {where.lineno}: everything falls back")
        left = arguments
    if left is not None:
        become_fallback(left)


def remaining(arguments: list[str], clock: Clock) -> list[str] | None:
    """Serve what can be served; return the fallback's arguments, or None if nothing is left."""
    if not arguments or len(arguments) % 2:
        say("the arguments are no pairs of URI and path: everything falls back")
        return arguments
    pairs, mounts = read_pairs(arguments)
    fallen = [pair.destination for pair in pairs]
    try:
        outcomes = serve(pairs, clock)
        fallen = [pair.destination for pair in pairs if not outcomes[pair].is_served]
    finally:
        if fallen:
            clean_up(fallen, mounts)
    if not fallen:
        report("joined" if Outcome("Joined") in outcomes.values() else "hit")
        return None
    left = []
    for pair, destination in zip(pairs, arguments[1::2]):
        outcome = outcomes[pair]
        say(f"{shown(pair.uri)}: {outcome.reason}{outcome.detail and f' ({outcome.detail})'}")
        if not outcome.is_served:
            left += [fallback_uri(pair), destination]
    say(f"KServe's own initializer takes over, for {len(left) // 2} of {len(pairs)}")
    return left


def read_pairs(arguments: list[str]) -> tuple[list[Pair], list[str]]:
    """Return the arguments' pairs in their order, and all mount paths of LARDER_SLOTS."""
    refusal = Outcome("NotCached", "no slot answers for it")
    try:
        rows = slots()
    except (NotHit, ValueError):
        rows = {}
        refusal = Outcome("ContractUnknown", "LARDER_SLOTS is of another version, or malformed")
    pairs = []
    for uri, destination in zip(arguments[::2], arguments[1::2]):
        row = rows.get(uri, ("", "", uri))
        pairs.append(
            Pair(uri, os.path.normpath(destination), *row, None if uri in rows else refusal)
        )
    return pairs, [mount for mount, _, _ in rows.values() if mount.strip("/")]


def serve(pairs: Iterable[Pair], clock: Clock) -> dict[Pair, Outcome]:
    """Link what is there and wait for what comes; return every pair's outcome."""
    outcomes: dict[Pair, Outcome] = {}
    linked: dict[str, str] = {}
    waiting_since = clock.now()
    for pair in sorted(pairs, key=lambda p: p.destination):  # parents before children
        alone = pair.refusal or dragged(pair, outcomes, {})
        outcomes[pair] = alone or wait_for(pair, linked, waiting_since, clock)
    while more := {
        pair: why
        for pair, outcome in outcomes.items()
        if outcome.is_served and (why := dragged(pair, outcomes, linked))
    }:
        outcomes.update(more)
    return outcomes


def dragged(pair: Pair, outcomes: dict[Pair, Outcome], linked: dict[str, str]) -> Outcome | None:
    """Return why a pair falls back with another, whose destination holds its own or its links."""
    places = [pair.destination, *(p for p in linked if is_below(p, [pair.destination]))]
    for other, outcome in outcomes.items():
        if not outcome.is_served and any(is_below(p, [other.destination]) for p in places):
            return Outcome(outcome.reason, f"goes with {other.destination}")
    return None


def wait_for(pair: Pair, linked: dict[str, str], waiting_since: float, clock: Clock) -> Outcome:
    """Link a pair, now or when its fill is done, or return why not to wait any longer."""
    watch = Watch(waiting_since, clock.now())
    progress = Progress(shown(pair.uri))
    outcome = attempt(pair, linked)
    while outcome is None:
        try:
            status = read_status(pair.mount)
        except NotHit as miss:
            return Outcome(*miss.args)
        except OSError as error:
            return unreadable(error)
        outcome = watch.judge(status, clock.now())
        if outcome is None:
            progress.tell(status, clock.now())
            clock.sleep(POLL_SECONDS)
            outcome = attempt(pair, linked)
            if outcome and outcome.is_served:
                return Outcome("Joined")
    return outcome


def read_status(mount: str) -> Status | None:
    """Return the slot's status; None while there is none to be read."""
    try:
        return parse_status(decoded(Path(mount, "status.json").read_bytes()))
    except FileNotFoundError:
        return None


def fallback_uri(pair: Pair) -> str:
    """Return the URI for the fallback, at the slot's commit: replicas must not differ by node."""
    match = _HUB_REVISION.fullmatch(pair.fallback_uri)
    commit = resolved_commit(pair.mount) if match and pair.mount else None
    return match[1] + commit if match and commit else pair.fallback_uri


def resolved_commit(mount: str) -> str | None:
    """Return the commit that a slot's manifest or status names, if either does."""
    revisions = []
    with contextlib.suppress(OSError, IndexError):
        text = decoded(Path(mount, "manifest").read_bytes())
        revisions.append(text.split("\n")[1].rpartition(" ")[2])
    with contextlib.suppress(OSError, NotHit):
        status = read_status(mount)
        revisions.append((status and status.revision) or "")
    return next((r for r in revisions if _COMMIT.fullmatch(r)), None)


def become_fallback(arguments: list[str]) -> None:
    """Replace this process by KServe's own initializer."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an exec keeps that
    try:
        fall_back(arguments)
    except OSError as error:
        say(f"the fallback cannot be run: {error.strerror}")
        sys.exit(1)


def shown(uri: str) -> str:
    """Return a URI without what may be secret: user, password, query and fragment."""
    return re.sub(r"//[^/]*@", "//", re.split(r"[?#]", uri, maxsplit=1)[0])
