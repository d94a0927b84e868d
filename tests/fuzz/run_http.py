"""Sends odd bytes to the real webhook over TLS: no 5xx, no hang, no error, no memory that grows.

    python -m tests.fuzz.run_http --conversations 3000 [--seed N] [--only NUMBER]

The webhook is one of a cluster, so that `/explain` is asked, too. Each conversation has a
connection of its own, and sixteen go on at once. Meanwhile others say a byte now and then and never
come to an end. Afterwards a good review is answered as ever.
"""

import argparse
import asyncio
import base64
import json
import random
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from certs.authority import Material, write_material
from larder.contract import SYSTEM_NAMESPACE
from tests.fakes.certificates import issue
from tests.fakes.kubeconfig import write_kubeconfig
from tests.fuzz.odd_http import ADMISSION_PATH, Conversation, OddHttp
from tests.fuzz.pod_judge import BrokenAnswerError, demand
from tests.runtime.kube.api_server import ApiServer
from tests.webhook.conftest import CATALOG, RECORDED, Identity, RunningWebhook
from tests.webhook.explain_cluster import OURS, ExplainCluster, of_kserve
from webhook.certificates import SECRET

AT_ONCE: Final = 16
DRIPPING: Final = 20
PATIENCE_SECONDS: Final = 5.0  # as long as an API server waits at most
QUIET_SECONDS: Final = 0.02  # then a client that was not understood hangs up
PAUSE_SECONDS: Final = 0.5  # between two bytes of a slow client
ENOUGH: Final = 1000  # conversations, for some of them to be questions that are answered
MORE_MIB: Final = 64  # than at the start; the Deployment allows three times as much
EXPECTED: Final = frozenset({100, 200, 400, 401, 403, 404, 405, 413, 429})
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@contextmanager
def cluster_of_one_pod() -> Iterator[ApiServer]:
    """An API server with a catalog, a pod to ask about, and a known admission path."""
    server = ApiServer()
    cluster = ExplainCluster(server)
    cluster.catalog(CATALOG)
    cluster.pod(of_kserve())
    cluster.client.close()
    material = write_material(Material(path=ADMISSION_PATH))
    data = {name: base64.b64encode(value).decode() for name, value in material.items()}
    server.add("x", "secrets", metadata={"name": SECRET, "namespace": SYSTEM_NAMESPACE}, data=data)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def running() -> Iterator[RunningWebhook]:
    """The webhook in a process of its own, and its cluster."""
    with tempfile.TemporaryDirectory() as name, cluster_of_one_pod() as server:
        folder = Path(name)
        authority, leaf = issue(folder)
        kubeconfig = write_kubeconfig(folder / "config", {"server": server.host}, OURS)
        command = [sys.executable, "-m", "webhook", "--host", "127.0.0.1", "--port", "0"]
        command += ["--kubeconfig", str(kubeconfig)]
        command += ["--tls-cert", str(leaf), "--tls-key", str(leaf)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
        trusted = ssl.create_default_context(cafile=str(authority))
        webhook = RunningWebhook(process, Identity(leaf, leaf, trusted))
        webhook.reader.start()
        try:
            webhook.port = webhook.wait_first_for("ready to serve")["port"]
            for event in ("catalog loaded", "namespaces known", "admission path known"):
                webhook.wait_first_for(event)
            webhook.admission_path = f"/{ADMISSION_PATH}"
            yield webhook
        finally:
            webhook.stop()
            webhook.reader.join()


def peak_mib(webhook: RunningWebhook) -> float:
    """The most memory that it ever had."""
    text = Path(f"/proc/{webhook.process.pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def explanations(webhook: RunningWebhook) -> float:
    """How many questions it answered with one."""
    counted = re.search(r'explains_total{outcome="explained"} (\S+)', webhook.get("/metrics")[1])
    return float(counted[1]) if counted else 0.0


class Clients:
    """All that ask a webhook, and what they were answered."""

    def __init__(self, webhook: RunningWebhook, seed: int) -> None:
        self._webhook = webhook
        self._seed = seed
        self._odd = OddHttp(seed)
        self.statuses: Counter[int] = Counter()
        self.slowest_seconds = 0.0

    async def ask_all(self, numbers: range) -> None:
        """Every conversation of these numbers. Raises `BrokenAnswerError`."""
        waiting = iter(numbers)
        slow = [asyncio.create_task(self._drip()) for _ in range(DRIPPING)]
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._ask_some(waiting))
        finally:
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    async def _ask_some(self, waiting: Iterator[int]) -> None:
        for number in waiting:
            try:
                self.judge(await self._ask(self._odd.conversation(number)))
            except Exception as error:
                error.add_note(f"seen with --seed {self._seed} --only {number}")
                raise

    async def _ask(self, conversation: Conversation) -> bytes:
        reader, writer = await self._connect()
        start = time.monotonic()
        received = bytearray()
        seconds = PATIENCE_SECONDS if conversation.is_whole else QUIET_SECONDS
        try:
            for piece in conversation.pieces:
                writer.write(piece)
                await writer.drain()
            while more := await asyncio.wait_for(reader.read(65536), seconds):
                received += more
                seconds = QUIET_SECONDS
            demand(received or not conversation.is_whole, "a request was not answered")
        except TimeoutError:
            demand(seconds == QUIET_SECONDS, f"no answer within {PATIENCE_SECONDS:.0f} s")
        except OSError:
            pass  # it was ended
        finally:
            writer.transport.abort()
        if conversation.is_whole:
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - start)
        return bytes(received)

    def judge(self, received: bytes) -> None:
        """Look at the statuses of what was received. Raises `BrokenAnswerError`."""
        statuses = [int(status) for status in _STATUS.findall(received)]
        demand(set(statuses) <= EXPECTED, f"answered with {statuses}")
        self.statuses.update(statuses)

    async def _drip(self) -> None:
        while True:
            with suppress(OSError):
                reader, writer = await self._connect()
                for byte in b"POST /mutate-pods HTTP/1.1\r\nX: " + b"y" * 1000:
                    writer.write(bytes([byte]))
                    with suppress(TimeoutError):
                        if await asyncio.wait_for(reader.read(1), PAUSE_SECONDS) == b"":
                            break
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        trusted = self._webhook.identity.trusted
        return await asyncio.open_connection("127.0.0.1", self._webhook.port, ssl=trusted)


