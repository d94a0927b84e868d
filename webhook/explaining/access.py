"""Who asks, and what they may: TokenReview once, then a SubjectAccessReview for each right.

Both are asked with the webhook's own account. A token is handed on to nobody but the API server,
and stands in no error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient, Timeout
from runtime.kube.paths import collection_path

_AUTHENTICATION: Final = "authentication.k8s.io/v1"
_AUTHORIZATION: Final = "authorization.k8s.io/v1"
Patience = Callable[[], Timeout]  # what is left of the time; raises when nothing is


@dataclass(frozen=True, slots=True)
class Right:
    """Something that may be done in a namespace, to one object or (no name) to any."""

    verb: str
    plural: str
    namespace: str
    name: str = ""


READ_CATALOG: Final = Right("get", "configmaps", SYSTEM_NAMESPACE, CATALOG_CONFIG_MAP)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody, in the words of the API server: `user` is of an access review's spec."""

    user: Mapping[str, Any]


def caller_of(client: KubeClient, token: str, patience: Patience) -> Caller | None:
    """Who a token stands for, None for nobody whom the API server would answer."""
    spec = {"token": token}
    status = _reviewed(client, _AUTHENTICATION, "TokenReview", spec, patience)
    if status.get("authenticated") is not True:
        return None
    found = status.get("user") or {}
    words = {"user": "username", "uid": "uid", "groups": "groups", "extra": "extra"}
    return Caller({ours: found[theirs] for ours, theirs in words.items() if found.get(theirs)})


def may(client: KubeClient, caller: Caller, right: Right, patience: Patience) -> bool:
    """Whether somebody has a right."""
    asked = {
        "verb": right.verb,
        "resource": right.plural,
        "version": "v1",
        "namespace": right.namespace,
    }
    if right.name:
        asked["name"] = right.name
    spec = {**caller.user, "resourceAttributes": asked}
    status = _reviewed(client, _AUTHORIZATION, "SubjectAccessReview", spec, patience)
    return status.get("allowed") is True


def _reviewed(
    client: KubeClient, group: str, kind: str, spec: object, patience: Patience
) -> Mapping[str, Any]:
    body = {"apiVersion": group, "kind": kind, "spec": spec}
    path = collection_path(group, f"{kind.lower()}s")
    answer = client.request("POST", path, body=body, timeout=patience())
    status = answer.get("status")
    return status if isinstance(status, dict) else {}
