"""Why a pod is left as KServe made it: a chain of named checks, each a fault and its reason.

The order is the order in which reasons are told: what says that the pod is none of ours first, what
needs the catalog last. Nothing is believed because an annotation or label says so, save for what
makes Larder stand aside: those may.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from larder.catalog import Defaults
from larder.contract import (
    CACHE_DISABLED,
    CACHE_OPT_OUT,
    INITIALIZER_COMMAND,
    KSERVE_ENTRYPOINT,
    STORAGE_INITIALIZER,
    DecisionReason,
)
from larder.matching import Match
from larder.storage_uri import is_unresolved
from webhook.mutation.pod import Container, Pod
from webhook.mutation.raw import Json, list_of, object_of, text_of
from webhook.mutation.values import AdmissionRequest

_KSERVE: Final = "serving.kserve.io"
_INFERENCE_SERVICE_LABEL: Final = f"{_KSERVE}/inferenceservice"
_PART_OF_LABEL: Final = "app.kubernetes.io/part-of"
_LLM_INFERENCE_SERVICE: Final = "llminferenceservice"  # fact T7
_AGENT_ANNOTATION: Final = f"internal.{_KSERVE}/agent"
_LOCAL_MODEL_LABEL: Final = f"internal.{_KSERVE}/localmodel"
_CONFIDENTIAL_ANNOTATION: Final = f"internal.{_KSERVE}/confidential-enabled"
_CONFIDENTIAL_VARIABLE: Final = "CONFIDENTIAL_ENABLED"

_INITIALIZER_REPOSITORY: Final = ["kserve", "storage-initializer"]  # behind any registry or mirror
_ODH_INITIALIZER: Final = "kserve-storage-initializer"
_ODH_INITIALIZER_PREFIX: Final = "odh-kserve-storage-initializer"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod is left alone. `detail` is a clause for an admin, without values of the pod."""

    reason: DecisionReason
    detail: str


@dataclass(frozen=True, slots=True)
class Case:
    """What the first checks look at; they need no catalog."""

    request: AdmissionRequest
    pod: Pod
    namespace_labels: Mapping[str, str]


def not_a_predictor(case: Case) -> Refusal | None:
    """The request is not the creation of a pod of an InferenceService or LLMInferenceService."""
    if not case.request.is_pod_creation:
        return Refusal(DecisionReason.NOT_A_PREDICTOR, "the request does not create a pod")
    labels = case.pod.labels
    if _INFERENCE_SERVICE_LABEL in labels or labels.get(_PART_OF_LABEL) == _LLM_INFERENCE_SERVICE:
        return None
    return Refusal(DecisionReason.NOT_A_PREDICTOR, "the pod has no label of a service of KServe's")


def opted_out(case: Case) -> Refusal | None:
    """The pod or its namespace says that it wants no cache."""
    for owner, words in (
        ("pod's labels", case.pod.labels),
        ("pod's annotations", case.pod.annotations),
        ("namespace's labels", case.namespace_labels),
    ):
        if words.get(CACHE_OPT_OUT) == CACHE_DISABLED:
            detail = f"the {owner} say {CACHE_OPT_OUT}: {CACHE_DISABLED}"
            return Refusal(DecisionReason.OPTED_OUT, detail)
    return None


def multi_model_agent(case: Case) -> Refusal | None:
    """KServe's agent loads models into the running pod."""
    if _AGENT_ANNOTATION in case.pod.annotations:
        detail = f"the pod has the annotation {_AGENT_ANNOTATION}"
        return Refusal(DecisionReason.MULTI_MODEL_AGENT, detail)
    return None


def managed_by_kserve_local_model(case: Case) -> Refusal | None:
    """KServe's own cache serves this model."""
    if _LOCAL_MODEL_LABEL in case.pod.labels:
        detail = f"the pod has the label {_LOCAL_MODEL_LABEL}"
        return Refusal(DecisionReason.MANAGED_BY_KSERVE_LOCAL_MODEL, detail)
    return None


def confidential_model(case: Case) -> Refusal | None:
    """The model is decrypted inside the pod, so a node's copy would be of no use."""
    said = [case.pod.annotations.get(_CONFIDENTIAL_ANNOTATION)]
    for container in _initializers(case.pod):
        variable = container.variables.get(_CONFIDENTIAL_VARIABLE)
        if variable is not None:
            said.append(variable.get("valueFrom") or variable.get("value"))
    if all(word is None or str(word).lower() in {"", "false"} for word in said):
        return None
    return Refusal(DecisionReason.CONFIDENTIAL_MODEL, "the pod asks for a confidential model")


def no_storage_initializer(case: Case) -> Refusal | None:
    """KServe downloads nothing for this pod, or has not looked at it yet."""
    if not _initializers(case.pod):
        detail = f"the pod has no init container {STORAGE_INITIALIZER}"
        return Refusal(DecisionReason.NO_STORAGE_INITIALIZER, detail)
    return None


_CHECKS: Final[tuple[Callable[[Case], Refusal | None], ...]] = (
    not_a_predictor,
    opted_out,
    multi_model_agent,
    managed_by_kserve_local_model,
    confidential_model,
    no_storage_initializer,
)


def foreign_pod(case: Case) -> Refusal | None:
    """The first reason, if any, for which a pod is none of Larder's, whatever the catalog says."""
    for check in _CHECKS:
        if refusal := check(case):
            return refusal
    return None


def _initializers(pod: Pod) -> list[Container]:
    return [c for c in pod.init_containers if c.name == STORAGE_INITIALIZER]


# --- the initializer ----------------------------------------------------------------------------


