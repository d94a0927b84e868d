import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client.configuration import Configuration

from runtime.kube import client as module
from runtime.kube.client import KubeClient
from runtime.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeConfigError,
    KubeError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from runtime.kube.paths import collection_path, object_path
from runtime.kube.token_file import TokenFile
from tests.runtime.kube.api_server import (
    ApiServer,
    Handler,
    answering,
    dropping,
    hanging,
    refusing,
    streaming,
)

MAPS = "/api/v1/namespaces/models/configmaps"
MAP = f"{MAPS}/a"


@pytest.fixture
def token_path(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


@pytest.fixture
def account(server: ApiServer, token_path: Path) -> Iterator[KubeClient]:
    configuration = Configuration(host=server.host)
    client = KubeClient(configuration, program="larder-test", token=TokenFile(token_path))
    yield client
    client.close()


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        pytest.param(400, "BadRequest", InvalidError, id="a bad request is refused"),
        pytest.param(401, "Unauthorized", UnauthorizedError, id="unknown credentials"),
        pytest.param(403, "Forbidden", ForbiddenError, id="a missing permission"),
        pytest.param(404, "NotFound", NotFoundError, id="nothing there"),
        pytest.param(408, "", UnavailableError, id="too slow"),
        pytest.param(409, "Conflict", ConflictError, id="changed by somebody else"),
        pytest.param(409, "AlreadyExists", AlreadyExistsError, id="made by somebody else"),
        pytest.param(410, "Expired", GoneError, id="too old"),
        pytest.param(422, "Invalid", InvalidError, id="an invalid object"),
        pytest.param(429, "TooManyRequests", UnavailableError, id="too many requests"),
        pytest.param(500, "InternalError", UnavailableError, id="a defect of the server"),
        pytest.param(503, "ServiceUnavailable", UnavailableError, id="an overloaded server"),
    ],
)
def test_a_status_becomes_one_error_that_repeats_no_body(
    server: ApiServer, client: KubeClient, code: int, reason: str, error: type[KubeError]
) -> None:
    server.faults.append(refusing(code, reason))
    with pytest.raises(KubeError) as caught:
        client.request("GET", MAP, query=[("fieldManager", "secret-token")])
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"GET {MAP}: ")
    assert "secret-token" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_that_is_not_json_is_the_same_error(
    server: ApiServer, client: KubeClient
) -> None:
    server.faults.append(lambda handler: handler.answer(409, b"<html>secret-token</html>"))
    with pytest.raises(ConflictError, match=r"^GET .*: was changed by somebody else$"):
        client.get(MAP)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param("7", 7.0, id="seconds are told"),
        pytest.param("Wed, 21 Oct 2026 07:28:00 GMT", None, id="a date is not"),
        pytest.param("-1", None, id="nonsense is not"),
    ],
)
def test_the_wish_of_an_overloaded_server_is_handed_on(
    server: ApiServer, client: KubeClient, header: str, seconds: float | None
) -> None:
    server.faults.append(refusing(429, Retry_After=header))
    with pytest.raises(UnavailableError) as caught:
        client.get(MAP)
    assert caught.value.retry_after_seconds == seconds


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"<html>", id="no JSON"),
        pytest.param([], id="no object"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_an_answer_that_is_no_object_is_no_answer(
    server: ApiServer, client: KubeClient, answer: object
) -> None:
    server.faults.append(answering(answer))
    with pytest.raises(UnavailableError, match="the answer is not"):
        client.get(MAP)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param({}, id="an empty object"),
        pytest.param({"kind": "List", "apiVersion": "v1", "metadata": {}}, id="no version"),
        pytest.param(
            {
                "kind": "List",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": "1"},
                "items": [{"metadata": {}}],
            },
            id="an object without a name",
        ),
    ],
)
def test_a_list_that_is_none_is_no_answer(
    server: ApiServer, client: KubeClient, page: object
) -> None:
    server.faults.append(answering(page))
    with pytest.raises(UnavailableError, match="is not a list of objects"):
        client.list(MAPS)


def test_a_connection_that_breaks_is_no_answer_and_is_not_tried_again(
    server: ApiServer, client: KubeClient
) -> None:
    server.faults.append(dropping)
    with pytest.raises(UnavailableError, match="the connection broke"):
        client.get(MAP)
    assert len(server.seen) == 1


def test_an_answer_that_ends_too_early_is_no_answer(server: ApiServer, client: KubeClient) -> None:
    server.faults.append(streaming(b'{"kind": "Con', broken=True))
    with pytest.raises(UnavailableError, match="the connection broke"):
        client.get(MAP)


