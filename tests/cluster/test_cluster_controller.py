"""`larder-controller` and the policies it relies on, in a real cluster: claims, attacks, rights.

An attack is refused in our words, and goes through once the policy that stops it is taken away.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from controller.planning.manifests import claim_manifest, mark_patch, volume_manifest
from controller.planning.policies import CLAIMS_READ_ONLY, OWN_CLAIMS_ONLY, OWN_VOLUMES_ONLY
from larder.claims import LABELS, RETIRING_ANNOTATION, Claim, is_usable
from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from larder.identity import identity_of
from larder.layout import Key
from runtime.kube.client import JSON, MERGE_PATCH, KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.paths import collection_path, object_path
from tests.cluster.accounts import (
    CONFIG_MAPS,
    CONTROLLER,
    CREDENTIALS,
    DRY_RUN,
    NODES,
    PODS,
    SECRETS,
    Accounts,
    Answer,
    Identity,
    Rule,
    event,
    events_path,
    rights,
)
from tests.controller.conftest import RunningController, until

ROOT = PurePosixPath("/var/lib/larder")
KEY = identity_of("hf://acme/a", revision="main").key
OTHER_KEY = Key("0123456789abcdef")
VOLUMES = collection_path("v1", "persistentvolumes")
REGISTRATION = "admissionregistration.k8s.io"
BINDINGS = collection_path(f"{REGISTRATION}/v1", "validatingadmissionpolicybindings")
POLICIES = collection_path(f"{REGISTRATION}/v1", "validatingadmissionpolicies")
DEPLOYMENT = object_path("apps/v1", "deployments", CONTROLLER, namespace=SYSTEM_NAMESPACE)
LEASES = collection_path("coordination.k8s.io/v1", "leases", namespace=SYSTEM_NAMESPACE)
ALL_SECONDS = 120.0  # kube-controller-manager binds some claims at its resync only

Json = dict[str, Any]


def claims(namespace: str) -> str:
    return collection_path("v1", "persistentvolumeclaims", namespace=namespace)


def pods(namespace: str) -> str:
    return collection_path("v1", "pods", namespace=namespace)


@pytest.fixture(scope="module")
def identity(accounts: Accounts, nodes: tuple[str, str]) -> Identity:
    """The controller's account, as shipped; its own replicas stand aside meanwhile."""
    return accounts.identity(CONTROLLER, *nodes, None)


@pytest.fixture(scope="module", autouse=True)
def no_other(accounts: Accounts) -> Iterator[None]:
    admin = accounts.admin
    try:
        before = admin.get(DEPLOYMENT)["spec"]["replicas"]
    except NotFoundError:
        yield
        return
    admin.patch(DEPLOYMENT, {"spec": {"replicas": 0}})
    query = [("labelSelector", f"app.kubernetes.io/name={CONTROLLER}")]
    until(lambda: not admin.list(PODS, query=query).items, "its replicas end")
    yield
    admin.patch(DEPLOYMENT, {"spec": {"replicas": before}})


@pytest.fixture
def write_catalog(admin: KubeClient) -> Iterator[Callable[[str], None]]:
    """Write the catalog's models; afterwards it has none."""

    def write(models: str) -> None:
        text = f"apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels: {models}\n"
        content = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE},
            "data": {"catalog.yaml": text},
        }
        admin.apply(f"{CONFIG_MAPS}/{CATALOG_CONFIG_MAP}", content, field_manager="admin")

    yield write
    write("[]")


