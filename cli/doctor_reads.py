"""What `larder doctor` reads of a cluster: each collection once, nothing changed.

Of Secrets in larder-credentials only metadata comes over the wire. What the user may not list is
named; an API server that does not answer is the caller's `KubeError`.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from cli.doctor_findings import Cluster, Objects, What
from cli.inputs import CatalogFile, check_catalog
from controller.planning.wanted import Uris
from controller.services import GROUP, service_versions, uris_by_namespace, uris_only
from larder.claims import MANAGED_BY, MANAGED_BY_LABEL
from larder.contract import CATALOG_CONFIG_MAP, CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from larder.errors import CatalogError
from runtime.catalog_config_map import catalog_document
from runtime.kube.client import KubeClient
from runtime.kube.errors import ForbiddenError, NotFoundError
from runtime.kube.objects import KubeObject, name_of
from runtime.kube.paths import collection_path
from runtime.kube.watch_protocol import Target
from webhook.certificates import SECRET

_REGISTRATION: Final = "admissionregistration.k8s.io/v1"


def _system(group_version: str, plural: str) -> Target:
    return Target(collection_path(group_version, plural, namespace=SYSTEM_NAMESPACE))


TARGETS: Final[Mapping[What, Target]] = {
    What.POLICIES: Target(collection_path(_REGISTRATION, "validatingadmissionpolicies")),
    What.BINDINGS: Target(collection_path(_REGISTRATION, "validatingadmissionpolicybindings")),
    What.MUTATING: Target(collection_path(_REGISTRATION, "mutatingwebhookconfigurations")),
    What.VALIDATING: Target(collection_path(_REGISTRATION, "validatingwebhookconfigurations")),
    What.CERTIFICATES: Target(
        collection_path("v1", "secrets", namespace=SYSTEM_NAMESPACE),
        field_selector=f"metadata.name={SECRET}",
    ),
    What.DEPLOYMENTS: _system("apps/v1", "deployments"),
    What.DAEMON_SETS: _system("apps/v1", "daemonsets"),
    What.BUDGETS: _system("policy/v1", "poddisruptionbudgets"),
    What.PODS: _system("v1", "pods"),
    What.LEASES: _system("coordination.k8s.io/v1", "leases"),
    What.CONFIG_MAPS: _system("v1", "configmaps"),
    What.NODES: Target(collection_path("v1", "nodes")),
    What.NAMESPACES: Target(collection_path("v1", "namespaces"), metadata_only=True),
    What.CREDENTIALS: Target(
        collection_path("v1", "secrets", namespace=CREDENTIALS_NAMESPACE), metadata_only=True
    ),
    What.CLAIMS: Target(
        collection_path("v1", "persistentvolumeclaims"),
        label_selector=f"{MANAGED_BY_LABEL}={MANAGED_BY}",
    ),
}


def read_cluster(client: KubeClient, now: float) -> Cluster:
    """Everything, as far as the user may. Raises `KubeError` where the API server fails."""
    unread: dict[What, str] = {}
    unserved: set[What] = set()
    objects: dict[What, Objects] = {}
    version, asked = "", None
    try:
        version = str(client.get("/version").get("gitVersion", ""))
    except ForbiddenError:
        unread[What.VERSION] = f"may not read {What.VERSION}"
    for what, target in TARGETS.items():
        try:
            objects[what] = _by_name(_listed(client, target))
        except ForbiddenError:
            unread[what] = f"may not list {what}"
        except NotFoundError:
            unread[what] = f"the API server serves no {what}"
            unserved.add(what)
    try:
        asked = _asked(client)
    except ForbiddenError:
        unread[What.SERVICES] = f"may not list {What.SERVICES}"
    catalog = _catalog(objects.get(What.CONFIG_MAPS))
    if catalog.catalog is None:
        unread[What.CATALOG] = unread.get(What.CONFIG_MAPS, f"there is no {What.CATALOG}")
    return Cluster(
        now=now,
        version=version,
        objects=objects,
        unread=unread,
        unserved=frozenset(unserved),
        asked=asked,
        good_catalog=catalog.catalog,
        catalog_problems=catalog.problems,
    )


def _listed(client: KubeClient, target: Target) -> tuple[KubeObject, ...]:
    is_thin = target.metadata_only
    return client.list(target.path, query=target.selectors, metadata_only=is_thin).items


def _by_name(items: Iterable[KubeObject]) -> Objects:
    return {name_of(content): content for content in items}


def _asked(client: KubeClient) -> Mapping[str, Uris] | None:
    """What services ask for, by namespace; None without KServe."""
    kinds = service_versions(client)
    paths = [collection_path(f"{GROUP}/{version}", plural) for plural, version in kinds.items()]
    found = [uris_only(service) for path in paths for service in client.list(path).items]
    return uris_by_namespace(found) if kinds else None


def _catalog(config_maps: Objects | None) -> CatalogFile:
    content = (config_maps or {}).get((SYSTEM_NAMESPACE, CATALOG_CONFIG_MAP))
    if content is None:
        return CatalogFile(None, (f"there is no ConfigMap {CATALOG_CONFIG_MAP}",))
    try:
        return check_catalog(catalog_document(content), standalone=False)
    except CatalogError as error:
        return CatalogFile(None, error.problems)