def test_a_server_that_hangs_is_given_up(server: ApiServer, client: KubeClient) -> None:
    until = threading.Event()
    server.faults.append(hanging(until))
    with pytest.raises(UnavailableError, match="no answer in time"):
        client.get(MAP, timeout=(1.0, 0.05))
    until.set()


def test_a_server_that_is_away_is_told_in_one_sentence(
    server: ApiServer, client: KubeClient
) -> None:
    server.stop()
    with pytest.raises(UnavailableError, match=r"^GET .*: the API server cannot be reached$"):
        client.get(MAP)
    server.start()


def test_a_server_without_tls_where_tls_is_due_is_told(server: ApiServer) -> None:
    client = KubeClient(
        Configuration(host=server.host.replace("http:", "https:")), program="larder-test"
    )
    with pytest.raises(UnavailableError, match="no TLS connection could be made"):
        client.get(MAP)
    client.close()


def test_a_redirect_is_not_followed(server: ApiServer, client: KubeClient) -> None:
    server.add("a")
    server.faults.append(lambda handler: handler.refuse(302, "", {"Location": MAP}))
    with pytest.raises(UnavailableError, match="answered 302"):
        client.get(MAP)
    assert len(server.seen) == 1


# --- credentials ---------------------------------------------------------------------------------


def test_a_token_is_read_again_when_its_file_changes(
    server: ApiServer, account: KubeClient, token_path: Path
) -> None:
    server.add("a")
    server.tokens = {"first"}
    account.get(MAP)
    renewed = token_path.with_name("renewed")
    renewed.write_text("second")
    renewed.replace(token_path)  # as the kubelet does it
    server.tokens = {"second"}
    account.get(MAP)
    assert [seen.headers["authorization"] for seen in server.seen] == [
        "Bearer first",
        "Bearer second",
    ]


def test_a_refused_token_is_read_again_however_its_file_looks(
    server: ApiServer, account: KubeClient, token_path: Path
) -> None:
    server.add("a")
    server.tokens = {"other"}

    def renew_unseen(handler: Handler) -> None:
        before = token_path.stat()
        token_path.write_text("other\n")
        assert token_path.stat().st_size == before.st_size
        os.utime(token_path, ns=(before.st_atime_ns, before.st_mtime_ns))
        handler.refuse(401)

    server.faults.append(renew_unseen)
    assert account.get(MAP)["metadata"]["name"] == "a"
    assert len(server.seen) == 2


def test_a_token_that_stays_refused_is_tried_once(server: ApiServer, account: KubeClient) -> None:
    server.tokens = {"another"}
    with pytest.raises(UnauthorizedError, match="our credentials are not accepted") as caught:
        account.get(MAP)
    assert "first" not in str(caught.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("")])
def test_a_token_file_that_cannot_be_read_leaves_the_last_token(
    server: ApiServer, account: KubeClient, token_path: Path, spoil: object
) -> None:
    server.add("a")
    server.tokens = {"first"}
    spoil(token_path)
    assert account.get(MAP)["metadata"]["name"] == "a"