class Download(NamedTuple):
    """One pair of the initializer's arguments, as they stand."""

    uri: str
    destination: str


@dataclass(frozen=True, slots=True)
class Initializer:
    """An init container that Larder knows how to stand in for."""

    container: Container
    entrypoint: str
    downloads: tuple[Download, ...]


def known_initializer(pod: Pod, defaults: Defaults) -> Initializer | Refusal:
    """The pod's initializer, or why it is not one to take over.

    `CustomStorageContainer` is whatever does not behave as KServe's image with its own entrypoint:
    two containers of the name, a foreign image, a command. `UnresolvedUri` is arguments that are
    not pairs of texts, or that the kubelet would expand.
    """
    initializers = _initializers(pod)
    if len(initializers) != 1:
        detail = f"{len(initializers)} init containers are named {STORAGE_INITIALIZER}"
        return Refusal(DecisionReason.CUSTOM_STORAGE_CONTAINER, detail)
    container = initializers[0]
    entrypoint = _entrypoint(text_of(container.raw.get("image")), defaults)
    if entrypoint is None:
        detail = "its image is not KServe's, nor in defaults.storageInitializers"
        return Refusal(DecisionReason.CUSTOM_STORAGE_CONTAINER, detail)
    if container.raw.get("command") not in (None, [], list(INITIALIZER_COMMAND)):
        return Refusal(DecisionReason.CUSTOM_STORAGE_CONTAINER, "it has a command of its own")
    downloads = _downloads(container)
    if isinstance(downloads, Refusal):
        return downloads
    return Initializer(container, entrypoint, downloads)


def _entrypoint(image: str, defaults: Defaults) -> str | None:
    """What an initializer's image runs, or None for an image nobody vouches for."""
    repository = _repository(image)
    for known in defaults.storage_initializers:
        if known.repository == repository:
            return known.entrypoint
    names = repository.split("/")
    is_kserve = names[-2:] == _INITIALIZER_REPOSITORY
    is_odh = names[-1] == _ODH_INITIALIZER or names[-1].startswith(_ODH_INITIALIZER_PREFIX)
    return KSERVE_ENTRYPOINT if is_kserve or is_odh else None


def _repository(image: str) -> str:
    """An image's name without tag and digest; a registry's port stays."""
    name = image.partition("@")[0]
    start_of_last = name.rfind("/") + 1
    return name[:start_of_last] + name[start_of_last:].partition(":")[0]


def _downloads(initializer: Container) -> tuple[Download, ...] | Refusal:
    arguments = initializer.raw.get("args")
    pairs = list_of(arguments)
    if not pairs or len(pairs) % 2:
        detail = "its arguments are not pairs of URI and path"
        return Refusal(DecisionReason.UNRESOLVED_URI, detail)
    words = [word for word in pairs if isinstance(word, str)]
    if len(words) != len(pairs):
        return Refusal(DecisionReason.UNRESOLVED_URI, "an argument is not text")
    destinations = words[1::2]
    if is_unresolved("/".join(destinations)):
        return Refusal(DecisionReason.UNRESOLVED_URI, "a path is for the kubelet to expand")
    return tuple(map(Download, words[::2], destinations))


# --- the model ----------------------------------------------------------------------------------


class Served(NamedTuple):
    """A download that an entry of the catalog answers for, and the volume that shows its slot."""

    download: Download
    match: Match
    volume: Json


# --- the node -----------------------------------------------------------------------------------


def node_cannot_mount(pod: Pod, defaults: Defaults) -> Refusal | None:
    """The pod asks for a node, or a way to run, that no slot can be mounted into."""
    detail = (
        _own_users(pod)
        or _unlisted_runtime_class(pod, defaults)
        or _windows(pod)
        or _fargate(pod)
        or _virtual_kubelet(pod)
    )
    return Refusal(DecisionReason.NODE_CANNOT_MOUNT, detail) if detail else None


def _own_users(pod: Pod) -> str | None:
    return (
        "the pod has users of its own (hostUsers)" if pod.spec.get("hostUsers") is False else None
    )


def _unlisted_runtime_class(pod: Pod, defaults: Defaults) -> str | None:
    runtime_class = pod.spec.get("runtimeClassName")
    if runtime_class in (None, "", *defaults.runtime_classes):
        return None
    return "its runtime class is not in defaults.runtimeClasses"


def _windows(pod: Pod) -> str | None:
    systems = (
        object_of(pod.spec.get("os")).get("name"),
        _node_selector(pod).get("kubernetes.io/os"),
        _node_selector(pod).get("beta.kubernetes.io/os"),
    )
    return "it runs on Windows" if "windows" in systems else None


def _fargate(pod: Pod) -> str | None:
    profile = "eks.amazonaws.com/fargate-profile"
    is_fargate = (
        profile in pod.labels
        or profile in pod.annotations
        or pod.spec.get("schedulerName") == "fargate-scheduler"
        or _node_selector(pod).get("eks.amazonaws.com/compute-type") == "fargate"
    )
    return "it runs on Fargate" if is_fargate else None


def _virtual_kubelet(pod: Pod) -> str | None:
    selector = _node_selector(pod)
    tolerated = [object_of(t).get("key") for t in list_of(pod.spec.get("tolerations"))]
    is_virtual = (
        selector.get("type") == "virtual-kubelet"
        or selector.get("kubernetes.io/role") == "agent"
        or "virtual-kubelet.io/provider" in tolerated
    )
    return "it runs on a virtual kubelet" if is_virtual else None


def _node_selector(pod: Pod) -> Mapping[str, Json]:
    return object_of(pod.spec.get("nodeSelector"))
