"""Whether pods can be given what the catalog promises them: checks of `larder doctor`. Pure.

The catalog as `larder catalog validate` has it, the Secrets that it names, the namespaces that it
is for, and the claims in those.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from cli.catalog import validation_of
from cli.doctor_findings import Check, Cluster, Fault, Verdict, What, named
from controller.planning.wanted import wanted_claims
from larder.catalog import ANY_NAMESPACE
from larder.claims import RETIRING_ANNOTATION, is_ours
from larder.contract import CREDENTIALS_NAMESPACE, VOLUME_LABEL
from larder.node_facts import facts_of, room_notes
from runtime.kube.objects import KubeObject, name_of
from webhook.claims import usable_claims, verdict_only
from webhook.mutation import View, VolumeMode
from webhook.mutation.slot_volume import slot_volume


def catalog_faults(cluster: Cluster) -> Iterator[Fault]:
    """Mistakes, and what a good catalog's admin should know."""
    read = validation_of(cluster.good_catalog, cluster.catalog_problems, standalone=False)
    for problem in read.problems:
        place = "" if problem.line is None else f"line {problem.line}: "
        cure = "Mend it, or make one; until then the last good one is in force, if any"
        yield Fault(Verdict.BROKEN, f"{place}{problem.sentence}", cure)
    facts = [facts_of(report) for report in cluster.reports.values()]
    room = room_notes(cluster.good_catalog, facts) if cluster.good_catalog else ()
    for note in (*read.notes, *(note for note in room if note not in read.notes)):
        yield Fault(Verdict.WARNING, note, "Edit the catalog, if that is not meant")


def secrets_missing(cluster: Cluster) -> Iterator[Fault]:
    """Secrets that entries name and nobody made."""
    wanted = defaultdict[str, set[str]](set)
    for entry in cluster.catalog.models:
        if entry.credentials and entry.credentials.secret_name:
            wanted[entry.credentials.secret_name].add(entry.name)
    for secret, models in sorted(wanted.items()):
        if cluster.get(What.CREDENTIALS, secret, CREDENTIALS_NAMESPACE) is None:
            sentence = f"Secret {secret} of model {named(models)} is not there"
            cure = f"Make it in namespace {CREDENTIALS_NAMESPACE}"
            yield Fault(Verdict.BROKEN, sentence, cure, tuple(sorted(models)))


def claims_unfit(cluster: Cluster) -> Iterator[Fault]:
    """Claims of ours that no pod can be given, by what is the matter with them."""
    found = defaultdict[str, set[str]](set)
    for claim in cluster[What.CLAIMS].values():
        if is_ours(claim) and (state := _state_of(claim)):
            found[state].add("/".join(name_of(claim)))
    for state, names in sorted(found.items()):
        verdict = Verdict.BROKEN if state == "Lost" else Verdict.WARNING
        cure = "The controller looks after them; Events of ConfigMap larder-catalog say what fails"
        yield Fault(verdict, f"claims are {state}: {named(names)}", cure, tuple(sorted(names)))


def _state_of(claim: KubeObject) -> str:
    """What is the matter with a claim; one that is retired on purpose has nothing."""
    metadata = claim["metadata"]
    if RETIRING_ANNOTATION in (metadata.get("annotations") or {}):
        return ""
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    phase = str((claim.get("status") or {}).get("phase", "unknown"))
    return "" if phase == "Bound" else phase


def namespaces_missing(cluster: Cluster) -> Iterator[Fault]:
    """Namespaces that an entry names and that are not there: misspelt, or not made yet."""
    there = {name for _, name in cluster[What.NAMESPACES]}
    for entry in cluster.catalog.models:
        if missing := set(entry.namespaces) - there - {ANY_NAMESPACE}:
            sentence = f"model {entry.name} is for {named(missing)}, which is not there"
            cure = "Mend the entry's namespaces, if that is not meant"
            yield Fault(Verdict.WARNING, sentence, cure, tuple(sorted(missing)))


def namespaces_without_volume(cluster: Cluster) -> Iterator[Fault]:
    """Namespaces whose pods start uncached: no hostPath there, and no claim that is Bound."""
    entries = {entry.key: entry for entry in cluster.catalog.models}
    usable = usable_claims(map(verdict_only, cluster[What.CLAIMS].values())) or {}
    there = frozenset(name for _, name in cluster[What.NAMESPACES])
    said = cluster.argument(What.DEPLOYMENTS, "larder-webhook", "--volumes")
    mode = next((m for m in VolumeMode if m == said), VolumeMode.BY_NAMESPACE)
    unserved = defaultdict[str, set[str]](set)
    for claim in wanted_claims(cluster.catalog, there, cluster.asked or {}).claims:
        metadata = cluster[What.NAMESPACES]["", claim.namespace]["metadata"]
        view = View(
            index=None,
            cache_root=cluster.cache_root,
            volumes=mode,
            namespace_labels=metadata.get("labels"),
            claims=usable.get(claim.namespace, frozenset()),
        )
        if slot_volume(entries[claim.key], view) is None:
            unserved[claim.namespace].add(entries[claim.key].name)
    for namespace, models in sorted(unserved.items()):
        sentence = f"pods of {namespace} cannot mount {named(models)}: no hostPath, no Bound claim"
        cure = f"Label it {VOLUME_LABEL}=hostPath, or see why the controller makes no claim"
        yield Fault(Verdict.WARNING, sentence, cure, tuple(sorted(models)))


CHECKS: Final = (
    Check("catalog", "it is good", (What.CONFIG_MAPS,), catalog_faults),
    Check(
        "credentials", "every Secret is there", (What.CATALOG, What.CREDENTIALS), secrets_missing
    ),
    Check("claims", "all are Bound, or on their way out", (What.CLAIMS,), claims_unfit),
    Check(
        "namespaces",
        "each that an entry names is there",
        (What.CATALOG, What.NAMESPACES),
        namespaces_missing,
    ),
    Check(
        "volumes",
        "each namespace can mount its models",
        (What.CATALOG, What.NAMESPACES, What.CLAIMS, What.SERVICES),
        namespaces_without_volume,
    ),
)
