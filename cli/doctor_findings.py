"""What `larder doctor` looks at and what it says, as values. Pure.

A check names what it needs of the cluster. What could not be read makes it "not checked", with the
reason; else it looks, and finding nothing is "ok".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from controller.planning.wanted import Uris
from larder.catalog import Catalog
from larder.contract import SYSTEM_NAMESPACE
from larder.layout import DEFAULT_ROOT
from larder.node_report import NodeReport, report_in
from runtime.kube.objects import KubeObject, ObjectName

Objects = Mapping[ObjectName, KubeObject]
_SHOWN: Final = 3  # names in a sentence; JSON has all of them
APPLY: Final = "Apply your overlay again: kubectl apply -k OVERLAY --server-side"


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    NOT_CHECKED = "not checked"


class What(StrEnum):
    """What is read of a cluster, in the words of "may not list …"."""

    VERSION = "the version"
    POLICIES = "validatingadmissionpolicies"
    BINDINGS = "validatingadmissionpolicybindings"
    MUTATING = "mutatingwebhookconfigurations"
    VALIDATING = "validatingwebhookconfigurations"
    CERTIFICATES = "the Secret larder-webhook-certificates in larder-system"
    DEPLOYMENTS = "deployments in larder-system"
    DAEMON_SETS = "daemonsets in larder-system"
    BUDGETS = "poddisruptionbudgets in larder-system"
    PODS = "pods in larder-system"
    LEASES = "leases in larder-system"
    CONFIG_MAPS = "configmaps in larder-system"
    NODES = "nodes"
    NAMESPACES = "namespaces"
    CREDENTIALS = "secrets in larder-credentials"
    CLAIMS = "persistentvolumeclaims"
    SERVICES = "services of KServe"
    CATALOG = "good catalog"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is amiss: what, what to do, and all that it is about."""

    verdict: Verdict
    sentence: str
    cure: str
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer."""

    check: str
    verdict: Verdict
    sentence: str
    cure: str = ""
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was read at `now`. `unread` says, as a clause, why something was not.

    `unserved` is what the API server does not know. `asked` are the URIs of KServe's services by
    namespace, None where KServe is not installed.
    """

    now: float
    objects: Mapping[What, Objects]
    unread: Mapping[What, str]
    unserved: frozenset[What] = frozenset()
    version: str = ""
    asked: Mapping[str, Uris] | None = None
    catalog_problems: tuple[str, ...] = ()
    good_catalog: Catalog | None = None

    def __getitem__(self, what: What) -> Objects:
        """All objects of a kind, by namespace and name."""
        return self.objects[what]

    def get(self, what: What, name: str, namespace: str = "") -> KubeObject | None:
        """One object, if it is there."""
        return self.objects[what].get((namespace, name))

    @property
    def catalog(self) -> Catalog:
        """The catalog, of a check that needs one."""
        if self.good_catalog is None:
            raise LookupError("the check does not say that it needs the catalog")
        return self.good_catalog

    def argument(self, what: What, name: str, flag: str) -> str | None:
        """What a workload's one container is given as `--flag=…`, if it is there and is given."""
        workload = self.objects.get(what, {}).get((SYSTEM_NAMESPACE, name)) or {}
        pod = workload.get("spec", {}).get("template", {}).get("spec", {})
        given = [a for c in pod.get("containers") or () for a in c.get("args") or ()]
        return next((a.removeprefix(f"{flag}=") for a in given if a.startswith(f"{flag}=")), None)

    @property
    def cache_root(self) -> PurePosixPath:
        """The agents' cache root, as far as the DaemonSet could be read."""
        said = self.argument(What.DAEMON_SETS, "larder-agent", "--cache-root")
        return PurePosixPath(said) if said else DEFAULT_ROOT

    @property
    def reports(self) -> Mapping[str, NodeReport]:
        """The nodes' reports that can be used, by node."""
        found = map(report_in, self.objects[What.CONFIG_MAPS].values())
        return {report.node: report for report in found if report}


@dataclass(frozen=True, slots=True)
class Check:
    """Looks at a cluster that has what it `needs`; `fine` is said where it finds nothing."""

    name: str
    fine: str
    needs: tuple[What, ...]
    look: Callable[[Cluster], Iterable[Fault]]


def findings_of(checks: Iterable[Check], cluster: Cluster) -> Iterator[Finding]:
    """What each check has to say: at least one line."""
    for check in checks:
        missing = dict.fromkeys(cluster.unread[w] for w in check.needs if w in cluster.unread)
        if missing:
            yield Finding(check.name, Verdict.NOT_CHECKED, "; ".join(missing))
            continue
        faults = tuple(check.look(cluster))
        for fault in faults:
            yield Finding(check.name, fault.verdict, fault.sentence, fault.cure, fault.about)
        if not faults:
            yield Finding(check.name, Verdict.OK, check.fine)


def named(names: Iterable[str]) -> str:
    """`a, b, c and 4 more`."""
    all_names = sorted(names)
    shown = ", ".join(all_names[:_SHOWN])
    hidden = len(all_names) - _SHOWN
    return f"{shown} and {hidden} more" if hidden > 0 else shown
