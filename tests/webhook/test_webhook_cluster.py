"""The real process as one of a cluster, whose API server is one of our own."""

import asyncio
import base64
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from larder.catalog import read_catalog
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from larder.identity import identity_of
from larder.layout import Key
from larder.node_report import COMPONENT, DATA_KEY, ModelReport, NodeReport, config_map_name
from larder.status import ModelState
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path, object_path
from tests.fakes.kubeconfig import write_kubeconfig
from tests.runtime.kube.api_server import ApiServer
from webhook.certificates import CONFIGURATION, SECRET, SERVICE
from webhook.cluster import Cluster, cluster_client
from webhook.metrics import Metrics
from webhook.mutation import VolumeMode
from webhook.state import State

NAMESPACES = collection_path("v1", "namespaces")
CONFIG_MAPS = collection_path("v1", "configmaps", namespace=SYSTEM_NAMESPACE)
CATALOG = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
CHAT = object_path("v1", "namespaces", "chat")
CONFIGURATIONS = [
    object_path("admissionregistration.k8s.io/v1", f"{kind}webhookconfigurations", CONFIGURATION)
    for kind in ("mutating", "validating")
]
CLAIMS = collection_path("v1", "persistentvolumeclaims")
CERTIFICATES = object_path("v1", "secrets", SECRET, namespace=SYSTEM_NAMESPACE)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.stop()


@pytest.fixture
def admin(server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient(Configuration(host=server.host), program="larder-test")
    yield client
    client.close()


@pytest.fixture
def kubeconfig(server: ApiServer, tmp_path: Path) -> Path:
    return write_kubeconfig(tmp_path / "kubeconfig", {"server": server.host})


@pytest.fixture
def start(
    start_webhook: Any, kubeconfig: Path, server: ApiServer, admin: KubeClient
) -> Iterator[Callable[[], Any]]:
    started = []

    def begin() -> Any:
        webhook = start_webhook("--kubeconfig", str(kubeconfig), "--log-level", "debug")
        started.append(webhook)
        webhook.wait_first_for("admission path known")
        path = admin.get(CERTIFICATES)["data"]["path"]
        webhook.admission_path = f"/{base64.b64decode(path).decode()}"
        return webhook

    assert server
    yield begin
    for webhook in started:
        if webhook.process.poll() is None:
            assert webhook.stop() == 0


@pytest.fixture
def put_catalog(admin: KubeClient, catalog_text: str) -> Callable[..., None]:
    def put(old: str = "", new: str = "") -> None:
        data = {"catalog.yaml": catalog_text.replace(old, new) if old else catalog_text}
        content = {"metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE}}
        admin.apply(CATALOG, content | {"data": data}, field_manager="admin")

    return put


def label(admin: KubeClient, labels: dict[str, str | None]) -> None:
    admin.patch(CHAT, {"metadata": {"labels": labels}})


def settle(webhook: Any, body: bytes, reason: str) -> dict[str, Any]:
    """Ask until a decision has this reason; the answer to it."""
    seen = set()
    for _ in range(2000):
        answer = webhook.post(body)[1]["response"]
        seen.add(webhook.wait_for("pod decided")["reason"])
        if reason in seen:
            return dict(answer)
    pytest.fail(f"{reason} is not among {seen}")


def values_of(patch: list[Any]) -> list[Any]:
    """What a patch adds, lists taken apart."""
    values = [operation.get("value") for operation in patch]
    return values + [item for value in values if isinstance(value, list) for item in value]


async def until(holds: Callable[[], bool]) -> None:
    never = asyncio.Event()
    async with asyncio.timeout(30):
        while not holds():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), 0.01)


def test_catalog_and_namespaces_are_followed(
    start: Callable[[], Any],
    admin: KubeClient,
    put_catalog: Callable[..., None],
    review: Callable[[str], Any],
) -> None:
    body = json.dumps(review("hf-raw.after-kserve")).encode()
    webhook = start()
    refusal = webhook.wait_for("catalog refused")
    assert refusal["problems"] == ["ConfigMap larder-system/larder-catalog: is not there"]
    assert webhook.get("/readyz") == (503, "no good catalog was loaded yet")
    settle(webhook, body, "CatalogNotLoaded")

    put_catalog()
    webhook.wait_for("catalog loaded")
    assert webhook.get("/readyz") == (200, "ok")
    settle(webhook, body, "HostPathForbidden")  # the namespace is not known

    privileged = {"pod-security.kubernetes.io/enforce": "privileged"}
    admin.create(NAMESPACES, {"metadata": {"name": "chat", "labels": privileged}})
    assert settle(webhook, body, "Cached")["patch"]
    label(admin, {"larder.dev/mode": "Observe"})
    assert "patch" not in settle(webhook, body, "Observing")
    label(admin, {"larder.dev/cache": "disabled"})
    settle(webhook, body, "OptedOut")
    label(admin, {"larder.dev/cache": None, "larder.dev/mode": None})
    settle(webhook, body, "Cached")
    admin.delete(CHAT)
    settle(webhook, body, "HostPathForbidden")


