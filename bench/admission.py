"""What a decision costs: the webhook against the same server stack answering a constant.

    python -m bench.admission [--short] [--json FILE]

Both servers are real processes on one core each run alone, over TLS 1.3 keep-alive on 127.0.0.1;
the client has the other core. CPU is the server's own (its threads' time on a core). Every
figure is the best of three rounds, since whatever else the machine does only ever makes it worse;
where it is busy all the time, look at the ratios.
"""

import argparse
import asyncio
import datetime as dt
import ipaddress
import json
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI, Request, Response
from rich.console import Console
from rich.table import Table

from webhook.app import NO_TELEMETRY
from webhook.serving import Server, open_listener, server_config

REPOSITORY = Path(__file__).parents[1]
RECORDED = REPOSITORY / "tests" / "recorded"
ROUNDS = 3
IN_FLIGHT = 8  # connections while the rate is measured: the server never waits for the client
PACED_REQUESTS_PER_SECOND = 500
GOAL_CPU_MS = 0.6
GOAL_PACED_P99_MS = 10.0
SHORT_REVIEWS = ("hf-raw.after-kserve", "20 KB")
CONSTANT_ANSWER = orjson.dumps(
    {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": "0" * 36,
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": "A" * 2400,
        },
    }
)  # of the size of a real answer
CATALOG = """
apiVersion: larder.dev/v1alpha1
kind: Catalog
models:
- {name: qwen, storageUri: "hf://Qwen/Qwen2-0.5B-Instruct", revision: main, namespaces: [chat]}
- {name: iris, storageUri: "s3://models/sklearn", endpoint: any, namespaces: [chat]}
- {name: llama, storageUri: "s3://models/llama", namespaces: [chat]}
- {name: lora-a, storageUri: "hf://org/lora-a", revision: main, namespaces: [chat]}
- {name: adapters, storageUri: "s3://adapters", namespaces: [chat]}
"""


@dataclass(frozen=True)
class Figures:
    """One server under one review; times in milliseconds."""

    cpu_ms: float
    p50_ms: float
    p99_ms: float
    requests_per_second: float
    paced_p99_ms: float


@dataclass(frozen=True)
class Comparison:
    """A review's figures beside the constant server's."""

    review: str
    review_bytes: int
    answer: str
    webhook: Figures
    constant: Figures

    @property
    def cpu_over_constant_ms(self) -> float:
        """What the decision, its patch, metrics and log line cost a request."""
        return self.webhook.cpu_ms - self.constant.cpu_ms

    @property
    def cpu_ratio(self) -> float:
        """The webhook's CPU as a multiple of the constant server's."""
        return self.webhook.cpu_ms / self.constant.cpu_ms


# --- the servers --------------------------------------------------------------------------------


def serve_constant(certificate: Path, key: Path) -> None:
    """The same stack without a decision; prints its port."""
    app = FastAPI(openapi_url=None, telemetry=NO_TELEMETRY)

    async def constant(request: Request) -> Response:
        async for _ in request.stream():
            pass
        return Response(CONSTANT_ANSWER, media_type="application/json")

    app.add_route("/mutate-pods", constant, methods=["POST"])
    listener = open_listener("127.0.0.1", 0)
    port = listener.getsockname()[1]

    def on_ready() -> None:
        print(json.dumps({"event": "ready to serve", "port": port}), flush=True)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = Server(server_config(app, context), on_ready)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))


def write_certificate(folder: Path) -> ssl.SSLContext:
    """A self-signed certificate in `tls.crt` and `tls.key`; returns a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = dt.datetime.fromtimestamp(folder.stat().st_mtime, dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "tls.crt").write_bytes(certificate.public_bytes(encoding))
    plain = serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    (folder / "tls.key").write_bytes(private)
    return ssl.create_default_context(cafile=str(folder / "tls.crt"))


@contextmanager
def running(command: Sequence[str], core: int) -> Iterator[tuple[int, int]]:
    """A server process on one core: its process id and port."""
    process = subprocess.Popen(  # noqa: S603 - our own programs
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    os.sched_setaffinity(process.pid, {core})
    try:
        yield process.pid, _port(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _port(process: subprocess.Popen[str]) -> int:
    """The port from the line that says it; the lines after it are thrown away."""
    if process.stdout is None:
        raise RuntimeError("the server has no standard output")
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "ready to serve":
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return int(event["port"])
    raise RuntimeError("the server ended before it was ready")


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have spent on a core."""
    times = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(text.split()[0]) for text in times) / 1e9


