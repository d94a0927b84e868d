"""Whether the API server asks the webhook, and trusts it: checks of `larder doctor`. Pure.

Configurations, the bundle in them, the certificate behind it, and KServe's own webhook. Neither a
path nor a key is ever part of what is said.
"""

import base64
import binascii
import datetime as dt
from collections.abc import Iterator
from typing import Any, Final

from cryptography import x509

from certs.authority import Material, bundle_of, fingerprints, read_material
from certs.ca_bundle import Published, is_injected, patch_of
from certs.kube_api import read_secret
from cli.doctor_findings import APPLY, Check, Cluster, Fault, Verdict, What, named
from larder.contract import SYSTEM_NAMESPACE
from runtime.kube.objects import KubeObject
from webhook.certificates import CONFIGURATION, ENDPOINTS, SECRET

KSERVE: Final = "serving.kserve.io"  # in the name of the configuration that adds initializers
SOON: Final = dt.timedelta(days=3)  # a certificate is renewed ten days before it ends
_KINDS: Final = {
    What.MUTATING: ("inferenceservices.larder.dev", "llminferenceservices.larder.dev"),
    What.VALIDATING: ("catalog.larder.dev",),
}
_BY_WEBHOOK: Final = (
    "The webhook writes it within a minute of its start: kubectl -n larder-system logs "
    "-l app.kubernetes.io/name=larder-webhook --prefix says why it does not"
)
_BY_INJECTOR: Final = "Whoever injects it (cert-manager, OpenShift) says why: look at its log"


def webhooks_not_asked(cluster: Cluster) -> Iterator[Fault]:
    """A configuration, a webhook of it, its bundle or its path is missing."""
    for what, names in _KINDS.items():
        configuration = cluster.get(what, CONFIGURATION)
        if configuration is None:
            sentence = f"{CONFIGURATION} is not among the {what}: the API server asks nobody"
            yield Fault(Verdict.BROKEN, sentence, APPLY)
            continue
        there = {webhook["name"]: webhook for webhook in configuration.get("webhooks") or ()}
        for name in names:
            if name not in there:
                yield Fault(Verdict.BROKEN, f"webhook {name} is not in its configuration", APPLY)
            elif fault := _asking_fault(there[name], configuration, cluster.now):
                yield fault


def _asking_fault(webhook: KubeObject, configuration: KubeObject, now: float) -> Fault | None:
    name, client = webhook["name"], webhook.get("clientConfig") or {}
    cure = _BY_INJECTOR if is_injected(configuration) else _BY_WEBHOOK
    if not client.get("caBundle"):
        return Fault(Verdict.BROKEN, f"webhook {name} has no caBundle", cure)
    ends = [c.not_valid_after_utc for c in _authorities(client["caBundle"])]
    if not ends or max(ends) < _time(now):
        fault = "has expired" if ends else "cannot be read"
        return Fault(Verdict.BROKEN, f"the caBundle of webhook {name} {fault}", cure)
    if not (client.get("service") or {}).get("path"):
        return Fault(Verdict.BROKEN, f"webhook {name} has no path", _BY_WEBHOOK)
    return None


def pods_refused(cluster: Cluster) -> Iterator[Fault]:
    """An admin changed what happens without an answer, or after others changed the pod."""
    for webhook in (cluster.get(What.MUTATING, CONFIGURATION) or {}).get("webhooks") or ():
        name = webhook["name"]
        if webhook.get("failurePolicy") != "Ignore":
            sentence = f"webhook {name} has failurePolicy Fail: without it, pods are not made"
            cure = "Set it to Ignore, unless this is the demo"
            yield Fault(Verdict.WARNING, sentence, cure)
        if webhook.get("reinvocationPolicy") != "IfNeeded":
            sentence = f"webhook {name} is not asked again after others changed the pod"
            yield Fault(Verdict.WARNING, sentence, "Set reinvocationPolicy: IfNeeded")


