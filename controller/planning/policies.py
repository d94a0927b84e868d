"""Whether the admission policies that make claims safe are in force, as they were shipped.

A claim is as read-only as the pods that use it, and a volume of the host's leads where its maker
says: ValidatingAdmissionPolicies hold both. What is compared is the whole spec by its SHA-256, less
the cache root, which an install may have elsewhere.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

CLAIMS_READ_ONLY: Final = "larder-claims-read-only"
OWN_CLAIMS_ONLY: Final = "larder-controller-own-claims-only"
OWN_VOLUMES_ONLY: Final = "larder-controller-own-volumes-only"
FINGERPRINTS: Final[Mapping[str, str]] = {
    CLAIMS_READ_ONLY: "c71cf0dc5a52b4c1e0efc58f0fc87934f3695d0cf4f336680fb258b3a1b1acb9",
    OWN_CLAIMS_ONLY: "03a85f63f2db17f09e291af29aacfe9dcdb3357856559da4a6294caa902a2ae6",
    OWN_VOLUMES_ONLY: "0046ef9123c07ea4962c367b817c892695f692df35bb6fa39fdb4ee58aefcadd",
}
ROOT_VARIABLE: Final = "cacheRoot"

KubeObject = Mapping[str, Any]


def fingerprint(spec: KubeObject, cache_root: PurePosixPath) -> str:
    """The SHA-256 of a policy's spec; the cache root, if it says one, must be this."""
    written = json.dumps(str(cache_root))
    variables = [
        {**variable, "expression": "the cache root"}
        if variable.get("name") == ROOT_VARIABLE and variable.get("expression") == written
        else variable
        for variable in spec.get("variables") or ()
    ]
    text = json.dumps({**spec, "variables": variables}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def policy_fault(
    name: str,
    policy: KubeObject | None,
    cache_root: PurePosixPath,
    fingerprints: Mapping[str, str] = FINGERPRINTS,
) -> str | None:
    """Why a ValidatingAdmissionPolicy does not do its work, as one clause, or None."""
    if policy is None:
        return f"policy {name} is not there"
    if fingerprint(policy.get("spec") or {}, cache_root) != fingerprints[name]:
        return f"policy {name} is not the one of this release for cache root {cache_root}"
    status = policy.get("status") or {}
    if status.get("observedGeneration") != policy["metadata"].get("generation"):
        return f"policy {name} was not checked by the cluster yet"
    if (status.get("typeChecking") or {}).get("expressionWarnings"):
        return f"policy {name} has expressions that the cluster warns of"
    return None


def binding_fault(name: str, binding: KubeObject | None) -> str | None:
    """Why a ValidatingAdmissionPolicyBinding does not bind, as one clause, or None."""
    if binding is None:
        return f"the binding of policy {name} is not there"
    if binding.get("spec") != {"policyName": name, "validationActions": ["Deny"]}:
        return f"the binding of policy {name} does not deny everywhere"
    return None
