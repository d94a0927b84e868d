"""What can be amiss with what was installed, and with the way to the webhook: each is found."""

import base64
import datetime as dt
from typing import Any

import pytest
from doctor_world import (
    KINDS,
    NOW,
    Expected,
    Install,
    Spoil,
    check_found,
    written,
)

from certs.authority import Material
from cli.doctor_install import DROP_RIGHTS, SHIPPED
from cli.doctor_reads import TARGETS, What
from controller.planning.policies import FINGERPRINTS, fingerprint
from larder.layout import DEFAULT_ROOT
from tests.deploy.shipped import INSTALLED
from tests.runtime.kube.api_server import refusing

POLICY = "larder-claims-read-only"


def old_cluster(install: Install) -> None:
    install.server.discovery["/version"] = {"gitVersion": "v1.29.15-gke.100"}


def without_policy_api(install: Install) -> None:
    for what in (What.POLICIES, What.BINDINGS):
        install.server.standing["GET", TARGETS[what].path] = refusing(404, "NotFound")


def weakened(install: Install) -> None:
    install.the("validatingadmissionpolicies", POLICY, "")["spec"]["failurePolicy"] = "Ignore"


def unbound(install: Install) -> None:
    install.remove("validatingadmissionpolicybindings", POLICY, "")


def late_lease(install: Install) -> None:
    spec = install.the("leases", "larder-controller")["spec"]
    spec["renewTime"] = written(NOW - dt.timedelta(minutes=10))


def given_up_lease(install: Install) -> None:
    install.the("leases", "larder-controller")["spec"]["holderIdentity"] = ""


def other_root(install: Install) -> None:
    install.run_with("deployments", "larder-controller", "--cache-root=/mnt/nvme")


def agents(wanted: int, is_ready: int) -> Spoil:
    status = {"desiredNumberScheduled": wanted, "numberReady": is_ready}
    return lambda install: install.the("daemonsets", "larder-agent").update(status=status)


INSTALL = [
    pytest.param(
        old_cluster,
        [("kubernetes", "broken", "Kubernetes v1.29.15-gke.100 is older than 1.30")],
        id="a cluster that is too old",
    ),
    pytest.param(
        without_policy_api,
        [
            ("kubernetes", "broken", "the API server serves no validatingadmissionpolicies"),
            ("policies", "not checked", "the API server serves no validatingadmissionpolicies"),
        ],
        id="one without the policies' API",
    ),
    pytest.param(
        weakened,
        [("policies", "broken", f"policy {POLICY} is not the one of this release")],
        id="a policy that was weakened",
    ),
    pytest.param(
        unbound,
        [("policies", "broken", f"the binding of policy {POLICY} is not there")],
        id="a policy that binds nobody",
    ),
    pytest.param(
        lambda i: i.remove("deployments", "larder-controller"),
        [("deployments", "broken", "Deployment larder-controller is not there")],
        id="no controller",
    ),
    pytest.param(
        lambda i: i.remove("poddisruptionbudgets", "larder-webhook"),
        [("disruptions", "warning", "PodDisruptionBudget larder-webhook is not there")],
        id="no disruption budget",
    ),
    pytest.param(
        lambda i: i.remove("daemonsets", "larder-agent"),
        [("daemonset", "broken", "DaemonSet larder-agent is not there")],
        id="no agents",
    ),
    pytest.param(
        agents(0, 0), [("daemonset", "warning", "no node has an agent")], id="no node for agents"
    ),
    pytest.param(
        agents(2, 1), [("daemonset", "warning", "1 of 2 agents are ready")], id="an agent less"
    ),
    pytest.param(
        agents(2, 0), [("daemonset", "broken", "0 of 2 agents are ready")], id="no agent ready"
    ),
    pytest.param(
        other_root,
        [("cache root", "broken", "Deployment larder-controller: /mnt/nvme")],
        id="cache roots that differ",
    ),
    pytest.param(
        lambda i: i.agent("gpu-1", waiting="CrashLoopBackOff"),
        [("pods", "broken", "pod larder-agent-gpu-1 on gpu-1 does not start: CrashLoopBackOff")],
        id="a pod that crashes",
    ),
    pytest.param(
        lambda i: i.agent("gpu-1", waiting="ImagePullBackOff"),
        [("pods", "broken", "pod larder-agent-gpu-1 on gpu-1 does not start: ImagePullBackOff")],
        id="a pod without image",
    ),
    pytest.param(
        lambda i: i.agent("gpu-1", waiting="ContainerCreating"), [], id="a pod that is coming"
    ),
    pytest.param(
        lambda i: i.remove("leases", "larder-controller"),
        [("leader", "broken", "Lease larder-controller is not there")],
        id="no lease",
    ),
    pytest.param(
        late_lease, [("leader", "broken", "was not renewed for 6")], id="a lease that stands still"
    ),
    pytest.param(
        given_up_lease,
        [("leader", "broken", "no replica of the controller holds the Lease")],
        id="a lease that nobody holds",
    ),
]