def test_a_catalog_that_turns_bad_or_goes_leaves_the_last_good_one_in_force(
    start: Callable[[], Any],
    admin: KubeClient,
    put_catalog: Callable[..., None],
    review: Callable[[str], Any],
) -> None:
    body = json.dumps(review("hf-raw.after-kserve")).encode()
    put_catalog()
    labels = {"larder.dev/volume": "hostPath"}
    admin.create(NAMESPACES, {"metadata": {"name": "chat", "labels": labels}})
    webhook = start()
    settle(webhook, body, "Cached")

    put_catalog("kind: Catalog", "kind: Pantry")
    refusal = webhook.wait_for("catalog refused")
    assert refusal["in_force"] == "the last good catalog"
    settle(webhook, body, "Cached")
    admin.delete(CATALOG)
    webhook.wait_for("catalog refused")
    settle(webhook, body, "Cached")
    assert webhook.get("/readyz") == (200, "ok")
    assert "larder_webhook_catalog_problems 1.0" in webhook.get("/metrics")[1]

    put_catalog("Qwen/Qwen2", "Qwen/Qwen3")
    settle(webhook, body, "ModelNotInCatalog")


def test_a_bad_catalog_is_an_event_and_each_bad_version_its_own(
    start: Callable[[], Any],
    server: ApiServer,
    admin: KubeClient,
    put_catalog: Callable[..., None],
) -> None:
    def events() -> list[str]:
        objects = list(server.world.objects.items())
        return [name for (plural, _, name), _ in objects if plural == "events"]

    webhook = start()
    webhook.wait_for("catalog refused")
    put_catalog("kind: Catalog", "kind: Pantry")
    webhook.wait_for("catalog refused")
    version = admin.get(CATALOG)["metadata"]["resourceVersion"]
    put_catalog()
    webhook.wait_for("catalog loaded")
    assert events() == ["larder-catalog.gone", f"larder-catalog.{version}"]


