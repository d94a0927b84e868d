"""What the webhook's tests share: a catalog, recorded reviews, certificates, the real process."""

import json
import queue
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from larder.catalog import read_catalog
from larder.matching import CatalogIndex
from tests.fakes.certificates import issue
from webhook.mutation import AdmissionRequest, View

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests" / "recorded"
PATIENCE_SECONDS = 30.0  # only a failing test waits so long

CATALOG = """
apiVersion: larder.dev/v1alpha1
kind: Catalog
defaults:
  storageInitializers:
  - {repository: registry.example:5000/our/fetcher, entrypoint: /bin/fetch}
models:
- {name: qwen, storageUri: "hf://Qwen/Qwen2-0.5B-Instruct", revision: c540970f9e29518b1d8f06ab8b24cba66ad77b6d, namespaces: [chat]}
- {name: branch, storageUri: "hf://org/branch", revision: refs/pr/1, namespaces: [chat]}
- {name: sklearn, storageUri: "s3://models/sklearn", endpoint: "http://10.151.0.1:9000", namespaces: [chat]}
- {name: llama, storageUri: "s3://models/llama", namespaces: [chat]}
- {name: adapters, storageUri: "s3://adapters", namespaces: ["*"]}
- {name: elsewhere, storageUri: "s3://models/elsewhere", endpoint: any, namespaces: [chat]}
- {name: parts, storageUri: "hf://org/parts", revision: main, allowPatterns: ["*.json", "*.txt"], namespaces: [chat]}
- {name: secret, storageUri: "hf://org/secret", revision: main, namespaces: [search]}
- {name: placed, storageUri: "hf://org/placed", revision: main, placement: Require, namespaces: [chat]}
"""  # noqa: E501 - an entry a line reads best


@pytest.fixture(scope="session")
def catalog_text() -> str:
    return CATALOG


@pytest.fixture(scope="session")
def view() -> View:
    index = CatalogIndex(read_catalog(CATALOG.encode(), standalone=True))
    return View(index, PurePosixPath("/var/lib/larder"))


@pytest.fixture(scope="session")
def review() -> Callable[[str], Any]:
    """A recorded review by name, fresh at every call."""
    texts = {path.stem: path.read_text() for path in RECORDED.glob("*.json")}
    return lambda name: json.loads(texts[name])


@pytest.fixture
def pod(review: Callable[[str], Any]) -> Any:
    """The pod of an InferenceService as it comes from KServe's webhook; edit it at will."""
    return review("hf-raw.after-kserve")["request"]["object"]


@pytest.fixture
def ask() -> Callable[[Any], AdmissionRequest]:
    return lambda pod: AdmissionRequest(pod, "chat")


@dataclass(frozen=True)
class Identity:
    certificate: Path
    key: Path
    trusted: ssl.SSLContext


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A serving certificate of a CA of our own, and a client that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    authority, _ = issue(folder)
    trusted = ssl.create_default_context(cafile=str(authority))
    return Identity(folder / "tls.crt", folder / "tls.key", trusted)


@dataclass
class RunningWebhook:
    """The real program in a process of its own."""

    process: subprocess.Popen[str]
    identity: Identity
    lines: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    port: int = 0
    admission_path: str = ""  # in a cluster, "/" and what the Secret says

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self.read_lines, daemon=True)

    def wait_for(self, event: str, **values: str) -> dict[str, Any]:
        """The next log line of an event with these values; those before it are dropped."""
        wanted = {"event": event, **values}
        while True:
            line = self.wait_for_any()
            if wanted.items() <= {k: v for k, v in line.items() if k in wanted}.items():
                return line

    def wait_first_for(self, event: str) -> dict[str, Any]:
        """The next log line of an event; those before it stay for whoever waits for them."""
        earlier = []
        while (line := self.wait_for_any())["event"] != event:
            earlier.append(line)
        for other in earlier:  # watches begin while the server does
            self.lines.put(other)
        return line

    def wait_for_any(self) -> dict[str, Any]:
        """The next log line."""
        return self.lines.get(timeout=PATIENCE_SECONDS)

    def connect(self) -> HTTPSConnection:
        return HTTPSConnection(
            "127.0.0.1", self.port, context=self.identity.trusted, timeout=PATIENCE_SECONDS
        )

    def get(self, path: str) -> tuple[int, str]:
        return self._ask("GET", path, None)

    def post(self, body: bytes, path: str = "/mutate-pods") -> tuple[int, Any]:
        status, text = self._ask("POST", f"{self.admission_path}{path}?timeout=3s", body)
        return status, json.loads(text)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, str]:
        connection = self.connect()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def read_lines(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(json.loads(line))


StartWebhook = Callable[..., RunningWebhook]


@pytest.fixture(scope="module")
def start_webhook(identity: Identity) -> Iterator[StartWebhook]:
    """Start the webhook on a free port; it is stopped after the tests."""
    started: list[RunningWebhook] = []

    def start(*flags: str, files: bool = True) -> RunningWebhook:
        command = [sys.executable, "-m", "webhook", "--host", "127.0.0.1", "--port", "0", *flags]
        if files:
            command += ["--tls-cert", str(identity.certificate), "--tls-key", str(identity.key)]
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        webhook = RunningWebhook(process, identity)
        started.append(webhook)
        webhook.reader.start()
        webhook.port = webhook.wait_first_for("ready to serve")["port"]
        return webhook

    yield start
    for webhook in started:
        if webhook.process.poll() is None:
            webhook.stop()
        if webhook.process.stdout:
            webhook.process.stdout.close()
