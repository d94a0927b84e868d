"""The policies that make claims safe: as shipped, checked by the cluster, binding everybody."""

from copy import deepcopy
from pathlib import PurePosixPath
from typing import Any

import pytest

from controller.planning.policies import (
    CLAIMS_READ_ONLY,
    FINGERPRINTS,
    OWN_VOLUMES_ONLY,
    binding_fault,
    fingerprint,
    policy_fault,
)
from tests.deploy.shipped import DEPLOY, documents

ROOT = PurePosixPath("/var/lib/larder")
SHIPPED = [
    content
    for path in (DEPLOY / "base/programs/controller").glob("*_only.yaml")
    for content in documents(path)
]
POLICIES = {o["metadata"]["name"]: o for o in SHIPPED if o["kind"].endswith("Policy")}
BINDINGS = {o["metadata"]["name"]: o for o in SHIPPED if o["kind"].endswith("Binding")}


def in_force(name: str) -> dict[str, Any]:
    """A policy as a cluster has it that checked it."""
    policy = deepcopy(POLICIES[name])
    policy["metadata"]["generation"] = 2
    return policy | {"status": {"observedGeneration": 2, "typeChecking": {}}}


def test_the_policies_of_this_release_are_the_shipped_ones() -> None:
    shipped = {name: fingerprint(policy["spec"], ROOT) for name, policy in POLICIES.items()}
    assert shipped == FINGERPRINTS


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_a_policy_that_was_checked_is_in_force(name: str) -> None:
    assert policy_fault(name, in_force(name), ROOT) is None
    assert binding_fault(name, BINDINGS[name]) is None


def test_a_policy_or_binding_that_is_not_there_is_a_fault() -> None:
    assert policy_fault("x", None, ROOT) == "policy x is not there"
    assert binding_fault("x", None) == "the binding of policy x is not there"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"failurePolicy": "Ignore"}, id="open when it fails"),
        pytest.param({"validations": [{"expression": "true"}]}, id="allows everything"),
        pytest.param({"matchConditions": [{"name": "n", "expression": "false"}]}, id="never asked"),
        pytest.param({"paramKind": {"kind": "ConfigMap"}}, id="with parameters"),
    ],
)
def test_a_policy_that_was_changed_is_a_fault(change: dict[str, Any]) -> None:
    policy = in_force(CLAIMS_READ_ONLY)
    policy["spec"] |= change
    fault = policy_fault(CLAIMS_READ_ONLY, policy, ROOT)
    assert fault == (
        "policy larder-claims-read-only is not the one of this release"
        " for cache root /var/lib/larder"
    )


def test_another_cache_root_must_be_that_of_policy_and_controller() -> None:
    elsewhere, policy = PurePosixPath("/mnt/nvme"), in_force(OWN_VOLUMES_ONLY)
    assert policy_fault(OWN_VOLUMES_ONLY, policy, elsewhere) is not None
    policy["spec"]["variables"][0]["expression"] = '"/mnt/nvme"'
    assert policy_fault(OWN_VOLUMES_ONLY, policy, elsewhere) is None
    assert policy_fault(OWN_VOLUMES_ONLY, policy, ROOT) is not None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(None, "not checked", id="never looked at"),
        pytest.param({"observedGeneration": 1}, "not checked", id="an earlier one looked at"),
        pytest.param(
            {"observedGeneration": 2, "typeChecking": {"expressionWarnings": [{"warning": "w"}]}},
            "warns",
            id="with warnings",
        ),
    ],
)
def test_a_policy_that_the_cluster_did_not_find_good_is_a_fault(status: Any, words: str) -> None:
    policy = in_force(CLAIMS_READ_ONLY) | {"status": status}
    assert words in (policy_fault(CLAIMS_READ_ONLY, policy, ROOT) or "")


def test_a_policy_without_a_spec_is_a_fault() -> None:
    assert policy_fault(CLAIMS_READ_ONLY, {"metadata": {}}, ROOT) is not None


@pytest.mark.parametrize(
    "change",
    [{"validationActions": ["Warn"]}, {"matchResources": {"namespaceSelector": {}}}],
)
def test_a_binding_that_does_less_is_a_fault(change: dict[str, Any]) -> None:
    binding = deepcopy(BINDINGS[CLAIMS_READ_ONLY])
    binding["spec"] |= change
    assert binding_fault(CLAIMS_READ_ONLY, binding) is not None
