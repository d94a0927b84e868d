"""The security context that Pod Security's profile `restricted` asks of an init container.

KServe gives its initializer none, so that such a namespace refuses its predictors (fact T16).
Completed is what neither container nor pod says, and nothing else: what one of them says otherwise
is for the namespace to refuse, as it would have without Larder.
"""

from collections.abc import Mapping
from typing import Final

from webhook.mutation.raw import Json, JsonObject, list_of, object_of

POD_SECURITY_LABEL: Final = "pod-security.kubernetes.io/enforce"
RESTRICTED: Final = "restricted"
_ALL: Final = "ALL"


def is_restricted(namespace_labels: Mapping[str, str] | None) -> bool:
    """Whether a namespace refuses pods that do not meet the profile."""
    return (namespace_labels or {}).get(POD_SECURITY_LABEL) == RESTRICTED


def completed_context(container: Mapping[str, Json], pod_spec: Mapping[str, Json]) -> JsonObject:
    """The container's security context with what the profile misses.

    KServe's image runs as uid 1000, which `runAsNonRoot` lets the kubelet check.
    """
    said = object_of(container.get("securityContext"))
    said_by_pod = object_of(pod_spec.get("securityContext"))
    capabilities = object_of(said.get("capabilities"))
    dropped = list_of(capabilities.get("drop"))
    missing: JsonObject = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    completed = dict(said) | {
        name: value
        for name, value in missing.items()
        if said.get(name) is None and said_by_pod.get(name) is None
    }
    if _ALL not in dropped:
        completed["capabilities"] = {**capabilities, "drop": [*dropped, _ALL]}
    return completed