# --- the client ---------------------------------------------------------------------------------


class Connection:
    """One kept TLS connection that sends the same request again and again."""

    def __init__(self, port: int, trusted: ssl.SSLContext, body: bytes) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = trusted.wrap_socket(plain, server_hostname="127.0.0.1")
        head = (
            "POST /mutate-pods?timeout=3s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body

    def send(self) -> None:
        """Send the request."""
        self._socket.sendall(self._request)

    def receive(self) -> bytes:
        """Read the answer's body."""
        received = self._socket.recv(65536)
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {head[:40]!r}")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(65536)
        return body

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def measure(pid: int, connections: Sequence[Connection], requests: int) -> Figures:
    """All figures of one server; `requests` for each of the three ways of asking."""
    one_by_one = sorted(_one_by_one(connections[0], requests))
    before, start = cpu_seconds(pid), time.perf_counter()
    for _ in range(requests // len(connections)):
        for connection in connections:
            connection.send()
        for connection in connections:
            connection.receive()
    asked = requests // len(connections) * len(connections)
    took, cpu = time.perf_counter() - start, cpu_seconds(pid) - before
    paced = sorted(_paced(connections[0], requests))
    return Figures(
        cpu_ms=1000 * cpu / asked,
        p50_ms=1000 * statistics.median(one_by_one),
        p99_ms=1000 * _percentile(one_by_one, 99),
        requests_per_second=asked / took,
        paced_p99_ms=1000 * _percentile(paced, 99),
    )


def best(rounds: Sequence[Figures]) -> Figures:
    """Each figure from the round in which the machine disturbed it least."""
    return Figures(
        cpu_ms=min(f.cpu_ms for f in rounds),
        p50_ms=min(f.p50_ms for f in rounds),
        p99_ms=min(f.p99_ms for f in rounds),
        requests_per_second=max(f.requests_per_second for f in rounds),
        paced_p99_ms=min(f.paced_p99_ms for f in rounds),
    )


def _one_by_one(connection: Connection, requests: int) -> Iterator[float]:
    for _ in range(requests):
        start = time.perf_counter()
        connection.send()
        connection.receive()
        yield time.perf_counter() - start


def _paced(connection: Connection, requests: int) -> Iterator[float]:
    """Seconds from when a request was due, so that a stall counts for all it delays."""
    wait = threading.Event().wait
    begin = time.perf_counter()
    for i in range(requests):
        due = begin + i / PACED_REQUESTS_PER_SECOND
        early = due - time.perf_counter()
        if early > 0:
            wait(early)
        connection.send()
        connection.receive()
        yield time.perf_counter() - max(due, begin)


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


# --- the whole ----------------------------------------------------------------------------------


def reviews() -> dict[str, bytes]:
    """The recorded reviews as the API server sends them, and the largest one padded to 20 KB."""
    bodies = {
        path.stem: orjson.dumps(orjson.loads(path.read_bytes()))
        for path in sorted(RECORDED.glob("*.json"))
    }
    large = orjson.loads(bodies["llm-decode-lora.after-kserve"])
    padding = 20_000 - len(bodies["llm-decode-lora.after-kserve"])
    script = "exec vllm serve /mnt/models --port 8001 # " * (padding // 42)
    large["request"]["object"]["spec"]["containers"][0]["args"] = [script]
    return {**bodies, "20 KB": orjson.dumps(large)}


def run(*, short: bool) -> list[Comparison]:
    """Measure the reviews against both servers, one after the other on the same core."""
    requests, chosen = (300, SHORT_REVIEWS) if short else (500, tuple(reviews()))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(cores[:-1]) or set(cores))
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            _both_servers(Path(folder), cores[-1]) as both,
        ):
            return [_compare(name, reviews()[name], requests, both) for name in chosen]
    finally:
        os.sched_setaffinity(0, set(cores))


@dataclass(frozen=True)
class Servers:
    """The two processes, each as process id and port, and whom a client trusts."""

    webhook: tuple[int, int]
    constant: tuple[int, int]
    trusted: ssl.SSLContext


@contextmanager
def _both_servers(folder: Path, core: int) -> Iterator[Servers]:
    trusted = write_certificate(folder)
    certificate, key, catalog = (str(folder / n) for n in ("tls.crt", "tls.key", "catalog.yaml"))
    Path(catalog).write_text(CATALOG)
    flags = ("--host", "127.0.0.1", "--port", "0", "--tls-cert", certificate, "--tls-key", key)
    webhook = (sys.executable, "-m", "webhook", "--log-level", "info", "--catalog", catalog, *flags)
    constant = (sys.executable, "-m", "bench.admission", "--constant", certificate, key)
    with running(webhook, core) as decides, running(constant, core) as repeats:
        yield Servers(decides, repeats, trusted)


def _compare(review: str, body: bytes, requests: int, servers: Servers) -> Comparison:
    """Several rounds, in each of them both servers one after the other."""
    both = (servers.constant, servers.webhook)
    connections = [
        [Connection(port, servers.trusted, body) for _ in range(IN_FLIGHT)] for _, port in both
    ]
    rounds = [
        [measure(pid, c, requests) for (pid, _), c in zip(both, connections, strict=True)]
        for _ in range(ROUNDS)
    ]
    constant, webhook = (best(figures) for figures in zip(*rounds, strict=True))
    connections[1][0].send()
    is_patched = "patch" in orjson.loads(connections[1][0].receive())["response"]
    for connection in [c for of_server in connections for c in of_server]:
        connection.close()
    answer = "patched" if is_patched else "unchanged"
    return Comparison(review, len(body), answer, webhook, constant)


def as_json(comparisons: Sequence[Comparison]) -> dict[str, object]:
    """The figures, the goals, and whether every patched review meets them."""
    patched = [c for c in comparisons if c.answer == "patched"]
    cpu_ms = max(c.cpu_over_constant_ms for c in patched)
    paced_p99_ms = max(c.webhook.paced_p99_ms for c in patched)
    return {
        "reviews": [
            {**asdict(c), "cpu_over_constant_ms": c.cpu_over_constant_ms, "cpu_ratio": c.cpu_ratio}
            for c in comparisons
        ],
        "worst": {"cpu_over_constant_ms": cpu_ms, "paced_p99_ms": paced_p99_ms},
        "goals": {"cpu_over_constant_ms": GOAL_CPU_MS, "paced_p99_ms": GOAL_PACED_P99_MS},
        "met": cpu_ms <= GOAL_CPU_MS and paced_p99_ms <= GOAL_PACED_P99_MS,
    }


def table(comparisons: Sequence[Comparison]) -> Table:
    """The figures for people; in each cell the webhook's, then the constant server's."""
    paced = f"p99 ms at {PACED_REQUESTS_PER_SECOND}/s"
    columns = ("review", "bytes", "answer", "CPU ms", "over constant", "p50 ms", "p99 ms")
    shown = Table(
        *columns,
        "requests/s",
        paced,
        title="admission: webhook | the same stack answering a constant",
    )
    for c in comparisons:
        mine, theirs = c.webhook, c.constant
        shown.add_row(
            c.review,
            str(c.review_bytes),
            c.answer,
            f"{mine.cpu_ms:.2f} | {theirs.cpu_ms:.2f}",
            f"{c.cpu_over_constant_ms:.2f} ({c.cpu_ratio:.1f}x)",
            f"{mine.p50_ms:.2f} | {theirs.p50_ms:.2f}",
            f"{mine.p99_ms:.2f} | {theirs.p99_ms:.2f}",
            f"{mine.requests_per_second:.0f} | {theirs.requests_per_second:.0f}",
            f"{mine.paced_p99_ms:.2f} | {theirs.paced_p99_ms:.2f}",
        )
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON. A missed goal is a figure, not a failure."""
    parser = argparse.ArgumentParser(prog="bench.admission", description="What a decision costs.")
    parser.add_argument("--short", action="store_true", help="two reviews, a few seconds")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--constant", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.constant:
        serve_constant(*options.constant)
        return
    comparisons = run(short=options.short)
    figures = as_json(comparisons)
    Console(width=160).print(table(comparisons))
    print(f"worst {figures['worst']}, goals {figures['goals']}, met: {figures['met']}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
