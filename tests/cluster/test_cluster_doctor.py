"""`larder doctor` against real API servers: one that is too old for the policies, and a fit one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.doctor_install import DROP_RIGHTS, SHIPPED
from runtime.kube.client import KubeClient
from runtime.kube.paths import object_path
from tests.cluster.accounts import AGENT, Accounts
from tests.cluster.kustomize import DEPLOY, ROOT
from tests.cluster.old_cluster import missing_programs, old_cluster
from tests.cluster.test_cluster_agent import until

REGISTRATION = "admissionregistration.k8s.io/v1"
RIGHTS = "clusterrolebindings,rolebindings"


@dataclass(frozen=True)
class Told:
    status: int
    text: str

    @property
    def findings(self) -> list[Any]:
        found: list[Any] = json.loads(self.text)["findings"]
        return found

    def verdict(self, check: str) -> str:
        return ", ".join(sorted({f["verdict"] for f in self.findings if f["check"] == check}))


def doctor(kubeconfig: Path, output: str = "json") -> Told:
    command = [sys.executable, "-m", "cli", "doctor", "--kubeconfig", str(kubeconfig), "-o", output]
    done = subprocess.run(  # noqa: S603 - ours
        command, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stderr == ""
    return Told(done.returncode, done.stdout)


def kubectl(kubeconfig: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - ours
        ["kubectl", "--kubeconfig", str(kubeconfig), *words],  # noqa: S607 - the one on the PATH
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


# --- a cluster without the policies' API ----------------------------------------------------------


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if missing := missing_programs():
        pytest.skip(f"{' and '.join(missing)} are not on the PATH: no API server can be started")
    with old_cluster(tmp_path_factory.mktemp("old")) as kubeconfig:
        yield kubeconfig


def test_a_cluster_without_policies_is_told_before_an_install_and_mended_after_one(
    old: Path,
) -> None:
    told = doctor(old)
    assert (told.status, told.verdict("kubernetes")) == (1, "broken")

    applied = kubectl(old, "apply", "--server-side", "-k", str(DEPLOY / "base"))
    assert applied.returncode != 0  # but all that it knows is there, the rights too
    selector = ("-l", "app.kubernetes.io/part-of=larder")
    left = kubectl(old, "get", RIGHTS, "-A", *selector, "-o", "name").stdout.split()
    assert "clusterrolebinding.rbac.authorization.k8s.io/larder-agent" in left
    text = doctor(old, "table").text
    assert "the API server serves no validatingadmissionpolicies" in text
    assert DROP_RIGHTS in text

    cure = DROP_RIGHTS[DROP_RIGHTS.index("kubectl delete") :].split()[1:]
    assert kubectl(old, *cure).returncode == 0
    assert kubectl(old, "get", RIGHTS, "-A", *selector, "-o", "name").stdout == ""


# --- one that is fit ------------------------------------------------------------------------------


@pytest.fixture
def kubeconfig() -> Path:
    return Path(os.environ["KUBECONFIG"])


@pytest.mark.usefixtures("accounts")
def test_the_policies_of_an_install_are_in_force_to_the_letter(kubeconfig: Path) -> None:
    until(
        lambda: doctor(kubeconfig).verdict("policies") == "ok", "the policies are not checked", 60
    )
    assert doctor(kubeconfig).verdict("kubernetes") == "ok"


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize("name", SHIPPED)
def test_a_policy_that_is_weakened_is_broken(
    admin: KubeClient, kubeconfig: Path, name: str
) -> None:
    path = object_path(REGISTRATION, "validatingadmissionpolicybindings", name)
    admin.patch(path, {"spec": {"validationActions": ["Warn"]}})
    told = doctor(kubeconfig)
    admin.patch(path, {"spec": {"validationActions": ["Deny"]}})
    (fault,) = [f for f in told.findings if f["check"] == "policies" and name in f["about"]]
    assert fault["sentence"] == f"the binding of policy {name} does not deny everywhere"
    assert told.status == 1


def test_who_may_read_little_is_told_what_was_not_checked(
    accounts: Accounts, tmp_path: Path
) -> None:
    nobody = accounts.identity(AGENT, "", "", None)
    told = doctor(nobody.kubeconfig(tmp_path / "kubeconfig", accounts.config))
    assert told.verdict("kubernetes") == "ok"
    assert told.verdict("policies") == "not checked"
    (fault,) = [f for f in told.findings if f["check"] == "policies"]
    assert fault["sentence"].startswith("may not list validatingadmissionpolicies")
