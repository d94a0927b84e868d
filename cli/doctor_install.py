"""Whether what was installed is there, in force, and at work: the checks of `larder doctor`. Pure.

The cluster's version; admission policies, to the letter; workloads, their pods and the Lease.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from cli.doctor_findings import APPLY, Check, Cluster, Fault, Verdict, What
from controller.planning.leadership import LEASE_SECONDS
from controller.planning.policies import FINGERPRINTS, binding_fault, policy_fault
from larder.contract import AGENT_NODE_LABEL, SYSTEM_NAMESPACE
from runtime.kube.version import is_too_old

SHIPPED: Final[Mapping[str, str]] = {
    **FINGERPRINTS,
    "larder-agent-own-node-only": (
        "6863f59372bec877934a7e6d249eb647a34bc3f8a771626327f0d3a12402f980"
    ),
    "larder-webhook-bundle-and-path-only": (
        "63bcf54a993be7be08d89daa6cdbb4f2ae8a4a29c1413ab182900c599ed7cdd5"
    ),
}
"""Every policy that an install has, by the SHA-256 of its spec."""
DROP_RIGHTS: Final = (
    "Do not use Larder here, and take away the rights that an install left: kubectl delete "
    "clusterrolebindings,rolebindings -A -l app.kubernetes.io/part-of=larder"
)
LATE_SECONDS: Final = 4 * LEASE_SECONDS  # the clock here may be another one than the replicas'
_BAD_WAITS: Final = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)


# --- the cluster itself ---------------------------------------------------------------------------


def cluster_too_old(cluster: Cluster) -> Iterator[Fault]:
    """Nothing would hold the tokens of Larder's programs to what they may write."""
    because = ""
    if is_too_old(cluster.version):
        because = f"Kubernetes {cluster.version} is older than 1.30"
    elif What.POLICIES in cluster.unserved:
        because = f"the API server serves no {What.POLICIES} of admissionregistration.k8s.io/v1"
    if because:
        sentence = f"{because}: nothing narrows what Larder's programs may write"
        yield Fault(Verdict.BROKEN, sentence, DROP_RIGHTS)


def policies_not_in_force(cluster: Cluster) -> Iterator[Fault]:
    """One was taken away, weakened, or is another release's."""
    for name in sorted(SHIPPED):
        policy = cluster.get(What.POLICIES, name)
        binding = cluster.get(What.BINDINGS, name)
        for fault in (
            policy_fault(name, policy, cluster.cache_root, SHIPPED),
            binding_fault(name, binding),
        ):
            if fault:
                yield Fault(Verdict.BROKEN, fault, APPLY, (name,))


# --- what runs ------------------------------------------------------------------------------------


def deployments_not_ready(cluster: Cluster) -> Iterator[Fault]:
    """Webhook and controller: none ready, or fewer than wanted."""
    for name, loss in (
        ("larder-webhook", "new pods start without the cache"),
        ("larder-controller", "claims stay as they are"),
    ):
        found = cluster.get(What.DEPLOYMENTS, name, SYSTEM_NAMESPACE)
        if found is None:
            yield Fault(Verdict.BROKEN, f"Deployment {name} is not there: {loss}", APPLY)
            continue
        wanted = (found.get("spec") or {}).get("replicas", 1)
        ready = (found.get("status") or {}).get("readyReplicas", 0)
        if ready == 0:
            sentence = f"no replica of Deployment {name} is ready: {loss}"
            yield Fault(Verdict.BROKEN, sentence, _logs_of("deployment", name))
        elif ready < wanted:
            sentence = f"{ready} of {wanted} replicas of Deployment {name} are ready"
            yield Fault(Verdict.WARNING, sentence, _logs_of("deployment", name))


def budget_missing(cluster: Cluster) -> Iterator[Fault]:
    """A drain may take all webhooks at once."""
    if cluster.get(What.BUDGETS, "larder-webhook", SYSTEM_NAMESPACE) is None:
        sentence = "PodDisruptionBudget larder-webhook is not there: a drain may take every replica"
        yield Fault(Verdict.WARNING, sentence, APPLY)


