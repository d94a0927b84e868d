"""Asks the webhook about many odd pods: no 5xx, no hang, no invalid patch, nobody else's model.

    python -m tests.fuzz.run --reviews 50000 [--seed N] [--only NUMBER]

The application answers in this process, as its server would ask it (ASGI), in changing namespaces
and modes. Each patch is applied by a library and the pod judged by code that shares nothing with
Larder; asked about that pod again, the webhook changes nothing. `--only` makes one review again.
"""

import argparse
import asyncio
import io
import json
import random
import re
import sys
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from fastapi import FastAPI

from larder.catalog import read_catalog
from larder.matching import CatalogIndex
from runtime.clock import SystemClock
from runtime.logs import configure_logs
from tests.fuzz.odd_reviews import OddReviews
from tests.fuzz.pod_judge import demand, judge, patched_pod
from tests.webhook.conftest import CATALOG
from webhook.app import MUTATE_PODS, create_app
from webhook.metrics import Metrics
from webhook.mutation import VolumeMode
from webhook.state import State

MOST_CPU_SECONDS: Final = 1.0  # for one review: hundreds of times what a usual one takes
PROFILE: Final = "pod-security.kubernetes.io/enforce"
LABELS: Final = (
    {"larder.dev/volume": "hostPath"},
    {PROFILE: "privileged"},
    {PROFILE: "restricted", "larder.dev/volume": "hostPath"},
    {PROFILE: "restricted"},
    {"larder.dev/mode": "Observe"},
    {},
    None,
)


@dataclass
class Webhook:
    """The application, asked as a server asks it."""

    def __init__(self) -> None:
        self.index, self._required = (
            CatalogIndex(read_catalog(text.encode(), standalone=True))
            for text in (
                CATALOG,
                CATALOG.replace("{name: qwen,", "{name: qwen, placement: Require,"),
            )
        )
        self.state = State(PurePosixPath("/var/lib/larder"), VolumeMode.HOST_PATH, self.index)
        self.metrics = Metrics()
        self.log = io.StringIO()
        configure_logs("larder-webhook", level="error", stream=self.log)
        self._app: FastAPI = create_app(self.state, self.metrics, SystemClock())

    def is_in(self, namespace: str, source: random.Random) -> None:
        """What is known when a request comes: of the namespace, and of the nodes."""
        self.state.index = source.choice((*[self.index] * 4, *[self._required] * 3, None))
        self.state.volumes = source.choice(list(VolumeMode))
        labels = source.choice(LABELS)
        self.state.namespaces = {} if labels is None else {namespace: labels}
        keys = sorted(model.key for model in self.index.catalog.models)
        self.state.ready = frozenset(source.sample(keys, source.randint(0, len(keys))))
        claims = [f"larder-{key}{part}" for key in keys for part in ("", "-content")]
        bound = source.sample(claims, source.randint(0, len(claims)))
        of_some, of_all = {namespace: frozenset(bound)}, {namespace: frozenset(claims)}
        known = source.choice((None, of_some, of_all))
        self.state.claims = lambda: known

    def keys_for(self, namespace: str) -> set[str]:
        """Slots that pods of a namespace may mount."""
        return {m.key for m in self.index.catalog.models if {namespace, "*"} & set(m.namespaces)}

    async def ask(self, body: bytes) -> tuple[int, bytes]:
        """The status and body of an answer."""
        sent: list[MutableMapping[str, Any]] = []
        asked = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> MutableMapping[str, Any]:
            return next(asked, {"type": "http.disconnect"})

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": MUTATE_PODS,
            "headers": [(b"content-type", b"application/json")],
            "query_string": b"timeout=3s",
        }
        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def said(self) -> str:
        """What was logged as an error since the last time."""
        text = self.log.getvalue()
        self.log.seek(0)
        self.log.truncate()
        return text

    @property
    def metrics_text(self) -> str:
        return self.metrics.text().decode()


class Fuzz:
    """Asks, judges and counts."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._reviews = OddReviews(seed)
        self._webhook = Webhook()
        self.slowest_seconds = 0.0
        self.patches = 0

    async def ask(self, number: int) -> None:
        """One review. Raises `BrokenAnswerError`."""
        source = random.Random(f"{self._seed}/{number}/view")  # noqa: S311 - can be repeated
        review = self._reviews.review(number)
        request = review.get("request")
        namespace = request.get("namespace") if isinstance(request, dict) else None
        known = namespace if isinstance(namespace, str) else ""
        self._webhook.is_in(known, source)
        after = await self._answer(review)
        if after is None:
            return
        self.patches += 1
        judge(request["object"], after, self._webhook.keys_for(known))
        again = await self._answer({**review, "request": {**request, "object": after}})
        demand(again is None, "a second application changes the pod again")

    async def _answer(self, review: Any) -> Any:
        body = json.dumps(review).encode()
        start = time.process_time()
        status, answer = await self._webhook.ask(body)
        took = time.process_time() - start
        self.slowest_seconds = max(took, self.slowest_seconds)
        demand(took < MOST_CPU_SECONDS, f"it took {took:.1f} s of CPU")
        said = self._webhook.said()
        demand(not said, f"an error was logged: {said}")
        return patched_pod(review, status, answer)

    def reasons(self) -> str:
        """How many decisions each reason had, the most frequent first."""
        found = re.findall(r'decisions_total{reason="(\w+)"} ([0-9]+)', self._webhook.metrics_text)
        counts = sorted(((int(n), reason) for reason, n in found if n != "0"), reverse=True)
        return ", ".join(f"{reason} {n}" for n, reason in counts)


async def run(reviews: range, seed: int) -> str:
    """Ask them all; what was seen, in a line or two. Raises `BrokenAnswerError`."""
    fuzz = Fuzz(seed)
    start = time.monotonic()
    for number in reviews:
        try:
            await fuzz.ask(number)
        except Exception as error:
            error.add_note(f"seen with --seed {seed} --only {number}")
            raise
    rate = len(reviews) / (time.monotonic() - start)
    return (
        f"{len(reviews)} reviews, {fuzz.patches} patches, {rate:.0f}/s, "
        f"the slowest took {1000 * fuzz.slowest_seconds:.0f} ms of CPU; seed {seed}\n"
        f"{fuzz.reasons()}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    only = arguments.only
    numbers = range(arguments.reviews) if only is None else range(only, only + 1)
    sys.stdout.write(asyncio.run(run(numbers, arguments.seed)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
