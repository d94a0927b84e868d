"""An API server of a test's own without ValidatingAdmissionPolicies, as one before Kubernetes 1.30.

etcd and kube-apiserver come from the PATH, on ports of this machine alone; no controller runs, and
no node. Authentication is by one token.
"""

import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster.test_cluster_agent import until
from tests.fakes.kubeconfig import write_kubeconfig

PROGRAMS = ("etcd", "kube-apiserver")
WITHOUT = ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
_STOP_SECONDS = 10.0


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def old_cluster(directory: Path) -> Iterator[Path]:
    """The kubeconfig of its admin, while it runs."""
    etcd, peer, port = (_free_port() for _ in range(3))
    token = secrets.token_hex(16)
    (directory / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = directory / "accounts.key"
    key.write_bytes(_key())
    kubeconfig = _kubeconfig(directory, port, token)
    with ExitStack() as running:
        running.enter_context(_run(_etcd(directory, etcd, peer), directory))
        running.enter_context(_run(_api_server(directory, etcd, port, key), directory))
        until(lambda: _is_ready(kubeconfig), "the API server does not start", 120)
        yield kubeconfig


def _etcd(directory: Path, port: int, peer: int) -> list[str]:
    client, others = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    return [
        "etcd",
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={others}",
        f"--initial-advertise-peer-urls={others}",
        f"--initial-cluster=default={others}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(directory: Path, etcd: int, port: int, key: Path) -> list[str]:
    off = ",".join(f"admissionregistration.k8s.io/v1/{plural}=false" for plural in WITHOUT)
    return [
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={directory / 'certs'}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.200.0.0/24",
        f"--runtime-config={off}",
        "--disable-admission-plugins=ValidatingAdmissionPolicy",
    ]


@contextmanager
def _run(command: list[str], directory: Path) -> Iterator[None]:
    with (directory / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - ours
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_ready(kubeconfig: Path) -> bool:
    done = subprocess.run(  # noqa: S603 - ours
        ["kubectl", "--kubeconfig", str(kubeconfig), "get", "--raw", "/readyz"],  # noqa: S607
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _kubeconfig(directory: Path, port: int, token: str) -> Path:
    cluster = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority": str(directory / "certs/apiserver.crt"),
    }
    return write_kubeconfig(directory / "kubeconfig", cluster, token)


def _key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
