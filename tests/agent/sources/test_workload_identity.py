"""What the agent is at its cloud: what is shown for it, what is lent, and that it is not shown."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.credentials import LocalSecrets, agent_identity
from agent.planning.values import Listing
from agent.sources.azure_access import AzureAccess
from agent.sources.gs import GcsAccess
from agent.sources.interface import SourceRequest
from agent.sources.s3_access import Keys
from agent.sources.schemes import Reach, source_of
from agent.sources.secret import NO_SECRET, Secret
from agent.sources.web import Network, Timeouts, Web, _proxy_for, origin_of
from agent.sources.workload_identity import aws_keys
from larder.catalog import Credentials, ModelEntry
from larder.errors import AccessDeniedError, SourceUnavailableError
from runtime.clock import ManualClock
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.s3_server import Bucket
from tests.fakes.token_server import TokenServer

SHOWN = "eyJsesame.of.the-kubelet"
LENT = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA{0}</AccessKeyId>
<SecretAccessKey>sesame{0}</SecretAccessKey><SessionToken>session{0}</SessionToken>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
ROLE = "arn:aws:iam::123456789012:role/larder"
BLOBS = "https://account.blob.core.windows.net/c/m"


@pytest.fixture
def authority() -> Iterator[TokenServer]:
    with TokenServer("sesame") as server:
        yield server


@pytest.fixture
def web() -> Iterator[Web]:
    with closing(Web(Timeouts(5.0, 5.0))) as web:
        yield web


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(SHOWN + "\n")
    return tmp_path / "token"


@pytest.fixture
def of_role(authority: TokenServer, token_file: Path) -> dict[str, str]:
    authority.answer = LENT.format(1).encode()
    return {
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token_file),
        "AWS_ENDPOINT_URL_STS": authority.url,
    }


@pytest.fixture
def of_pod(authority: TokenServer, token_file: Path) -> dict[str, str]:
    authority.answer = pod_keys(Expiration="2023-11-14T23:13:20Z")
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": authority.url + "/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
    }


def pod_keys(**more: object) -> bytes:
    keys = {"AccessKeyId": "ASIA1", "SecretAccessKey": "sesame1", "Token": "session1"}
    return json.dumps({**keys, **more}).encode()


def azure(identity: dict[str, str], web: Web) -> AzureAccess:
    return AzureAccess("account", Secret(identity=identity), ManualClock(), web)


def of_azure(authority: TokenServer, token_file: Path) -> dict[str, str]:
    return {
        "AZURE_TENANT_ID": "tenant",
        "AZURE_CLIENT_ID": "client",
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
        "AZURE_AUTHORITY_HOST": authority.url + "/",
    }


# --- AWS ------------------------------------------------------------------------------------------


def test_a_role_is_lent_keys_for_the_kubelets_token(
    authority: TokenServer, of_role: dict[str, str], web: Web
) -> None:
    keys = aws_keys(of_role, web, ManualClock()).taken()
    assert keys == Keys("ASIA1", "sesame1", "session1")
    assert "sesame1" not in repr(keys)
    ((path, form),) = authority.forms
    assert path == "/"
    assert form == {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "larder-agent",
        "DurationSeconds": "3600",
        "WebIdentityToken": SHOWN,
    }


def test_before_the_keys_end_the_kubelets_newest_token_is_shown_for_others(
    authority: TokenServer, of_role: dict[str, str], token_file: Path, web: Web
) -> None:
    clock = ManualClock()
    loan = aws_keys(of_role, web, clock)
    assert loan.taken().access_key == "ASIA1"
    authority.answer = LENT.format(2).encode()
    token_file.write_text("another")
    clock.advance(3000)
    assert loan.taken().access_key == "ASIA1"
    clock.advance(300)
    assert loan.taken().access_key == "ASIA2"
    assert [form["WebIdentityToken"] for _, form in authority.forms] == [SHOWN, "another"]


@pytest.mark.parametrize(
    ("region", "host"), [("eu-1", "sts.eu-1.amazonaws.com"), ("", "sts.amazonaws.com")]
)
def test_without_another_place_the_regions_own_lends_keys(
    of_role: dict[str, str], region: str, host: str
) -> None:
    class NoWeb(Web):
        def post(self, url: str, fields: object) -> None:  # type: ignore[override]  # asks nobody
            del fields
            raise SourceUnavailableError(url)

    identity = {**of_role, "AWS_REGION": region, "AWS_ENDPOINT_URL_STS": ""}
    with pytest.raises(SourceUnavailableError, match=f"^https://{host}/$"):
        aws_keys(identity, NoWeb(), ManualClock()).taken()


def test_a_pod_is_lent_keys_by_the_agent_of_eks(
    authority: TokenServer, of_pod: dict[str, str], web: Web
) -> None:
    clock = ManualClock()  # an hour before these keys end
    loan = aws_keys(of_pod, web, clock)
    assert loan.taken() == Keys("ASIA1", "sesame1", "session1")
    ((path, headers),) = authority.asked
    assert path == "/v1/credentials"
    assert headers["Authorization"] == SHOWN
    clock.advance(3299)
    loan.taken()
    assert len(authority.asked) == 1
    clock.advance(1)
    loan.taken()
    assert len(authority.asked) == 2


def test_keys_whose_end_nobody_says_are_good_for_the_usual_hour(
    authority: TokenServer, of_pod: dict[str, str], web: Web
) -> None:
    clock = ManualClock()
    authority.answer = pod_keys(Expiration="soon")
    loan = aws_keys(of_pod, web, clock)
    loan.taken()
    clock.advance(3299)
    loan.taken()
    assert len(authority.asked) == 1


@pytest.mark.parametrize("answer", [b"", b"<a/>", LENT.format("\n").encode(), b"<!DOCTYPE a>"])
def test_what_are_no_keys_of_a_role_is_said_to_be_none(
    authority: TokenServer, of_role: dict[str, str], web: Web, answer: bytes
) -> None:
    authority.answer = answer
    with pytest.raises(SourceUnavailableError) as refused:
        aws_keys(of_role, web, ManualClock()).taken()
    assert SHOWN not in str(refused.value)


NO_SESSION, ODD_KEY = pod_keys(Token=None), pod_keys(AccessKeyId="é")


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", NO_SESSION, ODD_KEY])
def test_what_are_no_keys_of_a_pod_is_said_to_be_none(
    authority: TokenServer, of_pod: dict[str, str], web: Web, answer: bytes
) -> None:
    authority.answer = answer
    with pytest.raises(SourceUnavailableError, match="answers what"):
        aws_keys(of_pod, web, ManualClock()).taken()


@pytest.mark.parametrize("kind", ["of_role", "of_pod"])
@pytest.mark.parametrize("status", [403, 500])
def test_an_identity_that_is_refused_is_one_of_our_errors(
    authority: TokenServer, request: pytest.FixtureRequest, web: Web, kind: str, status: int
) -> None:
    identity = request.getfixturevalue(kind)
    authority.status, authority.answer = status, SHOWN.encode()
    error = {403: AccessDeniedError, 500: SourceUnavailableError}[status]
    with pytest.raises(error) as refused:
        aws_keys(identity, web, ManualClock()).taken()
    assert SHOWN not in str(refused.value)


@pytest.mark.parametrize("content", [None, b"", b"\n", "tökén".encode(), b"a\nb"])
def test_a_file_without_a_token_is_said_to_hold_none(
    of_role: dict[str, str], token_file: Path, web: Web, content: bytes | None
) -> None:
    token_file.unlink()
    if content is not None:
        token_file.write_bytes(content)
    with pytest.raises(AccessDeniedError, match="holds no token"):
        aws_keys(of_role, web, ManualClock()).taken()


@pytest.mark.parametrize(
    ("variable", "kind"),
    [("AWS_ENDPOINT_URL_STS", "of_role"), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "of_pod")],
)
def test_a_variable_that_names_no_host_is_said_to(
    request: pytest.FixtureRequest, web: Web, variable: str, kind: str
) -> None:
    identity = {**request.getfixturevalue(kind), variable: "file:///etc/passwd"}
    with pytest.raises(AccessDeniedError, match=f"{variable} names no host"):
        aws_keys(identity, web, ManualClock()).taken()


def test_a_bucket_is_listed_and_read_with_keys_that_were_lent(
    moto_url: str, bucket_name: str, token_file: Path, web: Web
) -> None:
    identity = {
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token_file),
        "AWS_ENDPOINT_URL_STS": moto_url,
        "AWS_REGION": "eu-test-1",
    }
    with closing(Bucket(moto_url, bucket_name)) as bucket, FaultProxy(moto_url) as proxy:
        bucket.put({"m/a": b"abc"})
        reach = Reach(proxy.url, Secret(identity=identity), ManualClock(), web)
        source = source_of(f"s3://{bucket_name}/m", reach)
        listing: Listing = source.list(SourceRequest(f"s3://{bucket_name}/m"))
        buffer = memoryview(bytearray(9))
        with source.fetch(listing, listing.files[0]) as body:
            assert bytes(buffer[: body.readinto(buffer)]) == b"abc"
    assert proxy.requests
    for asked in proxy.requests:
        headers = {name.lower(): value for name, value in asked.headers.items()}
        assert headers["x-amz-security-token"]
        assert "/eu-test-1/s3/" in headers["authorization"]
        assert SHOWN not in str(headers)


@pytest.mark.parametrize(
    "host", ["169.254.170.23", "[fd00:ec2::23]", "metadata.google.internal", "models.example"]
)
def test_who_tells_a_pod_what_it_is_is_asked_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    origin = origin_of(f"http://{host}/")  # nobody is asked: a test's machine may have one
    for network in (Network(), Network(proxy="http://127.0.0.1:2")):
        assert bool(_proxy_for(origin, network)) is (host == "models.example")


# --- Google and Azure -----------------------------------------------------------------------------


def test_the_metadata_server_lends_a_token_to_read_storage(
    authority: TokenServer, web: Web
) -> None:
    identity = {"GCE_METADATA_HOST": authority.url.removeprefix("http://")}
    clock = ManualClock()
    access = GcsAccess(Secret(identity=identity), clock, web)
    assert access.has_secret
    assert access.headers() == {"Authorization": "Bearer sesame"}
    ((path, headers),) = authority.asked
    assert path == (
        "/computeMetadata/v1/instance/service-accounts/default/token"
        "?scopes=https://www.googleapis.com/auth/devstorage.read_only"
    )
    assert headers["Metadata-Flavor"] == "Google"
    authority.answer = b'{"access_token": "other", "expires_in": 3599}'
    clock.advance(3299)
    assert access.headers() == {"Authorization": "Bearer other"}


def test_an_azure_login_is_shown_the_kubelets_token_in_place_of_a_password(
    authority: TokenServer, token_file: Path, web: Web
) -> None:
    access = azure(of_azure(authority, token_file), web)
    assert access.has_secret
    assert access.headers("GET", BLOBS, {})["Authorization"] == "Bearer sesame"
    ((path, form),) = authority.forms
    assert path == "/tenant/oauth2/v2.0/token"
    assert form == {
        "grant_type": "client_credentials",
        "client_id": "client",
        "scope": "https://storage.azure.com/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": SHOWN,
    }


# --- whose it is ----------------------------------------------------------------------------------

VARIABLES = {
    "AWS_ROLE_ARN": ROLE,
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
    "AWS_REGION": "eu-1",
    "AWS_SECRET_ACCESS_KEY": "sesame",
    "AZURE_TENANT_ID": "tenant",
    "AZURE_CLIENT_ID": "client",
    "AZURE_FEDERATED_TOKEN_FILE": "/token",
}


def entry(uri: str, credentials: Credentials | None) -> ModelEntry:
    return ModelEntry(name="a", storage_uri=uri, namespaces=["x"], credentials=credentials)


@pytest.mark.parametrize(
    ("uri", "variables", "names"),
    [
        ("s3://b/m", VARIABLES, {"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_REGION"}),
        (BLOBS, VARIABLES, {n for n in VARIABLES if n.startswith("AZURE_")} | {"AWS_REGION"}),
        ("gs://b/m", {}, set()),
    ],
)
def test_an_entry_that_wants_it_is_given_places_of_the_agents_identity_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, uri: str, variables: dict[str, str], names: set[str]
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    secret = LocalSecrets().secret_of(entry(uri, Credentials(workload_identity=True)))
    assert secret == Secret(identity={name: variables[name] for name in names})


@pytest.mark.parametrize("uri", ["s3://b/m", "gs://b/m", BLOBS])
def test_an_entry_that_does_not_ask_for_the_agents_identity_is_not_given_it(
    monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert LocalSecrets().secret_of(entry(uri, None)) == NO_SECRET


@pytest.mark.parametrize(
    ("uri", "accepted"),
    [
        ("s3://b/m", "AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, or AWS_CONTAINER_CRED"),
        (BLOBS, "AZURE_TENANT_ID and AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE"),
    ],
)
def test_an_agent_that_is_nothing_at_a_cloud_says_so(uri: str, accepted: str) -> None:
    wanted = entry(uri, Credentials(workload_identity=True))
    with pytest.raises(AccessDeniedError, match=f"'a': .* accepted: the variables {accepted}"):
        agent_identity(wanted, {"AWS_ROLE_ARN": ROLE, "AZURE_TENANT_ID": "t"})


def test_an_identity_stays_as_it_is_on_the_way_to_a_fills_child() -> None:
    secret = Secret(identity={"AWS_ROLE_ARN": ROLE})
    assert Secret(**json.loads(json.dumps({"data": {}, "identity": secret.identity}))) == secret