def kserve_missing(cluster: Cluster) -> Iterator[Fault]:
    """Nobody adds initializers, or only after Larder has looked for them."""
    if cluster.asked is None:
        sentence = "KServe is not installed: there are no pods to serve"
        yield Fault(Verdict.WARNING, sentence, "Install KServe; it may come after Larder")
        return
    names = [
        name
        for (_, name), configuration in cluster[What.MUTATING].items()
        if KSERVE in name and any(map(_is_about_pods, configuration.get("webhooks") or ()))
    ]
    if not names:
        sentence = "no webhook of KServe's is asked about pods: none gets its model"
        yield Fault(Verdict.BROKEN, sentence, "Repair KServe's install")
    elif max(names) > CONFIGURATION:
        sentence = f"{max(names)} sorts after {CONFIGURATION}, so that Larder is asked too early"
        cure = "Nothing, while reinvocationPolicy is IfNeeded: Larder is asked again"
        yield Fault(Verdict.WARNING, sentence, cure, (max(names),))


def _is_about_pods(webhook: KubeObject) -> bool:
    return any("pods" in (rule.get("resources") or ()) for rule in webhook.get("rules") or ())


def certificate_unfit(cluster: Cluster) -> Iterator[Fault]:
    """The Secret and what the configurations publish do not go together, or it ends."""
    secret = cluster.get(What.CERTIFICATES, SECRET, SYSTEM_NAMESPACE)
    if secret is None:
        yield Fault(Verdict.BROKEN, f"Secret {SECRET} is not there; no webhook may make it", APPLY)
        return
    material = read_material(read_secret(secret).data)
    found = [c for what in _KINDS if (c := cluster.get(what, CONFIGURATION))]
    ours = [c for c in found if not is_injected(c)]
    for part in material.faults:
        yield Fault(Verdict.BROKEN, f"Secret {SECRET}: {part}", _BY_WEBHOOK)
    if not material.path:
        yield Fault(Verdict.BROKEN, f"Secret {SECRET} has no admission path yet", _BY_WEBHOOK)
    elif any(_differs(c, material) for c in found):
        sentence = "a configuration has not what the Secret says: the webhook puts it right in 30 s"
        yield Fault(Verdict.WARNING, sentence, _BY_WEBHOOK)
    if ours:
        yield from _leaf_faults(material, ours, _time(cluster.now))


def _differs(configuration: KubeObject, material: Material) -> bool:
    if not material.path or not (material.authorities or is_injected(configuration)):
        return False
    wanted = Published(bundle_of(material.authorities), material.path, ENDPOINTS)
    return bool(patch_of(configuration, wanted))


def _leaf_faults(
    material: Material, configurations: list[KubeObject], now: dt.datetime
) -> Iterator[Fault]:
    leaf = material.leaf
    if leaf is None:
        if not material.faults:
            yield Fault(Verdict.BROKEN, f"Secret {SECRET} has no certificate yet", _BY_WEBHOOK)
        return
    begin, end = leaf.certificate.not_valid_before_utc, leaf.certificate.not_valid_after_utc
    if not begin <= now <= end:
        sentence = f"the serving certificate is valid from {begin:%F %T} to {end:%F %T} UTC only"
        yield Fault(Verdict.BROKEN, sentence, _BY_WEBHOOK)
    elif end - now < SOON:
        sentence = f"the serving certificate ends at {end:%F %T} UTC and was not renewed"
        yield Fault(Verdict.WARNING, sentence, _BY_WEBHOOK)
    signers = {a.fingerprint for a in material.authorities if leaf.is_signed_by(a)}
    distrusting = {
        webhook["name"]
        for configuration in configurations
        for webhook in configuration.get("webhooks") or ()
        if not signers & fingerprints(_decoded(webhook["clientConfig"].get("caBundle")))
    }
    if distrusting:
        sentence = f"the caBundle of {named(distrusting)} does not trust the serving certificate"
        yield Fault(Verdict.BROKEN, sentence, _BY_WEBHOOK, tuple(sorted(distrusting)))


def _authorities(bundle: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_decoded(bundle))
    except ValueError:
        return []


def _decoded(bundle: Any) -> bytes:
    try:
        return base64.b64decode(bundle or "", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _time(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(now, dt.UTC)


CHECKS: Final = (
    Check(
        "webhooks",
        "the API server knows where to ask, and whom to trust",
        (What.MUTATING, What.VALIDATING),
        webhooks_not_asked,
    ),
    Check("admission", "pods are made whatever becomes of it", (What.MUTATING,), pods_refused),
    Check(
        "certificate",
        "it is valid, and the API server trusts it",
        (What.CERTIFICATES, What.MUTATING, What.VALIDATING),
        certificate_unfit,
    ),
    Check("kserve", "it adds its initializers", (What.SERVICES, What.MUTATING), kserve_missing),
)
