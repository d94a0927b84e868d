"""`larder-controller` in a real cluster: the claims that it makes and retires."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.planning.policies import CLAIMS_READ_ONLY
from larder.claims import RETIRING_ANNOTATION, Claim, is_usable
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from larder.layout import DEFAULT_ROOT
from runtime.kube.client import KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.paths import collection_path
from tests.cluster.accounts import CONFIG_MAPS, Accounts, Identity, events_path
from tests.cluster.claims import KEY, VOLUMES, claims, pod_with_claim, pods, taken_away, unscheduled
from tests.controller.conftest import RunningController, until

pytestmark = pytest.mark.usefixtures("no_other_controller")
ALL_SECONDS = 120.0  # kube-controller-manager binds some claims at its resync only


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


Start = Callable[..., RunningController]


@pytest.fixture
def start(accounts: Accounts, controller: Identity, tmp_path: Path) -> Iterator[Start]:
    """Start the controller with its account's token."""
    kubeconfig = controller.kubeconfig(tmp_path / "kubeconfig", accounts.config)
    started: list[RunningController] = []

    def start(*flags: str) -> RunningController:
        address = ("--host", "127.0.0.1", "--port", "0", "--kubeconfig", str(kubeconfig))
        command = [sys.executable, "-m", "controller", *address, *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
        running = RunningController(process)
        started.append(running)
        threading.Thread(target=running.read_lines, daemon=True).start()
        running.port = running.wait_for("controller started")["port"]
        return running

    yield start
    for running in started:
        running.stop()
        if running.process.stdout:
            running.process.stdout.close()


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
    assert spec["hostPath"] == {"path": f"{DEFAULT_ROOT}/slots/{KEY}/content", "type": "Directory"}
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


def test_a_claim_of_a_namespace_that_its_entry_lost_goes_with_the_last_pod_that_has_it(
    admin: KubeClient, namespace: str, start: Start, write_catalog: Callable[[str], None]
) -> None:
    write_catalog(entry(namespace))
    claim = Claim(namespace, KEY)
    path = f"{claims(namespace)}/{claim.name}"
    controller = start("--retire-after", "0")
    until(lambda: not is_gone(admin, path), "it is made")
    admin.create(pods(namespace), unscheduled(pod_with_claim(claim.name)))
    write_catalog(entry("larder-test-another"))
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
