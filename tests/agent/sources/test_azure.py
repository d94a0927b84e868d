"""What an Azure container becomes, what proves it, and how requests are signed: azurite checks."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy

from agent.planning.values import Algorithm, Checksum
from agent.sources.azure import AzureStore
from agent.sources.azure_access import AzureAccess
from agent.sources.objects import objects_below
from agent.sources.secret import NO_SECRET, Secret
from agent.sources.web import Timeouts, Web
from demo.hub_faults import Status
from larder.errors import (
    AccessDeniedError,
    ModelNotFoundError,
    SourceDriftedError,
    SourceUnavailableError,
)
from runtime.clock import SystemClock
from tests.agent.sources.stored import fetched, listed
from tests.fakes.azure_server import ACCOUNT, ACCOUNT_KEY, Container
from tests.fakes.fault_proxy import Edit, Fault, FaultProxy
from tests.fakes.token_server import TokenServer

KEY = Secret({"AZURE_STORAGE_ACCESS_KEY": ACCOUNT_KEY})


@pytest.fixture
def container(azurite_url: str, bucket_name: str) -> Iterator[Container]:
    with closing(Container(azurite_url, bucket_name)) as container:
        yield container


@pytest.fixture
def proxy(container: Container) -> Iterator[FaultProxy]:
    with FaultProxy(container.url) as proxy:
        yield proxy


def opened(container: Container, url: str, prefix: str = "m", secret: Secret = KEY) -> AzureStore:
    web = Web(Timeouts(5.0, 5.0))
    access = AzureAccess(ACCOUNT, secret, SystemClock(), web)
    return AzureStore(f"{url}/{ACCOUNT}/{container.name}", prefix, access, web)


def test_blobs_below_the_prefix_are_the_tree_without_empty_ones(
    container: Container, proxy: FaultProxy
) -> None:
    odd = "d/ü+%2F&= ?#;@:$,!'()*~.bin"
    container.put({f"m/{odd}": b"odd", "m/a": b"1", "m/empty": b"", "m2/b": b"2", "m": b""})
    store = opened(container, proxy.url)
    assert fetched(store, listed(store)) == {"a": b"1", odd: b"odd"}


def test_one_blob_is_a_file_with_its_own_name(container: Container, proxy: FaultProxy) -> None:
    container.put({"m/w.gguf": b"w", "m/w.gguf2": b"2"})
    store = opened(container, proxy.url, "m/w.gguf")
    assert fetched(store, listed(store)) == {"w.gguf": b"w"}


def test_patterns_choose_blobs(container: Container, proxy: FaultProxy) -> None:
    container.put({"m/a.json": b"1", "m/b.bin": b"2"})
    listing = listed(opened(container, proxy.url), allow_patterns=("*.json",))
    assert [file.path for file in listing.files] == ["a.json"]


def test_pages_are_read_to_the_end(container: Container, proxy: FaultProxy) -> None:
    container.put({f"m/{n}": b"x" for n in range(5)})
    with closing(opened(container, proxy.url)) as store:
        assert [found.key for found in objects_below(store, "m/", 2)] == [
            f"m/{n}" for n in range(5)
        ]


def test_a_blob_with_an_md5_is_listed_with_it(container: Container, proxy: FaultProxy) -> None:
    digest = hashlib.md5(b"abc", usedforsecurity=False)
    container.add("m/a", b"abc", md5=digest.digest())
    (file,) = listed(opened(container, proxy.url)).files
    assert file.checksum == Checksum(Algorithm.MD5, digest.hexdigest())
    assert file.etag


NAME = b"<Name>m/a</Name>"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        pytest.param(lambda _: b"{}", "no listing", id="no XML"),
        pytest.param(lambda _: b"<html></html>", "no listing", id="a page of the web"),
        pytest.param(lambda _: b"<!DOCTYPE x><x/>", "document type", id="a document type"),
        pytest.param(
            lambda p: p.replace(b"Content-Length", b"Other"), "without size", id="no size"
        ),
        pytest.param(lambda p: p.replace(b"Etag", b"Other"), "without size or ETag", id="no ETag"),
        pytest.param(
            lambda p: p.replace(NAME, b"<Name>m/../a</Name>"),
            "has the part '..'",
            id="a name that leads out",
        ),
        pytest.param(
            lambda p: p.replace(NAME, b'<Name Encoded="true">m%2F..%2Fa</Name>'),
            "has the part '..'",
            id="one that does so encoded",
        ),
        pytest.param(
            lambda p: p.replace(NAME, b'<Name Encoded="true">%FF</Name>'), "no UTF-8", id="Latin-1"
        ),
        pytest.param(lambda p: p.replace(NAME, b""), "outside", id="no name"),
    ],
)
def test_a_hostile_page_gets_one_sentence(
    container: Container, proxy: FaultProxy, edit: Callable[[bytes], bytes], says: str
) -> None:
    container.put({"m/a": b"x"})
    proxy.faults.append(Fault(Edit(edit)))
    with pytest.raises((SourceDriftedError, SourceUnavailableError), match=says) as refused:
        listed(opened(container, proxy.url))
    assert str(refused.value).isprintable()


ENDLESS = b"<EnumerationResults><NextMarker>t</NextMarker></EnumerationResults>"


def test_pages_without_end_are_given_up(
    container: Container, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sources.objects.MAX_PAGES", 3)
    proxy.faults.append(Fault(Status(200)))
    with FaultProxy(proxy.url) as front:
        front.faults.append(Fault(Edit(lambda _: ENDLESS)))
        with pytest.raises(SourceDriftedError, match="more than 3 pages"):
            listed(opened(container, front.url))


# --- access ---------------------------------------------------------------------------------------


def test_another_key_is_refused_with_the_store_s_word(
    container: Container, proxy: FaultProxy
) -> None:
    wrong = Secret({"AZURE_STORAGE_ACCESS_KEY": "d3Jvbmc="})
    with pytest.raises(AccessDeniedError, match=r"\(\w+\)$"):
        listed(opened(container, proxy.url, secret=wrong))


def test_without_a_secret_nothing_is_signed(container: Container, proxy: FaultProxy) -> None:
    proxy.faults.append(Fault(Status(409, headers={"x-ms-error-code": "PublicAccessNotPermitted"})))
    with pytest.raises(AccessDeniedError, match="wants credentials"):
        listed(opened(container, proxy.url, secret=NO_SECRET))
    assert "Authorization" not in proxy.requests[0].headers


def test_a_container_that_is_not_there_is_a_model_not_found(proxy: FaultProxy) -> None:
    web = Web(Timeouts(5.0, 5.0))
    access = AzureAccess(ACCOUNT, KEY, SystemClock(), web)
    store = AzureStore(f"{proxy.url}/{ACCOUNT}/no-such-container", "m", access, web)
    with pytest.raises(ModelNotFoundError, match=r"container no-such-container \(Contain"):
        listed(store)


@pytest.mark.parametrize("names", ["AZ", "AZURE"])
def test_a_service_principal_logs_in_once_and_its_token_goes_along(
    container: Container, proxy: FaultProxy, names: str
) -> None:
    proxy.faults.append(Fault(Status(404)))
    with TokenServer("sesame") as login:
        secret = Secret(
            {
                f"{names}_TENANT_ID": "tenant",
                f"{names}_CLIENT_ID": "client",
                f"{names}_CLIENT_SECRET": "password",
                "AZURE_AUTHORITY_HOST": login.url,
            }
        )
        with closing(opened(container, proxy.url, secret=secret)) as store:
            for _ in range(2):
                with pytest.raises(ModelNotFoundError):
                    next(objects_below(store, "m"))
    ((path, form),) = login.forms
    assert path == "/tenant/oauth2/v2.0/token"
    assert form == {
        "grant_type": "client_credentials",
        "client_id": "client",
        "client_secret": "password",
        "scope": "https://storage.azure.com/.default",
    }
    assert [a.headers["Authorization"] for a in proxy.requests] == ["Bearer sesame"] * 2


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"AZURE_STORAGE_ACCESS_KEY": "no key"}, id="a key that is none"),
        pytest.param({"AZ_CLIENT_ID": "c", "AZ_TENANT_ID": "t"}, id="no password"),
        pytest.param({"AZ_CLIENT_ID": "c", "AZ_CLIENT_SECRET": "s"}, id="no tenant"),
        pytest.param(
            {"AZ_CLIENT_ID": "c", "AZ_CLIENT_SECRET": "s", "AZ_TENANT_ID": "../x"},
            id="a tenant that leads elsewhere",
        ),
        pytest.param(
            {
                "AZ_CLIENT_ID": "c",
                "AZ_CLIENT_SECRET": "s",
                "AZ_TENANT_ID": "t",
                "AZURE_AUTHORITY_HOST": "file:///x",
            },
            id="a login that is no host",
        ),
    ],
)
def test_a_secret_that_cannot_be_used_is_said_to(data: dict[str, str]) -> None:
    with pytest.raises(AccessDeniedError, match=r"no account key|not how it logs in"):
        AzureAccess(ACCOUNT, Secret(data), SystemClock(), Web())


URL = f"https://{ACCOUNT}.blob.core.windows.net/c%20d/m?restype=container&prefix=a%2Fb&comp=list"
PUBLIC = {"If-Match": '"0x1"', "Range": "bytes=7-", "Accept-Encoding": "identity"}
TO_SIGN = """GET\n\n\n\n\n\n\n\n"0x1"\n\n\nbytes=7-
x-ms-date:{date}
x-ms-version:2021-12-02
/{account}/c%20d/m
comp:list
prefix:a/b
restype:container"""


def test_what_is_signed_is_what_the_documentation_says() -> None:
    headers = AzureAccess(ACCOUNT, KEY, SystemClock(), Web()).headers("GET", URL, PUBLIC)
    text = TO_SIGN.format(date=headers["x-ms-date"], account=ACCOUNT)
    signature = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), "sha256")
    said = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
    assert headers["Authorization"] == said


def test_a_signature_is_the_one_that_azure_s_own_library_makes() -> None:
    public = {"If-Match": '"0x1"'}  # of Range it has another name
    ours = AzureAccess(ACCOUNT, KEY, SystemClock(), Web()).headers("GET", URL, public)
    dated = {name: value for name, value in ours.items() if name != "Authorization"}
    request = PipelineRequest(
        HttpRequest("GET", URL, headers={**public, **dated}), PipelineContext(None)
    )
    SharedKeyCredentialPolicy(ACCOUNT, ACCOUNT_KEY).on_request(request)
    assert ours["Authorization"] == request.http_request.headers["Authorization"]
