"""Claims of Larder's, pods that use them, and the policies that hold both, as tests need them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from larder.identity import identity_of
from larder.layout import Key
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path
from tests.cluster.accounts import Answer
from tests.controller.conftest import until

KEY = identity_of("hf://acme/a", revision="main").key
OTHER_KEY = Key("0123456789abcdef")
VOLUMES = collection_path("v1", "persistentvolumes")
REGISTRATION = "admissionregistration.k8s.io"
BINDINGS = collection_path(f"{REGISTRATION}/v1", "validatingadmissionpolicybindings")
POLICIES = collection_path(f"{REGISTRATION}/v1", "validatingadmissionpolicies")

Json = dict[str, Any]


def claims(namespace: str) -> str:
    return collection_path("v1", "persistentvolumeclaims", namespace=namespace)


def pods(namespace: str) -> str:
    return collection_path("v1", "pods", namespace=namespace)


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


def is_refused(answer: Answer) -> bool:
    """Whether a policy of ours said no."""
    return answer.status == 403 and "larder:" in answer.message


def goes_through(ask: Callable[[], Answer]) -> None:
    until(lambda: ask().status in {200, 201}, "it is refused by somebody else")