def test_an_edit_is_judged_by_what_the_nodes_report(
    start: Callable[[], Any], admin: KubeClient, put_catalog: Callable[..., None], catalog_text: str
) -> None:
    put_catalog()
    name = config_map_name("gpu-7")
    report = NodeReport("gpu-7", budget_bytes=10 * 2**30, node_groups=())
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": dict([COMPONENT])},
        "data": {DATA_KEY: report.text()},
    }
    admin.create(CONFIG_MAPS, content)
    admin.create(CONFIG_MAPS, content | {"metadata": content["metadata"] | {"name": "mine"}})
    webhook = start()
    webhook.wait_for("node reports ignored")
    pinned = catalog_text + (
        "- {name: large, storageUri: 's3://b/large', namespaces: [chat], retention: Pinned,"
        " maxSize: 11Gi}\n"
    )
    request = {
        "uid": "u",
        "operation": "UPDATE",
        "namespace": SYSTEM_NAMESPACE,
        "name": CATALOG_CONFIG_MAP,
        "resource": {"group": "", "version": "v1", "resource": "configmaps"},
        "object": {"metadata": {"name": CATALOG_CONFIG_MAP}, "data": {"catalog.yaml": pinned}},
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    answer = webhook.post(json.dumps(review).encode(), "/validate-catalog")[1]["response"]
    assert answer["warnings"][-1] == (
        "nodes of no group: node 'gpu-7' may hold 10 GiB,"
        " and the pinned models may take up to 11 GiB: 'large'"
    )
    text = webhook.get("/metrics")[1]
    assert "larder_webhook_node_reports 1.0" in text
    assert "larder_webhook_unreadable_node_reports 1.0" in text


def test_a_node_that_has_the_model_is_preferred(
    start: Callable[[], Any],
    admin: KubeClient,
    put_catalog: Callable[..., None],
    review: Callable[[str], Any],
) -> None:
    put_catalog()
    labels = {"larder.dev/volume": "hostPath"}
    admin.create(NAMESPACES, {"metadata": {"name": "chat", "labels": labels}})
    key = identity_of(
        "hf://Qwen/Qwen2-0.5B-Instruct", revision="c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
    ).key
    model = ModelReport(key, "qwen", ModelState.READY, revision="c" * 40)
    report = NodeReport("gpu-7", budget_bytes=2**30, models=(model,))
    metadata = {"name": config_map_name("gpu-7"), "labels": dict([COMPONENT])}
    admin.create(CONFIG_MAPS, {"metadata": metadata, "data": {DATA_KEY: report.text()}})
    webhook = start()
    body = json.dumps(review("hf-raw.after-kserve")).encode()
    patches = (settle(webhook, body, "Cached")["patch"] for _ in range(2000))
    assert any(f"model.larder.dev/{key}".encode() in base64.b64decode(p) for p in patches)


def test_what_is_known_outlives_the_api_server(
    start: Callable[[], Any],
    server: ApiServer,
    admin: KubeClient,
    put_catalog: Callable[..., None],
    review: Callable[[str], Any],
) -> None:
    body = json.dumps(review("hf-raw.after-kserve")).encode()
    put_catalog()
    labels = {"larder.dev/volume": "hostPath"}
    admin.create(NAMESPACES, {"metadata": {"name": "chat", "labels": labels}})
    webhook = start()
    settle(webhook, body, "Cached")
    server.stop()
    webhook.wait_for("watch interrupted")
    settle(webhook, body, "Cached")
    assert webhook.get("/readyz") == (200, "ok")
    server.restart()
    label(admin, {"larder.dev/cache": "disabled"})
    settle(webhook, body, "OptedOut")


def test_it_reads_what_it_needs_and_of_namespaces_only_the_metadata(
    start: Callable[[], Any], server: ApiServer, put_catalog: Callable[..., None]
) -> None:
    put_catalog()
    webhook = start()
    webhook.wait_for("catalog loaded")
    webhook.stop()
    asked = {seen.path: seen.headers["accept"] for seen in server.seen if seen.method == "GET"}
    assert set(asked) == {NAMESPACES, CONFIG_MAPS, CLAIMS, CERTIFICATES, *CONFIGURATIONS}
    assert "PartialObjectMetadata" in asked[NAMESPACES]


async def test_of_a_namespace_only_the_labels_stay_in_memory(
    admin: KubeClient, kubeconfig: Path
) -> None:
    def create(name: str) -> None:
        metadata = {"name": name, "labels": {"a": name}, "annotations": {"long": "x" * 1000}}
        admin.create(NAMESPACES, {"metadata": metadata})

    state, stop = State(PurePosixPath("/r"), VolumeMode.BY_NAMESPACE), asyncio.Event()
    cluster = Cluster(cluster_client(kubeconfig), state, Metrics())
    create("listed")
    running = asyncio.create_task(cluster.run(stop))
    await until(lambda: state.namespaces == {"listed": {"a": "listed"}})
    create("watched")
    await until(lambda: "watched" in (state.namespaces or {}))
    stop.set()
    await running
    held = cluster._namespaces.mirror.snapshot.objects
    assert {name for _, name in held} == {"listed", "watched"}
    for content in held.values():
        assert content.keys() == {"metadata"}
        assert content["metadata"].keys() == {
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "labels",
        }


def test_a_watch_that_ends_by_a_defect_ends_the_program(
    start: Callable[[], Any], server: ApiServer
) -> None:
    odd = {"metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE}, "data": "odd"}
    with server.world.changed:
        server.world.put("configmaps", {"kind": "ConfigMap", **odd}, "ADDED")
    webhook = start()
    failure = webhook.wait_for("stopped by a failure")
    assert "ended by a defect" in json.dumps(failure)
    assert webhook.process.wait(30) == 1


def test_no_cluster_is_told_in_one_sentence(identity: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "webhook", "--tls-cert", str(identity.certificate)]
    command += ["--tls-key", str(identity.key)]
    for flags in ([], ["--kubeconfig", str(tmp_path / "none")]):
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, *flags], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith("larder-webhook: ")
        assert done.stderr.endswith("; name a file with --catalog to run without a cluster\n")
        assert done.stderr.count("\n") == 1


def test_standalone_nothing_of_kubernetes_is_loaded(
    start_webhook: Any, identity: Any, tmp_path: Path
) -> None:
    program = (
        "import signal, sys, threading, webhook.__main__ as program\n"
        "import webhook.serving as serving\n"
        "from webhook.serving import Server\n"
        "began = Server.startup\n"
        "async def startup(self, sockets=None):\n"
        "    await began(self, sockets)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "Server.startup = startup\n"
        "program.main()\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('kubernetes', 'urllib3')])\n"
    )
    assert start_webhook
    flags = ["--catalog", str(tmp_path / "c"), "--port", "0", "--host", "127.0.0.1"]
    flags += ["--tls-cert", str(identity.certificate), "--tls-key", str(identity.key)]
    done = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", program, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_stop_ends_the_watches_and_the_process_well(
    start: Callable[[], Any], put_catalog: Callable[..., None]
) -> None:
    put_catalog()
    webhook = start()
    webhook.wait_for("catalog loaded")
    assert webhook.stop(signal.SIGINT) == 0


