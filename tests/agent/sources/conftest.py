from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256

import pytest

from agent.sources.hf import HubSource
from agent.sources.web import Timeouts, Web
from demo.hub import Hub, Repo
from runtime.clock import ManualClock
from tests.fakes.azure_server import azurite
from tests.fakes.gcs_server import fake_gcs
from tests.fakes.s3_server import moto, versitygw
from tests.fakes.servers import installed

# Whose server is not there is left out, unless LARDER_TEST_SERVERS says that it has to be.
collect_ignore = [] if installed("fake-gcs-server") else ["test_gs.py"]
collect_ignore += [] if installed("azurite-blob") else ["test_azure.py"]

BEARER = "hf_secretsecretsecret"
FILES = {
    "README.md": b"# tiny",
    "config.json": b'{"a": 1}',
    "deep/er/model-2.safetensors": b"2" * 300,
    "model-1.safetensors": b"1" * 500,
}


@pytest.fixture
def token() -> str:
    return BEARER


@pytest.fixture
def repo() -> Repo:
    return Repo(dict(FILES))


@pytest.fixture
def hub(repo: Repo) -> Iterator[Hub]:
    repos = {
        "acme/tiny": repo,
        "acme/gated": Repo(dict(FILES), gated=True, tokens=(BEARER,)),
        "acme/private": Repo(dict(FILES), private=True, tokens=(BEARER,)),
    }
    with Hub(repos, cdn=True, page_entries=3) as hub:
        yield hub


@pytest.fixture
def source(hub: Hub) -> Iterator[HubSource]:
    with closing(HubSource(hub.url, None, ManualClock(), Web(Timeouts(5.0, 5.0)))) as source:
        yield source


@pytest.fixture
def known_source(hub: Hub) -> Iterator[HubSource]:
    """A source that has a token."""
    with closing(HubSource(hub.url, BEARER, ManualClock(), Web(Timeouts(5.0, 5.0)))) as source:
        yield source


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="session")
def versitygw_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with versitygw(tmp_path_factory.mktemp("versitygw")) as url:
        yield url


@pytest.fixture(scope="session")
def fake_gcs_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with fake_gcs(tmp_path_factory.mktemp("fake-gcs")) as url:
        yield url


@pytest.fixture(scope="session")
def azurite_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite(tmp_path_factory.mktemp("azurite")) as url:
        yield url


@pytest.fixture
def bucket_name(request: pytest.FixtureRequest) -> str:
    """A bucket's name that no other test has."""
    return "b" + sha256(request.node.nodeid.encode()).hexdigest()[:20]