def run(numbers: range, seed: int) -> str:
    """Send them all; what was seen, in a line. Raises `BrokenAnswerError`."""
    with running() as webhook:
        clients = Clients(webhook, seed)
        before, start = peak_mib(webhook), time.monotonic()
        try:
            asyncio.run(clients.ask_all(numbers))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        seconds, more = time.monotonic() - start, peak_mib(webhook) - before
        review = (RECORDED / "hf-raw.after-kserve.json").read_bytes()
        status, answer = webhook.post(json.dumps(json.loads(review)).encode())
        demand(status == 200 and "patch" in answer["response"], "a good review is not answered")
        explained = explanations(webhook)
        demand(explained or len(numbers) < ENOUGH, "nothing was explained")
        demand(more < MORE_MIB, f"it took {more:.0f} MiB more")
    said = [line for line in webhook.lines.queue if line["level"] in {"error", "critical"}]
    demand(not said, f"an error was logged: {said[:1]}")
    answered = ", ".join(f"{status} {n}" for status, n in sorted(clients.statuses.items()))
    return (
        f"{len(numbers)} conversations, {len(numbers) / seconds:.0f}/s, answered {answered}, "
        f"{explained:.0f} of them explanations; the "
        f"slowest took {1000 * clients.slowest_seconds:.0f} ms, {more:.0f} MiB more; seed {seed}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    only = arguments.only
    numbers = range(arguments.conversations) if only is None else range(only, only + 1)
    try:
        told = run(numbers, arguments.seed)
    except BrokenAnswerError as error:
        sys.exit(f"{error} ({'; '.join(getattr(error, '__notes__', ()))})")
    sys.stdout.write(told + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
