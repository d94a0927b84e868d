"""Larder is taken away from a node that serves, in the order and the words of docs/install.md."""

import pytest

from larder.contract import CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.errors import NotFoundError
from runtime.kube.paths import object_path
from tests.cluster.kustomize import run_typed, typed
from tests.cluster.node.conftest import DEMO_NAMESPACE
from tests.cluster.node.node_cluster import Node, kubectl, until
from tests.cluster.node.whole import await_deployments, predictors_in

CLUSTER_WIDE = (
    "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,"
    "clusterrolebindings,persistentvolumes,validatingadmissionpolicies,validatingadmissionpolicybindings,namespaces"
)
IN_DEFAULT = "roles,rolebindings"


def is_gone(admin: KubeClient, namespace: str) -> bool:
    try:
        admin.get(object_path("v1", "namespaces", namespace))
    except NotFoundError:
        return True
    return False


@pytest.mark.usefixtures("demo")
def test_the_uninstall_keeps_pods_served_and_leaves_nothing(
    admin: KubeClient, installed: Node
) -> None:
    page = [line.replace("overlays/production", "overlays/demo") for line in typed("Uninstalling")]
    configurations, deployment, users, *claims, agents, drop, dropped, rest, labels = page
    digests = {p.name.partition("-")[0]: p.digests() for p in predictors_in(admin, DEMO_NAMESPACE)}

    run_typed(configurations)
    run_typed(deployment)
    assert len(run_typed(users).splitlines()) == 1 + len(digests)  # a heading, then a line a pod
    deployments = [f"deployment/{name}-predictor" for name in digests]
    kubectl("-n", DEMO_NAMESPACE, "rollout", "restart", *deployments)
    until(lambda: len(run_typed(users).splitlines()) == 1, "nobody mounts a slot")
    await_deployments(DEMO_NAMESPACE)
    served = predictors_in(admin, DEMO_NAMESPACE)
    assert {p.decision for p in served} == {""}
    assert {p.name.partition("-")[0]: p.digests() for p in served} == digests

    for command in claims:
        run_typed(command)
    run_typed(agents)
    assert installed.agents() == []
    run_typed(drop)
    run_typed(dropped)
    look = ("exec", "daemonset/larder-drop-bytes", "--", "ls", "-A", "/var/lib/larder")
    assert kubectl("-n", SYSTEM_NAMESPACE, *look) == ""

    run_typed(rest)
    for name in (SYSTEM_NAMESPACE, CREDENTIALS_NAMESPACE, DEMO_NAMESPACE):
        until(lambda name=name: is_gone(admin, name), f"namespace {name} was gone")
    assert installed.states()
    run_typed(labels)
    assert installed.states() == {}
    ours = ("-l", "app.kubernetes.io/part-of=larder", "-o", "name")
    assert kubectl("get", CLUSTER_WIDE, *ours) == ""
    assert kubectl("-n", "default", "get", IN_DEFAULT, *ours) == ""