def test_in_a_cluster_the_token_is_our_own_business(tmp_path: Path, token_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("a certificate")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    client = KubeClient.in_cluster(
        "larder-test", token_path=token_path, ca_path=tmp_path / "ca.crt", environ=environ
    )
    configuration = client._configuration
    assert configuration.host == "https://[fd00::1]:443"
    assert configuration.ssl_ca_cert == str(tmp_path / "ca.crt")
    assert configuration.verify_ssl
    assert configuration.refresh_api_key_hook is None
    assert configuration.api_key == {}, "nothing holds on to the first token"
    assert configuration.retries is False
    client.close()


def test_somebody_elses_token_is_sent_without_anything_of_ours(
    server: ApiServer, token_path: Path
) -> None:
    ours = Configuration(host=server.host, api_key={"authorization": "Bearer ours"})
    ours.cert_file, ours.key_file, ours.username, ours.password = "cert", "key", "user", "password"
    ours.ssl_ca_cert, ours.tls_server_name, ours.no_proxy = "/ca", "name", "127.0.0.1"
    account = KubeClient(Configuration(host=server.host), program="p", token=TokenFile(token_path))
    account._configuration = ours
    theirs = account.as_bearer("theirs")
    server.add("a")
    theirs.get(MAP)
    theirs.close()
    found = theirs._configuration
    assert server.seen[-1].headers["authorization"] == "Bearer theirs"
    assert server.seen[-1].headers["user-agent"].startswith("p/")
    assert (found.cert_file, found.key_file, found.username, found.password) == (None,) * 4
    assert (found.ssl_ca_cert, found.tls_server_name) == ("/ca", "name")
    server.tokens = set()
    with pytest.raises(UnauthorizedError) as caught:
        theirs.get(MAP)
    assert "theirs" not in str(caught.value)
    theirs.close()
    account.close()


def test_outside_of_a_cluster_one_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(KubeConfigError, match=r"^not in a cluster that can be used: "):
        KubeClient.in_cluster("larder-test", environ={})
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(KubeConfigError, match=r"^not in a cluster that can be used: "):
        KubeClient.in_cluster("larder-test", token_path=tmp_path / "none", environ=environ)


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "SERVER"}}]
users: [{name: me, user: {token: first}}]
"""


def test_a_kubeconfig_gives_the_server_and_the_token(server: ApiServer, tmp_path: Path) -> None:
    server.add("a")
    server.tokens = {"first"}
    path = tmp_path / "config"
    path.write_text(KUBECONFIG.replace("SERVER", server.host))
    client = KubeClient.from_kubeconfig("larder-test", path)
    assert client.get(MAP)["metadata"]["name"] == "a"
    client.close()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="a missing one"),
        pytest.param("", id="an empty one"),
        pytest.param("token: [secret-token", id="one that is no YAML"),
        pytest.param("a list", id="one that is no mapping"),
        pytest.param("current-context: gone\ncontexts: []\n", id="one without its context"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(KubeConfigError) as caught:
        KubeClient.from_kubeconfig("larder-test", path)
    assert str(caught.value) == f"{path}: cannot be used to reach an API server"


# --- requests ------------------------------------------------------------------------------------


def test_every_request_names_the_program(server: ApiServer, client: KubeClient) -> None:
    server.add("a")
    client.get(MAP)
    assert server.seen[0].headers["user-agent"].startswith("larder-test/")


def test_values_of_a_query_are_quoted(server: ApiServer, client: KubeClient) -> None:
    client.list(MAPS, query=[("labelSelector", "a=b&c d/#")])
    assert server.seen[0].query["labelSelector"] == "a=b&c d/#"


def test_a_list_is_read_page_by_page_and_says_what_its_objects_are(
    server: ApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    for name in "abcde":
        server.add(name)
    listing = client.list(MAPS)
    assert [item["metadata"]["name"] for item in listing.items] == list("abcde")
    assert {item["kind"] for item in listing.items} == {"ConfigMap"}
    assert listing.resource_version == str(server.world.version)
    assert len(server.seen) == 3


def test_a_page_that_grew_too_old_is_told(
    server: ApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 1)
    server.add("a")
    server.add("b")
    server.faults += [None, refusing(410, "Expired")]
    with pytest.raises(GoneError):
        client.list(MAPS)


def test_a_list_sends_its_time_limits(server: ApiServer, client: KubeClient) -> None:
    until = threading.Event()
    server.faults.append(hanging(until))
    with pytest.raises(UnavailableError, match="no answer in time"):
        client.list(MAPS, timeout=(1.0, 0.05))
    until.set()


# --- paths ---------------------------------------------------------------------------------------


def test_paths_are_those_of_the_api() -> None:
    assert collection_path("v1", "pods") == "/api/v1/pods"
    assert collection_path("v1", "pods", namespace="a") == "/api/v1/namespaces/a/pods"
    assert object_path("v1", "nodes", "n-1.example") == "/api/v1/nodes/n-1.example"
    assert object_path("coordination.k8s.io/v1", "leases", "x", namespace="a") == (
        "/apis/coordination.k8s.io/v1/namespaces/a/leases/x"
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../secrets", "a?b", "a%2fb", "a\n", "-a"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a Kubernetes object"):
        object_path("v1", "configmaps", name, namespace="models")
    with pytest.raises(ValueError, match="is not the name of a Kubernetes object"):
        collection_path("v1", "configmaps", namespace=name)


# --- what it costs -------------------------------------------------------------------------------


def test_no_typed_class_is_loaded() -> None:
    program = (
        "import sys, runtime.kube.watch\n"
        "from pathlib import Path\n"
        "from runtime.kube.client import KubeClient\n"
        "try: KubeClient.from_kubeconfig('x', Path('/nonexistent'))\n"
        "except Exception: pass\n"
        "names = ('kubernetes.client.models.', 'kubernetes.client.api.', 'kubernetes.aio')\n"
        "print([m for m in sys.modules if m.startswith(names)])\n"
    )
    done = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