@pytest.mark.parametrize(("spoil", "expected"), INSTALL)
def test_a_fault_of_the_install_is_found_with_a_cure(
    install: Install, spoil: Spoil, expected: Expected
) -> None:
    check_found(install, spoil, expected)


# --- webhooks -------------------------------------------------------------------------------------


def hook(install: Install) -> Any:
    return install.configuration("mutating")["webhooks"][0]


def without_bundle(install: Install) -> None:
    hook(install)["clientConfig"]["caBundle"] = ""


def without_path(install: Install) -> None:
    del hook(install)["clientConfig"]["service"]["path"]


def other_path(install: Install) -> None:
    hook(install)["clientConfig"]["service"]["path"] = "/elsewhere"


def unreadable_bundle(install: Install) -> None:
    hook(install)["clientConfig"]["caBundle"] = base64.b64encode(b"no PEM").decode()


def bundle_of_others(install: Install) -> None:
    install.publish(install.new_material(NOW))


def expired(install: Install) -> None:
    install.certify(install.new_material(NOW - dt.timedelta(days=5000)))


def ending(install: Install) -> None:
    end = install.material.leaf
    assert end
    days = (end.certificate.not_valid_after_utc - NOW).days - 1
    install.certify(install.new_material(NOW - dt.timedelta(days=days)))


def injected(install: Install) -> None:
    """As with cert-manager: the bundle is that of others, and the Secret holds the path alone."""
    bundle_of_others(install)
    for kind in KINDS:
        annotations = {"cert-manager.io/inject-ca-from": "larder-system/larder-webhook"}
        install.configuration(kind)["metadata"]["annotations"] = annotations
    install.secret(Material(path=install.material.path))


def injected_nothing(install: Install) -> None:
    injected(install)
    without_bundle(install)


def spoilt_secret(install: Install) -> None:
    install.the("secrets", "larder-webhook-certificates")["data"]["tls.crt"] = "bm9uZQ=="


def kserve_after(install: Install) -> None:
    install.remove("mutatingwebhookconfigurations", "inferenceservice.serving.kserve.io", "")
    install.kserve("zz-inferenceservice.serving.kserve.io")


