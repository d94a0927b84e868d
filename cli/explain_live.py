"""`larder explain pod/NAME`, `isvc/NAME`: a pod that a cluster has, and what became of it.

Everything is read once, and nothing changed. What the user may not read is named as unknown; pods
and catalog must be readable.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from cli import OutputForm
from cli.inputs import CatalogFile, check_cache_root, check_catalog
from cli.output import FOUND_A_PROBLEM, console, refuse, show_json
from larder.contract import CATALOG_CONFIG_MAP, SYSTEM_NAMESPACE
from larder.errors import CatalogError
from larder.matching import CatalogIndex
from larder.node_facts import facts_of, ready_keys
from larder.node_report import NodeReport, report_in
from runtime.catalog_config_map import catalog_document
from runtime.kube.client import KubeClient
from runtime.kube.errors import ForbiddenError, KubeError, NotFoundError
from runtime.kube.objects import KubeObject, name_of
from runtime.kube.paths import collection_path, object_path
from webhook.claims import CLAIMS, usable_claims, verdict_only
from webhook.explaining.live_explanation import LiveExplanation, Surroundings, explain_live
from webhook.explaining.text import show_live
from webhook.mutation import View, VolumeMode
from webhook.node_reports import NODE_REPORTS

JSON_EXAMPLE: Final = """\
{
  "target": "pod/llama-predictor-6d5c7",
  "namespace": "chat",
  "isServed": true,
  "pods": [
    {
      "isServed": true, "name": "llama-predictor-6d5c7", "node": "gpu-1", "isRewritten": true,
      "annotations": {
        "larder.dev/decision": "Cached", "larder.dev/keys": "52a2d80d4bc5fa16"
      },
      "initializer": {"outcome": "Hit", "sentence": "hit in 0.01 s", "seconds": 0.01},
      "explanation": {},
      "nodes": [
        {
          "node": "gpu-1", "key": "52a2d80d4bc5fa16", "state": "Ready", "reason": null,
          "message": null, "revision": "0e9e39f249a16976918f6564b8830bc894c89659",
          "bytesDone": 4096, "bytesTotal": 4096, "etaSeconds": null, "canTakePod": true,
          "because": ""
        }
      ]
    }
  ],
  "unknown": ["GET /api/v1/nodes: not allowed"]
}"""

_PROGRAM: Final = "larder"
_POD: Final = "pod"
_INFERENCE_SERVICE: Final = "isvc"
_LABEL: Final = "serving.kserve.io/inferenceservice"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line says. `target` is `pod/NAME` or `isvc/NAME`."""

    target: str
    namespace: str
    kubeconfig: Path | None
    cache_root: PurePosixPath
    volumes: str


def explain(question: Question, output: OutputForm) -> int:
    """Print what became of a target's pods, and why. Returns the exit status."""
    check_cache_root(question.cache_root)
    kind, _, name = question.target.partition("/")
    if kind not in {_POD, _INFERENCE_SERVICE} or not name:
        refuse(f"{question.target!r} is no target; accepted: pod/NAME or isvc/NAME")
    if not question.namespace:
        refuse(f"{question.target} needs its namespace; accepted: --namespace NAME")
    try:
        client = KubeClient.from_kubeconfig(_PROGRAM, question.kubeconfig)
        try:
            result = _explained(question, _Reader(client, question.namespace))
        finally:
            client.close()
    except (KubeError, ValueError) as error:  # a name that is none is a ValueError
        refuse(str(error))
    if output == "json":
        show_json(result)
    else:
        show_live(console(), result)
    return 0 if result.is_served else FOUND_A_PROBLEM


def _explained(question: Question, reader: "_Reader") -> LiveExplanation:
    pods = reader.pods(question.target)
    around = reader.surroundings(question.cache_root, VolumeMode(question.volumes))
    explained = tuple(explain_live(pod, around) for pod in pods)
    return LiveExplanation(
        target=question.target,
        namespace=question.namespace,
        is_served=bool(explained) and all(pod.is_served for pod in explained),
        pods=explained,
        unknown=tuple(reader.unknown),
    )


# --- the reads ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reader:
    """Asks the API server, each thing once; `unknown` is what it would not tell."""

    client: KubeClient
    namespace: str
    unknown: list[str] = field(default_factory=list)

    def pods(self, target: str) -> tuple[KubeObject, ...]:
        """The pods of a target; none of an InferenceService that has none yet."""
        kind, _, name = target.partition("/")
        path = object_path("v1", "pods", name, namespace=self.namespace)
        try:
            if kind == _POD:
                return (self.client.get(path),)
            pods = collection_path("v1", "pods", namespace=self.namespace)
            found = self.client.list(pods, query=[("labelSelector", f"{_LABEL}={name}")]).items
            if not found:
                services = ("serving.kserve.io/v1beta1", "inferenceservices")
                self.client.get(object_path(*services, name, namespace=self.namespace))
        except NotFoundError:
            refuse(f"{target} is not there in namespace {self.namespace}")
        return found

    def surroundings(self, cache_root: PurePosixPath, volumes: VolumeMode) -> Surroundings:
        """What pods of the namespace are decided by, and the nodes."""
        read = self._catalog()
        reports = tuple(self._asked(self._reports) or ())
        view = View(
            index=CatalogIndex(read.catalog) if read.catalog else None,
            cache_root=cache_root,
            volumes=volumes,
            namespace_labels=self._asked(self._namespace_labels),
            ready=ready_keys(map(facts_of, reports)),
            claims=self._asked(self._claims),
        )
        return Surroundings(view, read.problems, reports, self._asked(self._nodes))

    def _asked(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except ForbiddenError as error:
            self.unknown.append(str(error))
            return None

    def _catalog(self) -> CatalogFile:
        path = object_path("v1", "configmaps", CATALOG_CONFIG_MAP, namespace=SYSTEM_NAMESPACE)
        try:
            read = check_catalog(catalog_document(self.client.get(path)), standalone=False)
        except NotFoundError:
            return CatalogFile(None, (f"there is no ConfigMap {CATALOG_CONFIG_MAP}",))
        except CatalogError as error:
            read = CatalogFile(None, error.problems)
        if read.problems:
            self.unknown.append("the last good catalog, which webhooks go on with")
        return read

    def _namespace_labels(self) -> dict[str, str]:
        content = self.client.get(object_path("v1", "namespaces", self.namespace))
        return content["metadata"].get("labels") or {}

    def _claims(self) -> frozenset[str] | None:
        """As the webhook knows them: None where nobody makes any in the whole cluster."""
        found = self.client.list(CLAIMS.path, query=CLAIMS.selectors).items
        claims = usable_claims(map(verdict_only, found))
        return None if claims is None else claims.get(self.namespace, frozenset())

    def _reports(self) -> list[NodeReport]:
        found = self.client.list(NODE_REPORTS.path, query=NODE_REPORTS.selectors).items
        return [report for report in map(report_in, found) if report]

    def _nodes(self) -> dict[str, KubeObject]:
        found = self.client.list(collection_path("v1", "nodes")).items
        return {name_of(node)[1]: node for node in found}
