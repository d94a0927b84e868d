"""Every reason that needs no cluster, each reached by one edit of a pod that would be Cached."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from larder.catalog import read_catalog
from larder.contract import INITIALIZER_COMMAND, DecisionReason
from larder.matching import CatalogIndex, Match
from webhook.mutation import AdmissionRequest, Decision, Operation, View, VolumeMode, decide
from webhook.mutation.decision import patch_fault

Pod = Any
Edit = Callable[[Pod], object]

OUR_VOLUME = "larder-52a2d80d4bc5fa16"


def initializer(pod: Pod) -> Any:
    return pod["spec"]["initContainers"][0]


def server(pod: Pod) -> Any:
    return pod["spec"]["containers"][0]


def label(name: str, value: object = "x") -> Edit:
    return lambda pod: pod["metadata"]["labels"].update({name: value})


def annotation(name: str, value: object = "x") -> Edit:
    return lambda pod: pod["metadata"]["annotations"].update({name: value})


def spec(**fields: object) -> Edit:
    return lambda pod: pod["spec"].update(fields)


def init(**fields: object) -> Edit:
    return lambda pod: initializer(pod).update(fields)


def args(*words: object) -> Edit:
    return init(args=list(words))


def env(*entries: object) -> Edit:
    return lambda pod: initializer(pod)["env"].extend(entries)


def variable(name: str, value: object) -> Edit:
    return env({"name": name, "value": value})


def server_mount(**fields: object) -> Edit:
    return lambda pod: server(pod)["volumeMounts"][-1].update(fields)


def extra_mount(**fields: object) -> Edit:
    return lambda pod: server(pod)["volumeMounts"].append(fields)


def extra_volume(**fields: object) -> Edit:
    return lambda pod: pod["spec"]["volumes"].append(fields)


def model_volume(**fields: object) -> Edit:
    def edit(pod: Pod) -> None:
        pod["spec"]["volumes"][-1] = {"name": "kserve-provision-location", **fields}

    return edit


def both(*edits: Edit) -> Edit:
    return lambda pod: [edit(pod) for edit in edits]


def from_secret(name: str) -> object:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


def second_initializer(pod: Pod) -> None:
    pod["spec"]["initContainers"].append(dict(initializer(pod)))


def sidecar(**mount: object) -> Edit:
    container = {"name": "sidecar", "image": "x", "volumeMounts": [mount]}
    return lambda pod: pod["spec"]["containers"].append(container)


QWEN = "hf://Qwen/Qwen2-0.5B-Instruct"
SKLEARN = "s3://models/sklearn"
HERE = "/mnt/models"
R = DecisionReason

CASES: dict[str, tuple[Edit, DecisionReason]] = {
    "the recorded pod": (spec(), R.CACHED),
    # --- not ours
    "neither label of KServe's": (
        lambda pod: pod["metadata"]["labels"].pop("serving.kserve.io/inferenceservice"),
        R.NOT_A_PREDICTOR,
    ),
    "part of something else": (
        both(
            lambda pod: pod["metadata"]["labels"].clear(),
            label("app.kubernetes.io/part-of", "shop"),
        ),
        R.NOT_A_PREDICTOR,
    ),
    "part of an LLMInferenceService": (
        both(
            lambda pod: pod["metadata"]["labels"].clear(),
            label("app.kubernetes.io/part-of", "llminferenceservice"),
        ),
        R.CACHED,
    ),
    "opted out by label": (label("larder.dev/cache", "disabled"), R.OPTED_OUT),
    "opted out by annotation": (annotation("larder.dev/cache", "disabled"), R.OPTED_OUT),
    "another word for the cache": (label("larder.dev/cache", "enabled"), R.CACHED),
    "KServe's agent": (annotation("internal.serving.kserve.io/agent", ""), R.MULTI_MODEL_AGENT),
    "KServe's own cache": (
        label("internal.serving.kserve.io/localmodel", "qwen"),
        R.MANAGED_BY_KSERVE_LOCAL_MODEL,
    ),
    "confidential by annotation": (
        annotation("internal.serving.kserve.io/confidential-enabled", "true"),
        R.CONFIDENTIAL_MODEL,
    ),
    "confidential by variable": (variable("CONFIDENTIAL_ENABLED", "true"), R.CONFIDENTIAL_MODEL),
    "confidential from a Secret": (
        env(from_secret("CONFIDENTIAL_ENABLED")),
        R.CONFIDENTIAL_MODEL,
    ),
    "confidential: false": (variable("CONFIDENTIAL_ENABLED", "False"), R.CACHED),
    "no init containers": (spec(initContainers=[]), R.NO_STORAGE_INITIALIZER),
    "other init containers only": (init(name="init-chown"), R.NO_STORAGE_INITIALIZER),
    "init containers of an odd type": (spec(initContainers="none"), R.NO_STORAGE_INITIALIZER),
    # --- the initializer
    "two storage-initializers": (second_initializer, R.CUSTOM_STORAGE_CONTAINER),
    "an image of somebody's": (init(image="nginx:1"), R.CUSTOM_STORAGE_CONTAINER),
    "an image that only ends alike": (
        init(image="quay.io/acme/storage-initializer:v1"),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "no image": (lambda pod: initializer(pod).pop("image"), R.CUSTOM_STORAGE_CONTAINER),
    "KServe's image by digest": (
        init(image="kserve/storage-initializer@sha256:" + "0" * 64),
        R.CACHED,
    ),
    "KServe's image behind a mirror with a port": (
        init(image="mirror.example:5000/docker.io/kserve/storage-initializer:v1@sha256:00"),
        R.CACHED,
    ),
    "Open Data Hub's image": (
        init(image="quay.io/opendatahub/kserve-storage-initializer:latest"),
        R.CACHED,
    ),
    "OpenShift AI's image": (
        init(image="registry.redhat.io/rhoai/odh-kserve-storage-initializer-rhel9@sha256:00"),
        R.CACHED,
    ),
    "an image that the admin lists": (
        init(image="registry.example:5000/our/fetcher:3"),
        R.CACHED,
    ),
    "a command of its own": (init(command=["sh"]), R.CUSTOM_STORAGE_CONTAINER),
    "an empty command": (init(command=[]), R.CACHED),
    "our command": (init(command=list(INITIALIZER_COMMAND)), R.CACHED),
    "no arguments": (args(), R.UNRESOLVED_URI),
    "an odd number of arguments": (args(QWEN), R.UNRESOLVED_URI),
    "an argument that is a number": (args(QWEN, 5), R.UNRESOLVED_URI),
    "arguments of an odd type": (init(args="x y"), R.UNRESOLVED_URI),
    "a path for the kubelet to expand": (args(QWEN, "/mnt/models/$(X)"), R.UNRESOLVED_URI),
    # --- the catalog
    "an unlisted model": (args("hf://org/other", HERE), R.MODEL_NOT_IN_CATALOG),
    "another revision": (args(QWEN + ":v2", HERE), R.MODEL_NOT_IN_CATALOG),
    "the pinned revision": (
        args(QWEN + ":c540970f9e29518b1d8f06ab8b24cba66ad77b6d", HERE),
        R.CACHED,
    ),
    "a look-alike prefix": (args("s3://models/llama2", HERE), R.MODEL_NOT_IN_CATALOG),
    "below an entry": (args("s3://models/llama/v1", HERE), R.CACHED),
    "a model of another namespace": (args("hf://org/secret", HERE), R.NAMESPACE_NOT_ALLOWED),
    "a scheme that nobody caches": (args("pvc://weights/qwen", HERE), R.SCHEME_NOT_CACHEABLE),
    "a URI for the kubelet to expand": (args("hf://org/$(M)", HERE), R.UNRESOLVED_URI),
    "a URI with a newline": (args(QWEN + "\n", HERE), R.UNRESOLVED_URI),
    "a reason that says more goes first": (
        args("hf://org/other", "/mnt/models/a", "hf://org/$(M)", "/mnt/models/b"),
        R.UNRESOLVED_URI,
    ),
    "one of two URIs": (args("hf://org/other", "/mnt/models/a", QWEN, "/mnt/models/b"), R.CACHED),
    "an entry that wants placement": (args("hf://org/placed", HERE), R.CACHED),
    "placement beside a plain entry": (
        args(QWEN, "/mnt/models/a", "hf://org/placed", "/mnt/models/b"),
        R.PLACEMENT_UNSUPPORTED,
    ),
    # --- the source
    "the default endpoint, said": (variable("HF_ENDPOINT", "https://huggingface.co/"), R.CACHED),
    "an empty endpoint": (variable("HF_ENDPOINT", ""), R.CACHED),
    "a variable without a value": (env({"name": "HF_ENDPOINT"}), R.CACHED),
    "another endpoint": (variable("HF_ENDPOINT", "https://hub.example"), R.ENDPOINT_DIFFERS),
    "an endpoint from a Secret": (env(from_secret("HF_ENDPOINT")), R.ENDPOINT_UNKNOWN),
    "an endpoint of an odd type": (variable("HF_ENDPOINT", 5), R.ENDPOINT_UNKNOWN),
    "an endpoint to expand": (variable("HF_ENDPOINT", "https://$(X).example"), R.ENDPOINT_UNKNOWN),
    "an endpoint that is no URL": (variable("HF_ENDPOINT", "hub"), R.ENDPOINT_UNKNOWN),
    "an endpoint without a dot": (variable("HF_ENDPOINT", "http://hub:80"), R.ENDPOINT_UNKNOWN),
    "the last of two variables counts": (
        env(
            {"name": "HF_ENDPOINT", "value": "https://hub.example"},
            {"name": "HF_ENDPOINT", "value": "https://huggingface.co"},
        ),
        R.CACHED,
    ),
    "envFrom": (init(envFrom=[{"secretRef": {"name": "s"}}]), R.ENDPOINT_UNKNOWN),
    "an empty envFrom": (init(envFrom=[]), R.CACHED),
    "a storage spec": (
        both(args(SKLEARN, HERE), env(from_secret("STORAGE_CONFIG"))),
        R.ENDPOINT_UNKNOWN,
    ),
    "an unknown endpoint where any will do": (
        both(args("s3://models/elsewhere", HERE), env(from_secret("AWS_ENDPOINT_URL"))),
        R.CACHED,
    ),
    "S3 without endpoint": (args(SKLEARN, HERE), R.CACHED),
    "S3 by IP address": (
        both(args(SKLEARN, HERE), variable("AWS_ENDPOINT_URL", "http://10.151.0.1:9000")),
        R.CACHED,
    ),
    "S3 by IPv6 address": (
        both(args(SKLEARN, HERE), variable("AWS_ENDPOINT_URL", "http://[fd00::1]:9000")),
        R.ENDPOINT_DIFFERS,
    ),
    "S3 by host, without TLS": (
        both(
            args(SKLEARN, HERE),
            variable("S3_ENDPOINT", "10.151.0.1:9000"),
            variable("S3_USE_HTTPS", "0"),
        ),
        R.CACHED,
    ),
    "S3 by host, with TLS": (
        both(args(SKLEARN, HERE), variable("S3_ENDPOINT", "10.151.0.1:9000")),
        R.ENDPOINT_DIFFERS,
    ),
    "S3 by host with a scheme": (
        both(args(SKLEARN, HERE), variable("S3_ENDPOINT", "http://10.151.0.1:9000")),
        R.CACHED,
    ),
    "S3 by host, TLS from a Secret": (
        both(
            args(SKLEARN, HERE),
            variable("S3_ENDPOINT", "10.151.0.1:9000"),
            env(from_secret("S3_USE_HTTPS")),
        ),
        R.ENDPOINT_UNKNOWN,
    ),
    "two S3 variables that disagree": (
        both(
            args(SKLEARN, HERE),
            variable("S3_ENDPOINT", "minio.example"),
            variable("AWS_ENDPOINT_URL", "http://10.151.0.1:9000"),
        ),
        R.ENDPOINT_UNKNOWN,
    ),
    "botocore's own S3 variable": (
        both(args(SKLEARN, HERE), variable("AWS_ENDPOINT_URL_S3", "http://10.0.0.1:9000")),
        R.ENDPOINT_DIFFERS,
    ),
    "the variable of another scheme": (variable("AWS_ENDPOINT_URL", "http://10.0.0.1"), R.CACHED),
    "patterns that nobody cached": (
        variable("STORAGE_ALLOW_PATTERNS", '["*.json"]'),
        R.PATTERNS_DIFFER,
    ),
    "patterns from a Secret": (env(from_secret("STORAGE_IGNORE_PATTERNS")), R.PATTERNS_DIFFER),
    "the entry's patterns as JSON": (
        both(
            args("hf://org/parts", HERE), variable("STORAGE_ALLOW_PATTERNS", '["*.json", "*.txt"]')
        ),
        R.CACHED,
    ),
    "the entry's patterns between commas": (
        both(args("hf://org/parts", HERE), variable("STORAGE_ALLOW_PATTERNS", " *.json , *.txt,")),
        R.CACHED,
    ),
    "no patterns said": (args("hf://org/parts", HERE), R.CACHED),
    "patterns of an odd type": (
        both(args("hf://org/parts", HERE), variable("STORAGE_ALLOW_PATTERNS", "[1]")),
        R.PATTERNS_DIFFER,
    ),
    "patterns that are a JSON object": (
        both(args("hf://org/parts", HERE), variable("STORAGE_ALLOW_PATTERNS", "{}")),
        R.PATTERNS_DIFFER,
    ),
    # --- the node
    "users of its own": (spec(hostUsers=False), R.NODE_CANNOT_MOUNT),
    "the node's users": (spec(hostUsers=True), R.CACHED),
    "a listed runtime class": (spec(runtimeClassName="nvidia"), R.CACHED),
    "another runtime class": (spec(runtimeClassName="gvisor"), R.NODE_CANNOT_MOUNT),
    "a runtime class of an odd type": (spec(runtimeClassName={}), R.NODE_CANNOT_MOUNT),
    "Windows by name": (spec(os={"name": "windows"}), R.NODE_CANNOT_MOUNT),
    "Linux by name": (spec(os={"name": "linux"}), R.CACHED),
    "Windows by node": (
        spec(nodeSelector={"kubernetes.io/os": "windows"}),
        R.NODE_CANNOT_MOUNT,
    ),
    "Fargate by label": (label("eks.amazonaws.com/fargate-profile"), R.NODE_CANNOT_MOUNT),
    "Fargate by annotation": (
        annotation("eks.amazonaws.com/fargate-profile"),
        R.NODE_CANNOT_MOUNT,
    ),
    "Fargate by scheduler": (spec(schedulerName="fargate-scheduler"), R.NODE_CANNOT_MOUNT),
    "Fargate by node": (
        spec(nodeSelector={"eks.amazonaws.com/compute-type": "fargate"}),
        R.NODE_CANNOT_MOUNT,
    ),
    "a virtual kubelet by type": (
        spec(nodeSelector={"type": "virtual-kubelet"}),
        R.NODE_CANNOT_MOUNT,
    ),
    "a virtual kubelet by role": (
        spec(nodeSelector={"kubernetes.io/role": "agent"}),
        R.NODE_CANNOT_MOUNT,
    ),
    "a virtual kubelet by toleration": (
        spec(tolerations=[{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]),
        R.NODE_CANNOT_MOUNT,
    ),
    "a toleration for GPUs": (spec(tolerations=[{"key": "nvidia.com/gpu"}]), R.CACHED),
    # --- the model's volume
    "a path outside every mount": (args(QWEN, "/elsewhere"), R.MODEL_VOLUME_NOT_EMPTY_DIR),
    "a path that climbs out of the mount": (
        args(QWEN, "/mnt/models/../elsewhere"),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "a relative path": (args(QWEN, "mnt/models"), R.CACHED),
    "a claim under KServe's name": (
        model_volume(persistentVolumeClaim={"claimName": "c"}),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "a volume with two sources": (
        model_volume(emptyDir={}, hostPath={"path": "/"}),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "a mount without its volume": (
        lambda pod: pod["spec"]["volumes"].pop(),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "two volumes of one name": (
        extra_volume(name="kserve-provision-location", emptyDir={}),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "the longest mount counts": (
        both(
            lambda pod: initializer(pod)["volumeMounts"].append(
                {"name": "devshm", "mountPath": "/mnt"}
            ),
            args(QWEN, "/mnt/models/deep/er"),
        ),
        R.CACHED,
    ),
    "an emptyDir in memory": (model_volume(emptyDir={"medium": "Memory"}), R.CACHED),
    "read-write by annotation": (
        annotation("storage.kserve.io/readonly", "false"),
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    "read-only by annotation": (annotation("storage.kserve.io/readonly", "true"), R.CACHED),
    "a server that writes": (server_mount(readOnly=False), R.WRITABLE_MOUNT_REQUESTED),
    "a server with a part": (server_mount(subPath="a"), R.WRITABLE_MOUNT_REQUESTED),
    "a server with an expanded part": (
        server_mount(subPathExpr="$(X)"),
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    "a sidecar that writes": (
        sidecar(name="kserve-provision-location", mountPath="/m"),
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    "a sidecar that reads": (
        sidecar(name="kserve-provision-location", mountPath="/m", readOnly=True),
        R.CACHED,
    ),
    "an initializer with a part": (
        lambda pod: initializer(pod)["volumeMounts"][0].update(subPath="a"),
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    # --- our names
    "a mount at our path": (
        extra_mount(name="devshm", mountPath="/larder"),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "a mount below our path, in disguise": (
        extra_mount(name="devshm", mountPath="/x/../larder//a"),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "a mount above our path": (
        extra_mount(name="devshm", mountPath="/"),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "a mount beside our path": (extra_mount(name="devshm", mountPath="/larder2"), R.CACHED),
    "a volume of our name with another source": (
        extra_volume(name=OUR_VOLUME, emptyDir={}),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "a volume of a slot that is not the pod's": (
        extra_volume(
            name="larder-0123456789abcdef",
            hostPath={
                "path": "/var/lib/larder/slots/0123456789abcdef",
                "type": "DirectoryOrCreate",
            },
        ),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
}


@pytest.mark.parametrize(("edit", "reason"), CASES.values(), ids=CASES.keys())
def test_the_reason_is(edit: Edit, reason: DecisionReason, pod: Pod, view: View) -> None:
    edit(pod)
    decision = decide(AdmissionRequest(pod, "chat"), view)
    assert (decision.reason, decision.detail) == (reason, decision.detail)
    assert bool(decision.operations) == (reason is R.CACHED)


def test_the_table_reaches_every_reason_of_a_pod() -> None:
    elsewhere = {
        R.ALREADY_REWRITTEN,
        R.CATALOG_NOT_LOADED,
        R.HOST_PATH_FORBIDDEN,
        R.OBSERVING,
        R.INTERNAL_ERROR,
        R.VOLUME_NOT_READY,  # its table is that of volumes
        R.INVALID_POD,  # its table is that of bad input
    }
    assert {reason for _, reason in CASES.values()} == set(R) - elsewhere


def test_what_does_not_create_a_pod_is_no_predictor(pod: Pod, view: View) -> None:
    request = AdmissionRequest(pod, "chat", is_pod_creation=False)
    assert decide(request, view).reason is R.NOT_A_PREDICTOR


def test_without_a_catalog_nothing_is_decided_about_models(pod: Pod, view: View) -> None:
    decision = decide(AdmissionRequest(pod, "chat"), replace(view, index=None))
    assert decision.reason is R.CATALOG_NOT_LOADED


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        pytest.param(None, R.HOST_PATH_FORBIDDEN, id="labels that nobody knows forbid it"),
        pytest.param({}, R.HOST_PATH_FORBIDDEN, id="no label forbids it"),
        pytest.param(
            {"pod-security.kubernetes.io/enforce": "baseline"},
            R.HOST_PATH_FORBIDDEN,
            id="a baseline namespace forbids it",
        ),
        pytest.param(
            {"pod-security.kubernetes.io/enforce": "privileged"},
            R.CACHED,
            id="a privileged namespace allows it",
        ),
        pytest.param({"larder.dev/volume": "hostPath"}, R.CACHED, id="the admin's label allows it"),
    ],
)
def test_by_namespace_a_host_path_needs_a_label(
    labels: dict[str, str] | None, reason: DecisionReason, pod: Pod, view: View
) -> None:
    by_namespace = replace(view, volumes=VolumeMode.BY_NAMESPACE, namespace_labels=labels)
    assert decide(AdmissionRequest(pod, "chat"), by_namespace).reason is reason


def test_a_namespace_can_opt_out(pod: Pod, view: View) -> None:
    opted_out = replace(view, namespace_labels={"larder.dev/cache": "disabled"})
    assert decide(AdmissionRequest(pod, "chat"), opted_out).reason is R.OPTED_OUT


@pytest.mark.parametrize(
    ("catalog_mode", "namespace_labels", "reason"),
    [
        pytest.param("Observe", None, R.OBSERVING, id="the catalog observes"),
        pytest.param(
            "Observe",
            {"larder.dev/mode": "Enforce"},
            R.CACHED,
            id="a namespace enforces all the same",
        ),
        pytest.param(
            "Enforce", {"larder.dev/mode": "Observe"}, R.OBSERVING, id="a namespace observes"
        ),
        pytest.param("Enforce", {}, R.CACHED, id="the catalog enforces"),
    ],
)
def test_observing_counts_what_would_be_and_changes_nothing(
    catalog_mode: str,
    namespace_labels: dict[str, str] | None,
    reason: DecisionReason,
    pod: Pod,
    catalog_text: str,
) -> None:
    text = catalog_text.replace("defaults:", f"defaults:\n  mode: {catalog_mode}")
    index = CatalogIndex(read_catalog(text.encode(), standalone=True))
    view = View(index, PurePosixPath("/var/lib/larder"), namespace_labels=namespace_labels)
    decision = decide(AdmissionRequest(pod, "chat"), view)
    assert decision.reason is reason
    assert len(decision.keys) == 1
    assert bool(decision.operations) == (reason is R.CACHED)


def test_a_decision_tells_of_every_uri(pod: Pod, view: View) -> None:
    args(QWEN, "/mnt/models/a", "hf://org/other", "/mnt/models/b")(pod)
    decision = decide(AdmissionRequest(pod, "chat"), view)
    first, second = decision.uris
    assert isinstance(first.outcome, Match)
    assert (first.uri, first.outcome.entry.name) == (QWEN, "qwen")
    assert (second.uri, second.outcome) == ("hf://org/other", R.MODEL_NOT_IN_CATALOG)


def test_the_namespace_is_the_requests_never_the_pods(pod: Pod, view: View) -> None:
    pod["metadata"]["namespace"] = "chat"
    assert decide(AdmissionRequest(pod, "spy"), view).reason is R.NAMESPACE_NOT_ALLOWED


def test_a_patch_that_would_make_a_bad_pod_is_an_internal_error(pod: Pod, view: View) -> None:
    assert view.index
    entry = view.index.catalog.models[0].model_copy()
    entry.__dict__["key"] = "Not A Label"  # a fault of Larder's
    faulty = CatalogIndex(view.index.catalog.model_copy(update={"models": [entry]}))
    decision = decide(AdmissionRequest(pod, "chat"), replace(view, index=faulty))
    assert decision.reason is R.INTERNAL_ERROR
    assert decision.detail == "the patched pod would be refused: a volume's name is no DNS label"
    assert decision.operations == ()


def test_a_patch_that_does_not_apply_is_found(pod: Pod, view: View) -> None:
    request = AdmissionRequest(pod, "chat")
    misfit = Decision(R.CACHED, operations=(Operation("remove", "/spec/none"),))
    fault = patch_fault(request, view, misfit)
    assert fault == "the patch does not apply: remove /spec/none: there is no 'none'"