def agents_not_ready(cluster: Cluster) -> Iterator[Fault]:
    """The DaemonSet is missing, chooses no node, or has pods that are not ready."""
    found = cluster.get(What.DAEMON_SETS, "larder-agent", SYSTEM_NAMESPACE)
    if found is None:
        yield Fault(Verdict.BROKEN, "DaemonSet larder-agent is not there: nothing is filled", APPLY)
        return
    status = found.get("status") or {}
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    label = "=".join(AGENT_NODE_LABEL)
    if wanted == 0:
        sentence = f"no node has an agent: none that pods may run on is labelled {label}"
        yield Fault(Verdict.WARNING, sentence, f"Label the nodes with a disk for models {label}")
    elif ready < wanted:
        verdict = Verdict.WARNING if ready else Verdict.BROKEN
        sentence = f"{ready} of {wanted} agents are ready"
        yield Fault(verdict, sentence, _logs_of("daemonset", "larder-agent"))


def cache_roots_differ(cluster: Cluster) -> Iterator[Fault]:
    """Pods would be pointed at a directory that no agent fills."""
    roots = {
        "the agents": str(cluster.cache_root),
        **{
            f"Deployment {name}": cluster.argument(What.DEPLOYMENTS, name, "--cache-root")
            or "/var/lib/larder"
            for name in ("larder-webhook", "larder-controller")
            if cluster.get(What.DEPLOYMENTS, name, SYSTEM_NAMESPACE)
        },
    }
    if len(set(roots.values())) > 1:
        said = ", ".join(f"{who}: {root}" for who, root in roots.items())
        cure = (
            "Give all three the same --cache-root, and say it in larder-controller-own-volumes-only"
        )
        yield Fault(Verdict.BROKEN, f"the cache roots differ ({said})", cure)


def pods_not_running(cluster: Cluster) -> Iterator[Fault]:
    """Containers that the kubelet cannot start, or starts again and again."""
    for (_, name), pod in sorted(cluster[What.PODS].items()):
        for status in (pod.get("status") or {}).get("containerStatuses") or ():
            waiting = ((status.get("state") or {}).get("waiting") or {}).get("reason")
            if waiting not in _BAD_WAITS:
                continue
            node = (pod.get("spec") or {}).get("nodeName") or "no node"
            sentence = f"pod {name} on {node} does not start: {waiting}"
            log = f"kubectl -n {SYSTEM_NAMESPACE} logs {name} --previous"
            is_crash = waiting == "CrashLoopBackOff"
            cure = f"{log} has its last words" if is_crash else _describe(name)
            yield Fault(Verdict.BROKEN, sentence, cure, (name,))


def lease_is_late(cluster: Cluster) -> Iterator[Fault]:
    """No replica of the controller acts."""
    lease = cluster.get(What.LEASES, "larder-controller", SYSTEM_NAMESPACE)
    if lease is None:
        yield Fault(
            Verdict.BROKEN, "Lease larder-controller is not there: nobody makes claims", APPLY
        )
        return
    spec = lease.get("spec") or {}
    late = cluster.now - _moment(spec.get("renewTime"))
    if not spec.get("holderIdentity"):
        sentence = "no replica of the controller holds the Lease: nobody makes claims"
        yield Fault(Verdict.BROKEN, sentence, _logs_of("deployment", "larder-controller"))
    elif late > LATE_SECONDS:
        sentence = f"the controller's Lease was not renewed for {late:.0f} s: nobody makes claims"
        yield Fault(Verdict.BROKEN, sentence, _logs_of("deployment", "larder-controller"))


def _moment(text: Any) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return 0.0


def _logs_of(kind: str, name: str) -> str:
    label = f"app.kubernetes.io/name={name}"
    where = f"kubectl -n {SYSTEM_NAMESPACE}"
    return f"{where} describe {kind} {name}, and {where} logs -l {label} --prefix, say why"


def _describe(pod: str) -> str:
    return f"kubectl -n {SYSTEM_NAMESPACE} describe pod {pod} says why"


CHECKS: Final = (
    Check("kubernetes", "it is new enough", (What.VERSION,), cluster_too_old),
    Check(
        "policies",
        "all are in force, to the letter",
        (What.POLICIES, What.BINDINGS),
        policies_not_in_force,
    ),
    Check("deployments", "every replica is ready", (What.DEPLOYMENTS,), deployments_not_ready),
    Check("disruptions", "the webhook has its budget", (What.BUDGETS,), budget_missing),
    Check("daemonset", "every agent is ready", (What.DAEMON_SETS,), agents_not_ready),
    Check(
        "cache root",
        "it is the same everywhere",
        (What.DAEMON_SETS, What.DEPLOYMENTS),
        cache_roots_differ,
    ),
    Check("pods", "none of Larder's fails to start", (What.PODS,), pods_not_running),
    Check("leader", "a controller holds the Lease", (What.LEASES,), lease_is_late),
)
