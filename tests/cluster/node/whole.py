"""The whole of Larder in a cluster: what an admin and KServe do, and what becomes of it."""

import itertools
import uuid
from dataclasses import dataclass, field

from larder.contract import CATALOG_CONFIG_MAP, CATALOG_DATA_KEY, SYSTEM_NAMESPACE
from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path, object_path
from tests.cluster.node.node_cluster import Node, is_ready, kubectl, require_images, until
from tests.cluster.node.predictors import HubPod, Model, Predictor, predictor_pod

CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/larder.dev"


def write_catalog(admin: KubeClient, *models: Model, join_timeout: str = "30m") -> None:
    """Put these models into the catalog; what leaves it may be evicted at once."""
    entries = "".join(f"\n- {model.entry}" for model in models) or " []"
    text = (
        "apiVersion: larder.dev/v1alpha1\nkind: Catalog\n"
        f"defaults: {{unlistedTTL: 0s, joinTimeout: {join_timeout}}}\nmodels:{entries}\n"
    )
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE},
        "data": {CATALOG_DATA_KEY: text},
    }
    path = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
    admin.apply(path, content, field_manager="admin")


def webhooks(admin: KubeClient, *, ready: bool = False) -> set[str]:
    """The webhook's pods: all, with those that are on their way out, or those that are ready."""
    query = [("labelSelector", "app.kubernetes.io/name=larder-webhook")]
    pods = admin.list(collection_path("v1", "pods", namespace=SYSTEM_NAMESPACE), query=query).items
    for pod in pods:
        require_images(pod)
    return {pod["metadata"]["name"] for pod in pods if is_ready(pod) or not ready}


def await_webhooks(admin: KubeClient) -> None:
    """Until the webhook is rolled out and the API server is told how to call it."""

    def is_told() -> bool:
        hooks = admin.get(CONFIGURATION)["webhooks"]
        return all(hook["clientConfig"].get("caBundle") for hook in hooks)

    until(lambda: len(webhooks(admin, ready=True)) > 1, "both webhooks were ready")
    until(is_told, "the webhook published its certificate")


def empty_cache(admin: KubeClient, node: Node) -> None:
    """Empty the catalog and wait until all that it listed is evicted; nobody may use it."""
    edits = itertools.count(30)

    def is_empty() -> bool:
        # An edit that changes something makes the agent look again.
        write_catalog(admin, join_timeout=f"{next(edits)}m")
        return not node.states() and not node.reported()

    until(is_empty, "everything was evicted; a pod may still use it", pause=1)


def await_deployments(namespace: str) -> None:
    """Until all of a namespace run."""
    wait = ("wait", "--for=condition=Available", "deployment", "--all", "--timeout=120s")
    kubectl("-n", namespace, *wait)


def predictors_in(admin: KubeClient, namespace: str) -> list[Predictor]:
    """The predictors that run and stay. Others are about: a kubelet that has not heard of a node's
    label yet refuses a pod, which is then made anew.
    """
    query = [("labelSelector", "component=predictor"), ("fieldSelector", "status.phase=Running")]
    pods = admin.list(collection_path("v1", "pods", namespace=namespace), query=query).items
    return [Predictor(admin, pod) for pod in pods if "deletionTimestamp" not in pod["metadata"]]


@dataclass
class Cluster:
    """The node with its agent, the hub, the catalog, and predictors that one test makes."""

    admin: KubeClient
    node: Node
    hub: HubPod
    predictors: list[Predictor] = field(default_factory=list)

    def write_catalog(self, *models: Model) -> None:
        write_catalog(self.admin, *models)

    def fill(self, *models: Model) -> None:
        """List models and wait until the node has them."""
        self.write_catalog(*models)
        for model in models:
            self.await_state(model, "ready")

    def await_state(self, model: Model, state: str) -> None:
        until(lambda: self.node.states().get(model.key) == state, f"{model.repo_id} became {state}")

    def predict(self, model: Model) -> Predictor:
        """Make a predictor pod, as KServe would."""
        name = f"predictor-{uuid.uuid4().hex[:8]}"
        made = self._create(predictor_pod(model, self.node.name, name))
        self.predictors.append(made)
        return made

    def try_to_predict(self, model: Model) -> str:
        """What the webhook decides about such a pod; makes none."""
        return self._create(predictor_pod(model, self.node.name, "nobody"), dry=True).decision

    def _create(self, pod: dict[str, object], *, dry: bool = False) -> Predictor:
        path = collection_path("v1", "pods", namespace=self.hub.namespace)
        query = [("dryRun", "All")] if dry else []
        return Predictor(self.admin, self.admin.create(path, pod, query=query))

    def tidy(self) -> None:
        """Delete the predictors, empty the catalog and wait until all of it is evicted."""
        for predictor in self.predictors:
            predictor.delete()
        self.hub.say()
        self.node.let_agent(run=True)
        empty_cache(self.admin, self.node)