def test_reviews_are_found_below_the_admission_path_alone_and_no_log_says_which(
    start: Callable[[], Any], put_catalog: Callable[..., None], review: Callable[[str], Any]
) -> None:
    body = json.dumps(review("hf-raw.after-kserve")).encode()
    put_catalog()
    webhook = start()
    right = webhook.admission_path
    assert webhook.post(body)[0] == 200
    for wrong in ("", right[:-1], f"{right}0", f"{right}/.."):
        webhook.admission_path = wrong
        for endpoint in ("/mutate-pods", "/validate-catalog"):
            assert webhook.post(body, endpoint) == (404, {"detail": "Not Found"})
    assert webhook.stop() == 0
    webhook.reader.join()
    said = "".join(json.dumps(line) for line in webhook.lines.queue)
    assert "stopping" in said
    assert right[1:] not in said


def test_it_serves_its_own_certificate_when_no_files_are_named(
    start_webhook: Any, kubeconfig: Path, admin: KubeClient, put_catalog: Callable[..., None]
) -> None:
    put_catalog()
    webhook = start_webhook("--kubeconfig", str(kubeconfig), files=False)
    webhook.wait_for("admission path known")
    data = {k: base64.b64decode(v) for k, v in admin.get(CERTIFICATES)["data"].items()}
    trusted = ssl.create_default_context(cadata=data["ca.crt"].decode())
    name = f"{SERVICE}.{SYSTEM_NAMESPACE}.svc"
    with (
        socket.create_connection(("127.0.0.1", webhook.port), timeout=30) as plain,
        trusted.wrap_socket(plain, server_hostname=name) as shown,
    ):
        certificate = shown.getpeercert(binary_form=True)
    assert certificate == ssl.PEM_cert_to_DER_cert(data["tls.crt"].decode())
    assert webhook.stop() == 0


@pytest.fixture
def qwen(catalog_text: str, review: Callable[[str], Any]) -> tuple[Key, bytes]:
    """A model of the catalog, and the review of a pod that asks for it."""
    key = read_catalog(catalog_text.encode(), standalone=True).models[0].key
    return key, json.dumps(review("hf-raw.after-kserve")).encode()


def test_a_namespace_that_forbids_host_paths_is_given_claims_that_are_bound_and_stay(
    start: Callable[[], Any],
    server: ApiServer,
    admin: KubeClient,
    put_catalog: Callable[..., None],
    qwen: tuple[Key, bytes],
) -> None:
    def change(**fields: object) -> None:
        admin.patch(object_path("v1", "persistentvolumeclaims", name, namespace="chat"), fields)

    key, body = qwen
    put_catalog()
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    admin.create(NAMESPACES, {"metadata": {"name": "chat", "labels": labels}})
    webhook = start()
    settle(webhook, body, "HostPathForbidden")  # nobody makes claims

    name, volume = f"larder-{key}", f"larder-chat-{key}"
    claim = {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "larder-controller"}},
        "spec": {"volumeName": volume, "accessModes": ["ReadOnlyMany"]},
        "status": {"phase": "Pending"},
    }
    admin.create(collection_path("v1", "persistentvolumeclaims", namespace="chat"), claim)
    settle(webhook, body, "VolumeNotReady")
    change(status={"phase": "Bound"})
    patch = json.loads(base64.b64decode(settle(webhook, body, "Cached")["patch"]))
    source = {"claimName": name, "readOnly": True}
    assert {"name": f"larder-{key}", "persistentVolumeClaim": source} in values_of(patch)
    change(metadata={"annotations": {"larder.dev/retiring-since": "2026-01-01T00:00:00Z"}})
    settle(webhook, body, "VolumeNotReady")
    change(metadata={"annotations": {"larder.dev/retiring-since": None}})
    settle(webhook, body, "Cached")
    change(spec={"volumeName": "of-a-tenant"})
    settle(webhook, body, "VolumeNotReady")
    change(spec={"volumeName": volume})
    settle(webhook, body, "Cached")
    server.stop()  # a claim may be taken away, and nobody would know
    settle(webhook, body, "VolumeNotReady")
