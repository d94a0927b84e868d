"""What the contract suite runs against: a real server a source, behind a proxy that breaks things.

A `Remote` puts files on its server, and gives sources that reach it through the proxy. What differs
between sources is said here once: which requests list and which fetch, and what each can know.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.planning.values import Listing
from agent.sources.interface import Source, SourceRequest
from agent.sources.schemes import Reach, source_of
from agent.sources.secret import HF_TOKEN, HTTPS_HEADERS, HTTPS_HOST, NO_SECRET, Secret
from agent.sources.web import Network, Timeouts, Web
from demo.hub import Hub, Repo
from runtime.clock import SystemClock
from tests.fakes.azure_server import ACCOUNT, ACCOUNT_KEY, Container
from tests.fakes.fault_proxy import Asked, FaultProxy
from tests.fakes.file_server import FileServer
from tests.fakes.gcs_server import GcsBucket
from tests.fakes.s3_server import ACCESS_KEY, REGION, SECRET_KEY, Bucket

BEARER = "sesame-open-sesame"
BIG = "model.bin"
CONTENT = bytes(range(256)) * 1200  # 307,200 bytes: several reads, no two alike nearby


class Server(ABC):
    """A server of one kind, and what a source needs to know of it."""

    storage_uri: str
    secret = NO_SECRET
    """What opens it."""
    revision: str | None = None
    takes_trees = True
    path = ""
    """What follows its origin in an endpoint."""
    signs_ranges = False
    """Whether a request whose Range was taken away is refused; it then needs no secret."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def put(self, files: Mapping[str, bytes]) -> None:
        """Have these files and no others."""

    @abstractmethod
    def lists(self, asked: Asked) -> bool:
        """Whether a request is for the listing."""

    def fetches(self, asked: Asked) -> bool:
        """Whether a request is for a file's bytes."""
        return not self.lists(asked)


class HubServer(Server):
    """The demo's hub."""

    storage_uri = "hf://acme/tiny"
    secret = Secret({HF_TOKEN: BEARER})
    revision = "main"

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    @property
    def url(self) -> str:
        return self.hub.url

    def put(self, files: Mapping[str, bytes]) -> None:
        old = self.hub.repos.get("acme/tiny")
        repo = Repo(dict(files), tokens=(BEARER,))
        if old:  # its commits stay
            repo.commits = {**old.commits, **repo.commits}
        self.hub.repos["acme/tiny"] = repo

    def lists(self, asked: Asked) -> bool:
        return "/api/" in asked.target

    def fetches(self, asked: Asked) -> bool:
        return "/resolve/" in asked.target


class WebServer(Server):
    """A server of files."""

    storage_uri = f"https://models.example/pub/{BIG}"
    secret = Secret(
        {HTTPS_HOST: "127.0.0.1", HTTPS_HEADERS: f'{{"Authorization": "Bearer {BEARER}"}}'}
    )
    takes_trees = False

    def __init__(self, server: FileServer) -> None:
        self.server = server

    @property
    def url(self) -> str:
        return self.server.url

    def put(self, files: Mapping[str, bytes]) -> None:
        self.server.files = {f"/pub/{path}": content for path, content in files.items()}

    def lists(self, asked: Asked) -> bool:
        return asked.headers.get("Range") == "bytes=0-0"


class StoreServer(Server):
    """A prefix in a bucket or container; a GET that lists has a word in its query."""

    place: str
    listing_word: str

    def __init__(self, bucket: Bucket | GcsBucket | Container) -> None:
        self.bucket = bucket
        self.storage_uri = f"{self.place}/{bucket.name}/pub/m"

    @property
    def url(self) -> str:
        return self.bucket.url

    def put(self, files: Mapping[str, bytes]) -> None:
        self.bucket.put({f"pub/m/{path}": content for path, content in files.items()})

    def lists(self, asked: Asked) -> bool:
        return self.listing_word in asked.target

    def fetches(self, asked: Asked) -> bool:
        return asked.method == "GET" and not self.lists(asked)


class S3Server(StoreServer):
    """A prefix in a bucket of S3."""

    place = "s3:/"
    secret = Secret(
        {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
        {"s3-region": REGION},
    )
    listing_word = "list-type=2"


class GcsServer(StoreServer):
    """A prefix in a bucket of Google Cloud Storage that anybody may read."""

    place = "gs:/"
    listing_word = "maxResults"


class AzureServer(StoreServer):
    """A prefix in a container."""

    place = f"https://{ACCOUNT}.blob.core.windows.net"
    path = f"/{ACCOUNT}"
    signs_ranges = True
    secret = Secret({"AZURE_STORAGE_ACCESS_KEY": ACCOUNT_KEY})
    listing_word = "comp=list"


@dataclass
class Remote:
    """A server and the proxy before it."""

    server: Server
    proxy: FaultProxy
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(5.0, 5.0))

    @contextmanager
    def source(
        self,
        *,
        url: str = "",
        secret: Secret | None = None,
        network: Network = Network(),  # noqa: B008 - frozen
    ) -> Iterator[Source]:
        """A source as a fill's child has one."""
        url = url or self.proxy.url
        web = Web(self.timeouts, network)
        if secret is None:
            secret = self.server.secret
        try:
            yield source_of(
                self.server.storage_uri, Reach(url + self.server.path, secret, SystemClock(), web)
            )
        finally:
            web.close()

    @property
    def request(self) -> SourceRequest:
        return SourceRequest(self.server.storage_uri, self.server.revision)

    def fetched(
        self,
        source: Source,
        listing: Listing,
        path: str = BIG,
        offset: int = 0,
        length: int | None = None,
    ) -> bytes:
        """Everything that a body gives."""
        file = next(file for file in listing.files if file.path == path)
        content, buffer = b"", memoryview(bytearray(50_000))
        with source.fetch(listing, file, offset, length) as body:
            assert body.start in {0, offset}
            while count := body.readinto(buffer):
                content += buffer[:count]
        return content[offset - body.start :]