@pytest.fixture
def tenant(accounts: Accounts, nodes: tuple[str, str], namespace: str) -> Identity:
    """Somebody who may make pods and debug them, in one namespace."""
    roles = collection_path("rbac.authorization.k8s.io/v1", "roles", namespace=namespace)
    rule = {"apiGroups": [""], "resources": ["pods", "pods/ephemeralcontainers"]}
    rules = [rule | {"verbs": ["create", "patch"]}]
    accounts.admin.create(roles, {"metadata": {"name": "tenant"}, "rules": rules})
    binding = {
        "metadata": {"name": "tenant"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": SYSTEM_NAMESPACE}],
    }
    accounts.admin.create(roles.replace("/roles", "/rolebindings"), binding)
    return accounts.identity("default", *nodes, None)


Start = Callable[..., RunningController]


@pytest.fixture
def start(accounts: Accounts, identity: Identity, tmp_path: Path) -> Iterator[Start]:
    """Start the controller with its account's token."""
    kubeconfig = identity.kubeconfig(tmp_path / "kubeconfig", accounts.config)
    started: list[RunningController] = []

    def start(*flags: str) -> RunningController:
        address = ("--host", "127.0.0.1", "--port", "0", "--kubeconfig", str(kubeconfig))
        command = [sys.executable, "-m", "controller", *address, *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
        controller = RunningController(process)
        started.append(controller)
        threading.Thread(target=controller.read_lines, daemon=True).start()
        controller.port = controller.wait_for("controller started")["port"]
        return controller

    yield start
    for controller in started:
        controller.stop()
        if controller.process.stdout:
            controller.process.stdout.close()


@contextmanager
def taken_away(admin: KubeClient, policy: str) -> Generator[None]:
    """Without a policy's binding; it is there again afterwards."""
    path = f"{BINDINGS}/{policy}"
    binding = admin.get(path)
    admin.delete(path)
    try:
        yield
    finally:
        kept = {field: binding["metadata"][field] for field in ("name", "labels")}
        admin.create(BINDINGS, {**binding, "metadata": kept})


def entry(namespace: str, more: str = "") -> str:
    return (
        f"[{{name: a, storageUri: 'hf://acme/a', revision: main, namespaces: [{namespace}]{more}}}]"
    )


def is_gone(admin: KubeClient, path: str) -> bool:
    try:
        admin.get(path)
    except NotFoundError:
        return True
    return False


# --- claims ---------------------------------------------------------------------------------------


def test_a_model_of_the_catalog_gets_a_claim_that_is_bound_and_goes_with_its_entry(
    admin: KubeClient, namespace: str, start: Start, write_catalog: Callable[[str], None]
) -> None:
    write_catalog(entry(namespace, ", placement: Require"))
    controller = start("--retire-after", "0")
    both = [Claim(namespace, KEY), Claim(namespace, KEY, is_content=True)]
    for claim in both:
        path = f"{claims(namespace)}/{claim.name}"
        until(lambda p=path: not is_gone(admin, p), "it is made")
        until(lambda p=path: is_usable(admin.get(p)), "it is Bound", ALL_SECONDS)
    spec = admin.get(f"{VOLUMES}/{both[1].volume_name}")["spec"]
    assert spec["hostPath"] == {"path": f"{ROOT}/slots/{KEY}/content", "type": "Directory"}
    controller.wait_for("claims are as the catalog says")
    write_catalog("[]")
    for claim in both:
        until(lambda c=claim: is_gone(admin, f"{VOLUMES}/{c.volume_name}"), "it is retired")
        assert is_gone(admin, f"{claims(namespace)}/{claim.name}")


def test_a_claim_that_lost_its_volume_is_bound_again(
    admin: KubeClient, namespace: str, start: Start, write_catalog: Callable[[str], None]
) -> None:
    write_catalog(entry(namespace))
    start("--retire-after", "0")
    claim = Claim(namespace, KEY)
    path, volume = f"{claims(namespace)}/{claim.name}", f"{VOLUMES}/{claim.volume_name}"
    until(lambda: not is_gone(admin, path), "it is made")
    until(lambda: is_usable(admin.get(path)), "it is Bound", ALL_SECONDS)
    before = admin.get(volume)["metadata"]["uid"]
    admin.delete(volume)
    admin.patch(volume, {"metadata": {"finalizers": None}})
    until(
        lambda: not is_gone(admin, volume) and admin.get(volume)["metadata"]["uid"] != before,
        "it gets another one",
    )
    until(lambda: is_usable(admin.get(path)), "it is Bound again", ALL_SECONDS)


def test_a_claim_that_a_pod_has_is_kept_until_the_pod_goes(
    admin: KubeClient, namespace: str, start: Start, write_catalog: Callable[[str], None]
) -> None:
    write_catalog(entry(namespace))
    claim = Claim(namespace, KEY)
    path = f"{claims(namespace)}/{claim.name}"
    controller = start("--retire-after", "0")
    until(lambda: not is_gone(admin, path), "it is made")
    admin.create(pods(namespace), unscheduled(pod_with_claim(claim.name)))
    write_catalog("[]")
    until(
        lambda: RETIRING_ANNOTATION in admin.get(path)["metadata"].get("annotations", {}),
        "it is marked",
    )
    until(
        lambda: 'waiting{reason="InUse"} 1.0' in controller.get("/metrics")[1],
        "it looked at the pods",
    )
    assert "deletionTimestamp" not in admin.get(path)["metadata"]
    admin.delete(f"{pods(namespace)}/attack", options={"gracePeriodSeconds": 0})
    until(lambda: is_gone(admin, path), "it is retired")


def test_a_quota_keeps_a_claim_away_and_an_event_says_so(
    admin: KubeClient, namespace: str, start: Start, write_catalog: Callable[[str], None]
) -> None:
    quotas = collection_path("v1", "resourcequotas", namespace=namespace)
    hard = {"hard": {"persistentvolumeclaims": "0"}}
    admin.create(quotas, {"metadata": {"name": "none"}, "spec": hard})
    until(lambda: admin.get(f"{quotas}/none").get("status", {}).get("hard"), "the quota holds")
    write_catalog(entry(namespace))
    line = start("--retire-after", "0").wait_for("claim refused")
    assert line["namespace"] == namespace
    about = f"{CATALOG_CONFIG_MAP}.{namespace}.larder-{KEY}"
    until(
        lambda: not is_gone(admin, f"{events_path(SYSTEM_NAMESPACE)}/{about}"), "an Event says so"
    )


def test_no_claim_is_made_while_a_policy_is_away(
    admin: KubeClient, namespace: str, start: Start, write_catalog: Callable[[str], None]
) -> None:
    path = f"{claims(namespace)}/larder-{KEY}"
    with taken_away(admin, CLAIMS_READ_ONLY):
        controller = start("--retire-after", "0")
        write_catalog(entry(namespace))
        line = controller.wait_for("no claims are made: admission policies not in force")
        assert line["faults"] == [f"the binding of policy {CLAIMS_READ_ONLY} is not there"]
        until(
            lambda: 'waiting{reason="PoliciesNotInForce"} 1.0' in controller.get("/metrics")[1],
            "a metric says so",
        )
        assert is_gone(admin, path)
    until(lambda: not is_gone(admin, path), "it is made")


# --- attacks on what others read ------------------------------------------------------------------


def pod_with_claim(
    claim_name: str, *, volume: Json | None = None, mount: Json | None = None, **container: Any
) -> Json:
    """A pod that uses a claim as it should, but for what is said."""
    mounts = [{"name": "m", "mountPath": "/m", "readOnly": True} | (mount or {})]
    source = {"claimName": claim_name, "readOnly": True} | (volume or {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "attack"},
        "spec": {
            "containers": [{"name": "c", "image": "none", "volumeMounts": mounts} | container],
            "volumes": [{"name": "m", "persistentVolumeClaim": source}],
        },
    }


def unscheduled(pod: Json) -> Json:
    return {**pod, "spec": pod["spec"] | {"schedulerName": "nobody"}}


def with_init(pod: Json, **container: Any) -> Json:
    init = {"name": "i", "image": "none"} | container
    return {**pod, "spec": pod["spec"] | {"initContainers": [init]}}


SLOT, CONTENT = f"larder-{KEY}", f"larder-{KEY}-content"
WRITABLE = {"name": "m", "mountPath": "/w"}
EPHEMERAL = {
    "volumeClaimTemplate": {
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Mi"}},
        }
    }
}
OF_OUR_NAME = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "larder"},
    "spec": {
        "containers": [{"name": "c", "image": "none"}],
        "volumes": [{"name": KEY, "ephemeral": EPHEMERAL}],
    },
}
ATTACKS = {
    "a volume that is not read-only": pod_with_claim(SLOT, volume={"readOnly": False}),
    "a content that is not read-only": pod_with_claim(CONTENT, volume={"readOnly": False}),
    "a mount that is not read-only": pod_with_claim(SLOT, mount={"readOnly": False}),
    "a subPath": pod_with_claim(SLOT, mount={"subPath": "content/new"}),
    "a subPathExpr": pod_with_claim(SLOT, mount={"subPathExpr": "$(HOSTNAME)"}),
    "an init container that writes": with_init(pod_with_claim(SLOT), volumeMounts=[WRITABLE]),
    "a device": pod_with_claim(
        SLOT, volumeMounts=[], volumeDevices=[{"name": "m", "devicePath": "/d"}]
    ),
    "an ephemeral volume with our claim's name": OF_OUR_NAME,
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("policy_holds")
def test_a_pod_that_could_write_what_others_read_is_refused(
    tenant: Identity, namespace: str, name: str
) -> None:
    answer = tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", ATTACKS[name])
    assert (answer.status, "larder:" in answer.message) == (403, True), answer.message


@pytest.mark.parametrize("claim", [SLOT, CONTENT])
@pytest.mark.usefixtures("policy_holds")
def test_a_pod_that_only_reads_is_let_through(tenant: Identity, namespace: str, claim: str) -> None:
    answer = tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", pod_with_claim(claim))
    assert answer.status == 201, answer.message


@pytest.mark.usefixtures("policy_holds")
def test_claims_of_other_names_are_nobodys_business(tenant: Identity, namespace: str) -> None:
    pod = pod_with_claim("larder-data", volume={"readOnly": False}, mount={"subPath": "a"})
    answer = tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", pod)
    assert answer.status == 201, answer.message


@pytest.mark.usefixtures("policy_holds")
def test_a_large_pod_is_within_what_the_policy_may_cost(tenant: Identity, namespace: str) -> None:
    pod = pod_with_claim(SLOT)
    volumes = [deepcopy(pod["spec"]["volumes"][0]) | {"name": f"m{n}"} for n in range(20)]
    mounts = [{"name": f"m{n}", "mountPath": f"/m{n}", "readOnly": True} for n in range(20)]
    many = [{"name": f"c{n}", "image": "none", "volumeMounts": mounts} for n in range(200)]
    pod["spec"] |= {"volumes": volumes, "containers": many}
    answer = tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", pod)
    assert answer.status == 201, answer.message


def debugging(namespace: str) -> tuple[str, Json]:
    container = {"name": "d", "image": "none", "volumeMounts": [WRITABLE]}
    path = f"{pods(namespace)}/attack/ephemeralcontainers{DRY_RUN}"
    return path, {"spec": {"ephemeralContainers": [container]}}


@pytest.mark.usefixtures("policy_holds")
def test_a_container_for_debugging_may_not_write_either(
    tenant: Identity, admin: KubeClient, namespace: str
) -> None:
    admin.create(pods(namespace), unscheduled(pod_with_claim(SLOT)))
    path, patch = debugging(namespace)
    content_type = "application/strategic-merge-patch+json"
    answer = tenant.ask("PATCH", path, patch, content_type)
    assert (answer.status, "larder:" in answer.message) == (403, True), answer.message
    with taken_away(admin, CLAIMS_READ_ONLY):
        goes_through(lambda: tenant.ask("PATCH", path, patch, content_type))


def test_without_the_policy_each_of_these_pods_goes_through(
    tenant: Identity, admin: KubeClient, namespace: str
) -> None:
    with taken_away(admin, CLAIMS_READ_ONLY):
        for pod in ATTACKS.values():
            goes_through(lambda p=pod: tenant.ask("POST", f"{pods(namespace)}{DRY_RUN}", p))


# --- attacks with the controller's token ----------------------------------------------------------


def volume_of(namespace: str = "chat", *, metadata: Json | None = None, **spec: Any) -> Json:
    volume = volume_manifest(Claim(namespace, OTHER_KEY), ROOT)
    return {
        **volume,
        "metadata": volume["metadata"] | (metadata or {}),
        "spec": volume["spec"] | spec,
    }


def host_path(path: str) -> Json:
    return {"path": path, "type": ""}


FOR_ANOTHER = {**volume_of()["spec"]["claimRef"], "namespace": "search"}
BAD_VOLUMES = {
    "the node's disk": volume_of(hostPath=host_path("/")),
    "the cache root": volume_of(hostPath=host_path(str(ROOT))),
    "all slots": volume_of(hostPath=host_path(f"{ROOT}/slots")),
    "another slot": volume_of(hostPath=host_path(f"{ROOT}/slots/{KEY}")),
    "a way out": volume_of(hostPath=host_path(f"{ROOT}/slots/{OTHER_KEY}/../..")),
    "the blobs": volume_of(hostPath=host_path(f"{ROOT}/blobs")),
    "a device": volume_of(hostPath={**volume_of()["spec"]["hostPath"], "type": "BlockDevice"}),
    "a volume to write": volume_of(accessModes=["ReadWriteMany"]),
    "another namespace's": volume_of(claimRef=FOR_ANOTHER),
    "anybody's": volume_of(claimRef=None),
    "another name": volume_of(metadata={"name": "pvc-1"}),
    "another label": volume_of(metadata={"labels": {}}),
    "one that deletes": volume_of(persistentVolumeReclaimPolicy="Delete"),
    "a network's": volume_of(hostPath=None, nfs={"server": "evil.example", "path": "/"}),
    "a class": volume_of(storageClassName="fast"),
    "mount options": volume_of(mountOptions=["exec"]),
}


@pytest.mark.parametrize("name", BAD_VOLUMES)
@pytest.mark.usefixtures("policy_holds")
def test_the_controller_may_not_make_a_volume_of(identity: Identity, name: str) -> None:
    answer = identity.ask("POST", f"{VOLUMES}{DRY_RUN}", BAD_VOLUMES[name])
    assert answer.status in {403, 422}, answer.message
    assert "larder:" in answer.message or name in {"a way out", "mount options"}


@pytest.mark.usefixtures("policy_holds")
def test_the_controller_may_make_its_own(identity: Identity) -> None:
    for claim in (Claim("chat", OTHER_KEY), Claim("chat", OTHER_KEY, is_content=True)):
        for uid in ("", "11111111-2222-3333-4444-555555555555"):
            volume = volume_manifest(claim, ROOT, uid)
            answer = identity.ask("POST", f"{VOLUMES}{DRY_RUN}", volume)
            assert answer.status == 201, answer.message


@pytest.mark.usefixtures("policy_holds")
def test_without_its_policy_the_controllers_token_could_have_the_nodes_disk(
    admin: KubeClient, identity: Identity
) -> None:
    with taken_away(admin, OWN_VOLUMES_ONLY):
        volume = BAD_VOLUMES["the node's disk"]
        goes_through(lambda: identity.ask("POST", f"{VOLUMES}{DRY_RUN}", volume))


@pytest.mark.usefixtures("policy_holds")
def test_the_controller_touches_no_volume_of_others(
    admin: KubeClient, identity: Identity, namespace: str
) -> None:
    theirs = volume_of(metadata={"name": f"{namespace}-data"})
    admin.create(VOLUMES, theirs)
    try:
        answer = identity.ask("DELETE", f"{VOLUMES}/{namespace}-data{DRY_RUN}")
        assert (answer.status, "larder:" in answer.message) == (403, True), answer.message
    finally:
        admin.delete(f"{VOLUMES}/{namespace}-data")


def a_claim(namespace: str, *, metadata: Json | None = None, **spec: Any) -> Json:
    claim = claim_manifest(Claim(namespace, OTHER_KEY))
    return {**claim, "metadata": claim["metadata"] | (metadata or {}), "spec": claim["spec"] | spec}


@pytest.mark.usefixtures("policy_holds")
def test_the_controller_makes_claims_of_its_own_and_no_others(
    identity: Identity, namespace: str
) -> None:
    path = f"{claims(namespace)}{DRY_RUN}"
    assert identity.ask("POST", path, a_claim(namespace)).status == 201
    for bad in (
        a_claim(namespace, metadata={"name": "data"}),
        a_claim(namespace, metadata={"labels": {}}),
        a_claim(namespace, volumeName=f"larder-other-{OTHER_KEY}"),
        a_claim(namespace, volumeName="pvc-1"),
        a_claim(namespace, accessModes=["ReadWriteMany"]),
    ):
        answer = identity.ask("POST", path, bad)
        assert (answer.status, "larder:" in answer.message) == (403, True), answer.message


@pytest.mark.usefixtures("policy_holds")
def test_the_controller_changes_nothing_of_a_claim_but_its_mark_and_deletes_no_other(
    admin: KubeClient, identity: Identity, namespace: str
) -> None:
    admin.create(claims(namespace), a_claim(namespace, metadata={"annotations": {"a": "b"}}))
    theirs = a_claim(namespace, metadata={"name": "data", "labels": dict(LABELS)})
    admin.create(claims(namespace), theirs)
    path = f"{claims(namespace)}/larder-{OTHER_KEY}"
    version = admin.get(path)["metadata"]["resourceVersion"]
    for since in (60.0, None):
        patch = mark_patch(version, since)
        answer = identity.ask("PATCH", f"{path}{DRY_RUN}", patch, MERGE_PATCH)
        assert answer.status == 200, answer.message
    for change in (
        {"annotations": {"a": "c"}},
        {"annotations": {"a": None}},
        {"annotations": {"volume.kubernetes.io/selected-node": "n"}},
        {"labels": {"team": "x"}},
        {"finalizers": []},
        {"finalizers": ["example.com/held"]},
    ):
        body = {"metadata": change}
        answer = identity.ask("PATCH", f"{path}{DRY_RUN}", body, MERGE_PATCH)
        assert (answer.status, "larder:" in answer.message) == (403, True), (change, answer.message)
    answer = identity.ask("PATCH", f"{claims(namespace)}/data{DRY_RUN}", {}, MERGE_PATCH)
    assert (answer.status, "larder:" in answer.message) == (403, True), answer.message
    answer = identity.ask("DELETE", f"{claims(namespace)}/data{DRY_RUN}")
    assert (answer.status, "larder:" in answer.message) == (403, True), answer.message
    with taken_away(admin, OWN_CLAIMS_ONLY):
        goes_through(lambda: identity.ask("DELETE", f"{claims(namespace)}/data{DRY_RUN}"))


@pytest.fixture
def policy_holds(tenant: Identity, identity: Identity, namespace: str) -> None:
    """All three policies, after whoever took one away brought it back."""
    asked = [
        lambda: tenant.ask(
            "POST", f"{pods(namespace)}{DRY_RUN}", ATTACKS["a volume that is not read-only"]
        ),
        lambda: identity.ask("POST", f"{VOLUMES}{DRY_RUN}", BAD_VOLUMES["another label"]),
        lambda: identity.ask(
            "POST", f"{claims(namespace)}{DRY_RUN}", a_claim(namespace, metadata={"labels": {}})
        ),
    ]
    for ask in asked:
        until(lambda a=ask: "larder:" in a().message, "the policy is not in force")


def goes_through(ask: Callable[[], Answer]) -> None:
    until(lambda: ask().status in {200, 201}, "it is refused by somebody else")


# --- rights ---------------------------------------------------------------------------------------

WATCH = "?watch=1&timeoutSeconds=1"
OWN_LEASE = f"{LEASES}/{CONTROLLER}"
ALLOWED = {
    "listing volumes": ("GET", VOLUMES),
    "watching claims": ("GET", f"/api/v1/persistentvolumeclaims{WATCH}"),
    "watching namespaces": ("GET", f"/api/v1/namespaces{WATCH}"),
    "listing pods": ("GET", PODS),
    "listing the catalog": (
        "GET",
        f"{CONFIG_MAPS}?fieldSelector=metadata.name%3D{CATALOG_CONFIG_MAP}",
    ),
    "reading a policy": ("GET", f"{POLICIES}/{CLAIMS_READ_ONLY}"),
    "reading a binding": ("GET", f"{BINDINGS}/{OWN_VOLUMES_ONLY}"),
    "reading its Lease": ("GET", OWN_LEASE),
    "renewing its Lease": ("PATCH", OWN_LEASE),
    "asking for KServe": ("GET", "/apis"),
}
FORBIDDEN = {
    "changing a volume": ("PATCH", f"{VOLUMES}/x"),
    "replacing a claim": ("PUT", f"{claims('default')}/x"),
    "a pod by name": ("GET", f"{PODS}/x"),
    "watching pods": ("GET", f"{PODS}{WATCH}"),
    "making a pod": ("POST", PODS),
    "nodes": ("GET", NODES),
    "Secrets": ("GET", SECRETS),
    "a Secret of the credentials": ("GET", f"{CREDENTIALS}/x"),
    "writing the catalog": ("PATCH", f"{CONFIG_MAPS}/{CATALOG_CONFIG_MAP}"),
    "the nodes' reports": ("GET", CONFIG_MAPS),
    "changing a policy": ("PATCH", f"{POLICIES}/{CLAIMS_READ_ONLY}"),
    "deleting a binding": ("DELETE", f"{BINDINGS}/{OWN_VOLUMES_ONLY}"),
    "another policy": ("GET", f"{POLICIES}/larder-agent-own-node-only"),
    "another Lease": ("PATCH", f"{LEASES}/x"),
    "making a Lease": ("POST", LEASES),
    "deleting its Lease": ("DELETE", OWN_LEASE),
    "labelling a namespace": ("PATCH", "/api/v1/namespaces/default"),
    "Events elsewhere": ("POST", events_path("default")),
    "its own Deployment": ("PATCH", DEPLOYMENT),
}

# All that the account has beyond what every account has: by namespace.
EVERYWHERE: set[Rule] = {
    (("create", "delete", "get", "list", "watch"), ("",), ("persistentvolumes",), ()),
    (
        ("create", "delete", "get", "list", "patch", "watch"),
        ("",),
        ("persistentvolumeclaims",),
        (),
    ),
    (("list", "watch"), ("",), ("namespaces",), ()),
    (("list",), ("",), ("pods",), ()),
    (
        ("list", "watch"),
        ("serving.kserve.io",),
        ("inferenceservices", "llminferenceservices"),
        (),
    ),
    (
        ("get",),
        (REGISTRATION,),
        ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
        (CLAIMS_READ_ONLY, OWN_CLAIMS_ONLY, OWN_VOLUMES_ONLY),
    ),
}
RIGHTS: dict[str, set[Rule]] = {
    SYSTEM_NAMESPACE: EVERYWHERE
    | {
        (("list", "watch"), ("",), ("configmaps",), (CATALOG_CONFIG_MAP,)),
        (("get", "patch"), ("coordination.k8s.io",), ("leases",), (CONTROLLER,)),
        (("create",), ("events.k8s.io",), ("events",), ()),
    },
    CREDENTIALS_NAMESPACE: EVERYWHERE,
    "default": EVERYWHERE,
    "kube-system": EVERYWHERE,
}


@pytest.mark.parametrize("name", ALLOWED)
def test_the_controller_may_do_what_it_does(identity: Identity, name: str) -> None:
    method, path = ALLOWED[name]
    dry = f"{path}{DRY_RUN}" if method == "PATCH" else path
    answer = identity.ask(method, dry, {} if method == "PATCH" else None, MERGE_PATCH)
    assert answer.status == 200, answer.message


def test_the_controller_may_write_events_in_its_namespace(identity: Identity) -> None:
    about = event("ConfigMap", CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE)
    about["regarding"]["namespace"] = SYSTEM_NAMESPACE
    answer = identity.ask("POST", f"{events_path(SYSTEM_NAMESPACE)}{DRY_RUN}", about, JSON)
    assert answer.status == 201, answer.message


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_role_gives(identity: Identity, name: str) -> None:
    answer = identity.try_to(*FORBIDDEN[name])
    assert answer.status == 403, answer.message
    assert "larder:" not in answer.message


@pytest.mark.parametrize("namespace_name", RIGHTS)
def test_the_account_has_these_rights_and_no_more(
    accounts: Accounts, identity: Identity, namespace_name: str
) -> None:
    nobody = accounts.identity("default", identity.node, identity.other, None)
    found = rights(identity, namespace_name) - rights(nobody, namespace_name)
    assert found == RIGHTS[namespace_name]