WEBHOOKS = [
    pytest.param(
        lambda i: i.remove("mutatingwebhookconfigurations", "larder.dev", ""),
        [("webhooks", "broken", "larder.dev is not among the mutatingwebhookconfigurations")],
        id="no configuration",
    ),
    pytest.param(
        lambda i: i.configuration("mutating")["webhooks"].pop(0),
        [("webhooks", "broken", "webhook inferenceservices.larder.dev is not in its")],
        id="a webhook less",
    ),
    pytest.param(
        without_bundle,
        [
            ("webhooks", "broken", "webhook inferenceservices.larder.dev has no caBundle"),
            ("certificate", "warning", "a configuration has not what the Secret says"),
            ("certificate", "broken", "inferenceservices.larder.dev does not trust"),
        ],
        id="no bundle",
    ),
    pytest.param(
        unreadable_bundle,
        [
            ("webhooks", "broken", "caBundle of webhook inferenceservices.larder.dev cannot be"),
            ("certificate", "warning", "a configuration has not what the Secret says"),
            ("certificate", "broken", "inferenceservices.larder.dev does not trust"),
        ],
        id="a bundle that is none",
    ),
    pytest.param(
        without_path,
        [
            ("webhooks", "broken", "webhook inferenceservices.larder.dev has no path"),
            ("certificate", "warning", "a configuration has not what the Secret says"),
        ],
        id="no path",
    ),
    pytest.param(
        other_path,
        [("certificate", "warning", "a configuration has not what the Secret says")],
        id="another path",
    ),
    pytest.param(
        bundle_of_others,
        [
            ("certificate", "warning", "a configuration has not what the Secret says"),
            (
                "certificate",
                "broken",
                "llminferenceservices.larder.dev does not trust the serving certificate",
            ),
        ],
        id="a bundle of somebody else's",
    ),
    pytest.param(
        expired,
        [
            ("webhooks", "broken", "inferenceservices.larder.dev has expired"),
            ("webhooks", "broken", "llminferenceservices.larder.dev has expired"),
            ("webhooks", "broken", "catalog.larder.dev has expired"),
            ("certificate", "broken", "the serving certificate is valid from"),
        ],
        id="certificates that have expired",
    ),
    pytest.param(
        ending,
        [("certificate", "warning", "the serving certificate ends at")],
        id="a certificate that ends",
    ),
    pytest.param(injected, [], id="a bundle that cert-manager injects"),
    pytest.param(
        injected_nothing,
        [("webhooks", "broken", "webhook inferenceservices.larder.dev has no caBundle")],
        id="cert-manager that injects none",
    ),
    pytest.param(
        lambda i: i.remove("secrets", "larder-webhook-certificates"),
        [("certificate", "broken", "Secret larder-webhook-certificates is not there")],
        id="no Secret",
    ),
    pytest.param(
        lambda i: i.the("secrets", "larder-webhook-certificates").pop("data"),
        [
            ("certificate", "broken", "has no admission path yet"),
            ("certificate", "broken", "has no certificate yet"),
        ],
        id="an empty Secret",
    ),
    pytest.param(
        spoilt_secret,
        [("certificate", "broken", "Secret larder-webhook-certificates: tls.crt")],
        id="a spoilt Secret",
    ),
    pytest.param(
        lambda i: hook(i).update(failurePolicy="Fail"),
        [("admission", "warning", "inferenceservices.larder.dev has failurePolicy Fail")],
        id="pods that are refused without it",
    ),
    pytest.param(
        lambda i: hook(i).update(reinvocationPolicy="Never"),
        [("admission", "warning", "inferenceservices.larder.dev is not asked again")],
        id="a webhook that is asked once",
    ),
    pytest.param(
        lambda i: i.server.discovery.pop("/apis/serving.kserve.io"),
        [("kserve", "warning", "KServe is not installed")],
        id="no KServe",
    ),
    pytest.param(
        lambda i: i.remove(
            "mutatingwebhookconfigurations", "inferenceservice.serving.kserve.io", ""
        ),
        [("kserve", "broken", "no webhook of KServe's is asked about pods")],
        id="KServe without its webhook",
    ),
    pytest.param(
        kserve_after,
        [("kserve", "warning", "zz-inferenceservice.serving.kserve.io sorts after larder.dev")],
        id="KServe's webhook after ours",
    ),
]


@pytest.mark.parametrize(("spoil", "expected"), WEBHOOKS)
def test_a_fault_on_the_way_to_the_webhook_is_found_with_a_cure(
    install: Install, spoil: Spoil, expected: Expected
) -> None:
    check_found(install, spoil, expected)


def test_an_old_cluster_is_told_which_rights_to_take_away(install: Install) -> None:
    old_cluster(install)
    run = install.doctor()
    assert run.status == 1
    assert DROP_RIGHTS in run.out
    assert "-l app.kubernetes.io/part-of=larder" in DROP_RIGHTS
    labels = {
        (content["metadata"].get("labels") or {}).get("app.kubernetes.io/part-of")
        for content in INSTALLED
        if content["kind"] in {"ClusterRoleBinding", "RoleBinding"}
    }
    assert labels == {"larder"}


def test_every_policy_that_is_shipped_is_compared_to_the_letter(install: Install) -> None:
    shipped = {
        content["metadata"]["name"]: fingerprint(content["spec"], DEFAULT_ROOT)
        for content in INSTALLED
        if content["kind"] == "ValidatingAdmissionPolicy"
    }
    assert shipped == SHIPPED
    assert set(FINGERPRINTS) < set(SHIPPED)
    for name in SHIPPED:
        install.remove("validatingadmissionpolicies", name, "")
    (found,) = [install.found("policies")]
    assert {f["about"][0] for f in found} == set(SHIPPED)


def test_another_cache_root_is_that_of_all_programs_and_the_policy(install: Install) -> None:
    for plural, name in (
        ("daemonsets", "larder-agent"),
        ("deployments", "larder-webhook"),
        ("deployments", "larder-controller"),
    ):
        install.run_with(plural, name, "--cache-root=/mnt/nvme")
    (found,) = install.found()
    assert "larder-controller-own-volumes-only is not the one of this release" in found["sentence"]
    policy = install.the("validatingadmissionpolicies", "larder-controller-own-volumes-only", "")
    for variable in policy["spec"]["variables"]:
        if variable["name"] == "cacheRoot":
            variable["expression"] = '"/mnt/nvme"'
    assert install.found() == []
