"""The shapes of pods that KServe makes, each as it is before KServe's webhook sees it.

    SHAPES["collocated transformer"] ──▶ Shape(before, around, releases, …)

A shape is the recorded pod of an InferenceService and what is different about it. `reason` is what
Larder must say after KServe, with the catalog of `tests/webhook/conftest.py`; `readers` are the
containers that then mount a slot beside `storage-initializer`, `slots` how many there are.
"""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.fakes.kserve_mutator import (
    CONFIDENTIAL,
    CURRENT,
    ISVC_LABEL,
    LOCAL_MODEL,
    PLACEHOLDER,
    READ_ONLY,
    RELEASES,
    SERVING,
    SOURCE_URI,
    STORAGE_SPEC,
    V0_11,
    V0_15,
    KServe,
    Pod,
    Release,
    Surroundings,
)
from tests.fakes.kserve_sidecars import AGENT, INTERNAL

Edit = Callable[[Pod], object]

RECORDED: Final = Path(__file__).parents[1] / "recorded"
QWEN: Final = "hf://Qwen/Qwen2-0.5B-Instruct"
LLAMA: Final = "s3://models/llama"
PLAIN: Final = Surroundings()


def recorded(name: str) -> Pod:
    """The pod of a recorded review."""
    return json.loads((RECORDED / f"{name}.json").read_text())["request"]["object"]


@dataclass(frozen=True)
class Shape:
    """One kind of pod, and what Larder makes of it."""

    before: Pod
    around: Surroundings = PLAIN
    releases: Sequence[Release] = RELEASES
    reason: str = "Cached"
    readers: Sequence[str] = ("kserve-container",)
    slots: int = 1


def shape(*edits: Edit, **fields: Any) -> Shape:
    """The recorded pod with changes."""
    pod = recorded("hf-raw.before-kserve")
    for edit in edits:
        edit(pod)
    return Shape(pod, **fields)


def uri(text: str) -> Edit:
    return annotated(**{SOURCE_URI: text})


def annotated(**fields: str) -> Edit:
    return lambda pod: pod["metadata"]["annotations"].update(fields)


def labelled(**fields: str) -> Edit:
    return lambda pod: pod["metadata"]["labels"].update(fields)


def without_annotation(name: str) -> Edit:
    return lambda pod: pod["metadata"]["annotations"].pop(name)


def spec(**fields: Any) -> Edit:
    return lambda pod: pod["spec"].update(copy.deepcopy(fields))


def server(**fields: Any) -> Edit:
    return lambda pod: pod["spec"]["containers"][0].update(fields)


def variable(name: str, value: str) -> Edit:
    entry = {"name": name, "value": value}
    return lambda pod: pod["spec"]["containers"][0].setdefault("env", []).append(entry)


def beside(name: str, *mounts: Any, **fields: Any) -> Edit:
    """One more container."""
    container = {"name": name, "image": f"example/{name}:1", "volumeMounts": list(mounts), **fields}
    return lambda pod: pod["spec"]["containers"].append(copy.deepcopy(container))


def first(name: str, *mounts: Any, **fields: Any) -> Edit:
    """One more init container, before KServe's."""
    container = {"name": name, "image": f"example/{name}:1", "volumeMounts": list(mounts), **fields}
    return lambda pod: pod["spec"].setdefault("initContainers", []).append(copy.deepcopy(container))


def volume(name: str, **source: Any) -> Edit:
    return lambda pod: pod["spec"]["volumes"].append({"name": name, **source})


def mounted_everywhere(name: str, path: str) -> Edit:
    """What another webhook, run first, mounts into each container there is."""

    def edit(pod: Pod) -> None:
        for container in pod["spec"]["containers"]:
            container["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": True})

    return edit


def several(*pairs: tuple[str, str]) -> Edit:
    """`storageUris`: KServe's controller has built the pod already."""

    def edit(pod: Pod) -> None:
        pod["metadata"]["annotations"].pop(SOURCE_URI)
        pod["spec"] = KServe().build(pod, pairs)["spec"]

    return edit


def llm(name: str, *edits: Edit, **fields: Any) -> Shape:
    """A recorded pod of an LLMInferenceService with changes; KServe's webhook never sees it."""
    pod = recorded(f"{name}.before-kserve")
    for edit in edits:
        edit(pod)
    return Shape(pod, **{"releases": (CURRENT,), "readers": ("main",), **fields})


def role(text: str) -> Edit:
    """Which of the pods of an LLMInferenceService it is."""
    component = {"app.kubernetes.io/component": f"llminferenceservice-workload{text}"}
    return lambda pod: pod["metadata"]["labels"].update(component)


def istio(mode: str = "REDIRECT", **sidecar: Any) -> tuple[Edit, ...]:
    """A pod that Istio's webhook has seen, with its CNI plugin."""
    said = {
        "sidecar.istio.io/interceptionMode": mode,
        "sidecar.istio.io/status": json.dumps({"containers": ["istio-proxy"]}),
    }
    return annotated(**said), beside("istio-proxy", **sidecar)


KNATIVE: Final = (
    labelled(
        **{"serving.knative.dev/service": "qwen-predictor", "app": "qwen-predictor-00001"},
    ),
    annotated(**{"autoscaling.knative.dev/min-scale": "0", "serving.knative.dev/creator": "x"}),
    spec(enableServiceLinks=False, terminationGracePeriodSeconds=300),
    server(terminationMessagePolicy="FallbackToLogsOnError"),
    beside("queue-proxy", ports=[{"name": "http-queueadm", "containerPort": 8022}]),
)
RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def of_secret(*names: str) -> tuple[Any, ...]:
    """Variables that KServe takes from the secrets of the service account."""
    return tuple(
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "creds", "key": name}}}
        for name in names
    )


S3_SECRET: Final = of_secret("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
LOCAL_MODEL_KEYS: Final = (
    labelled(**{LOCAL_MODEL: "qwen"}),
    annotated(
        **{f"{LOCAL_MODEL}-pvc-name": "qwen-gpu", f"{LOCAL_MODEL}-sourceuri": QWEN},
    ),
)
STORAGE_KEY: Final = (
    uri(f"{PLACEHOLDER}llama"),
    annotated(**{STORAGE_SPEC: "true", f"{INTERNAL}/storage-spec-key": "minio"}),
)
MODEL: Final = "kserve-provision-location"
PULLER: Final = annotated(
    **{
        AGENT: "true",
        f"{INTERNAL}/modelDir": "/mnt/models",
        f"{INTERNAL}/configVolumeName": "modelconfig-qwen-0",
    }
)
BATCHER: Final = annotated(**{f"{INTERNAL}/batcher": "true"})
LOGGER: Final = annotated(**{f"{INTERNAL}/logger": "true"})
MODELCAR: Final = "oci://registry.example/model:1"
SINCE_V0_12: Final = (V0_15, CURRENT)
WORKER: Final = (
    server(name="worker-container"),
    labelled(app="isvc.qwen-hf-predictor-worker"),
)
NONE: Final = {"readers": (), "slots": 0}

SHAPES: Final[dict[str, Shape]] = {
    "raw deployment": shape(),
    "raw deployment of S3 with the account's secret": shape(
        uri(LLAMA), around=Surroundings(variables=S3_SECRET)
    ),
    "Knative": shape(*KNATIVE),
    "Knative behind Istio": shape(*KNATIVE, *istio()),
    # --- the components of an InferenceService
    "custom predictor": shape(variable("STORAGE_URI", QWEN)),
    "custom predictor with an empty STORAGE_URI": shape(variable("STORAGE_URI", "")),
    "collocated transformer": shape(
        beside("transformer-container"), readers=("kserve-container", "transformer-container")
    ),
    "transformer with a model of its own": shape(labelled(component="transformer"), uri(LLAMA)),
    "transformer without a model": shape(
        labelled(component="transformer"),
        without_annotation(SOURCE_URI),
        reason="NoStorageInitializer",
        **NONE,
    ),
    "explainer with a model of its own": shape(
        labelled(component="explainer"), uri("s3://adapters/alibi")
    ),
    "canary with another URI under the same InferenceService": shape(
        labelled(app="isvc.qwen-hf-canary-predictor"), uri(LLAMA)
    ),
    "worker of several nodes": shape(
        *WORKER, releases=(V0_15, CURRENT), readers=("worker-container",)
    ),
    # --- several URIs
    "storageUris, all cached": shape(
        several((QWEN, "/mnt/models/base"), ("s3://adapters/a", "/mnt/models/a")),
        releases=(CURRENT,),
        slots=2,
    ),
    "storageUris, some cached": shape(
        several((QWEN, "/mnt/models/base"), ("s3://else/where", "/mnt/models/a")),
        releases=(CURRENT,),
    ),
    "storageUris, none cached": shape(
        several(("s3://else/a", "/mnt/models/a"), ("s3://else/b", "/mnt/models/b")),
        releases=(CURRENT,),
        reason="ModelNotInCatalog",
        **NONE,
    ),
    "storageUris, one path inside another": shape(
        several((QWEN, "/mnt/models"), ("s3://adapters/a", "/mnt/models/adapters/a")),
        releases=(CURRENT,),
        slots=2,
    ),
    "storageUris at another place": shape(
        several((QWEN, "/opt/ml/a"), (LLAMA, "/opt/ml/b")), releases=(CURRENT,), slots=2
    ),
    "storageUris, a claim beside them": shape(
        several(
            (QWEN, "/mnt/models/base"),
            ("s3://adapters/a", "/mnt/models/a"),
            ("pvc://w/x", "/mnt/w"),
        ),
        releases=(CURRENT,),
        slots=2,
    ),
    "storageUris, claims alone": shape(
        several(("pvc://w/x", "/mnt/models/w"), ("pvc://v", "/mnt/models/v")),
        releases=(CURRENT,),
        reason="NoStorageInitializer",
        **NONE,
    ),
    # --- storage specs, storage containers, credentials
    "storage.key": shape(
        *STORAGE_KEY,
        around=Surroundings(storage_spec="s3://models/"),
        reason="EndpointUnknown",
        **NONE,
    ),
    "storage.key, where any endpoint will do": shape(
        *STORAGE_KEY,
        uri(f"{PLACEHOLDER}elsewhere"),
        around=Surroundings(storage_spec="s3://models/"),
    ),
    "storageContainerName, another image": shape(
        around=Surroundings(storage_container={"image": "registry.example/fetcher:1"}),
        reason="CustomStorageContainer",
        **NONE,
    ),
    "storageContainerName, an image that the admin lists": shape(
        around=Surroundings(storage_container={"image": "registry.example:5000/our/fetcher:3"})
    ),
    "storage container of KServe's with variables of its own": shape(
        around=Surroundings(
            storage_container={
                "env": [{"name": "HF_HUB_ENABLE_HF_TRANSFER", "value": "0"}],
                "securityContext": RESTRICTED,
            }
        )
    ),
    "Open Data Hub's image": shape(
        around=Surroundings(image="quay.io/opendatahub/kserve-storage-initializer:v0.15")
    ),
    "credentials of GCS": shape(
        around=Surroundings(
            variables=[{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/var/secrets/x.json"}],
            credentials={"user-gcp-sa": ("/var/secrets/", {"secret": {"secretName": "gcp"}})},
        )
    ),
    "credentials of the hub": shape(around=Surroundings(variables=of_secret("HF_TOKEN"))),
    "credentials of Azure, for a place that nobody caches": shape(
        uri("https://account.blob.core.windows.net/container/model"),
        around=Surroundings(variables=of_secret("AZ_CLIENT_ID", "AZ_CLIENT_SECRET")),
        reason="ModelNotInCatalog",
        **NONE,
    ),
    "credentials of HDFS": shape(
        uri("hdfs://user/model"),
        around=Surroundings(
            credentials={
                "hdfs-secrets": ("/var/secrets/kserve-hdfscreds", {"secret": {"secretName": "h"}})
            }
        ),
        reason="SchemeNotCacheable",
        **NONE,
    ),
    "CA bundle": shape(around=Surroundings(ca_bundle="global-ca-bundle")),
    "CA bundle and S3's own variable of it": shape(
        uri(LLAMA),
        around=Surroundings(
            ca_bundle="global-ca-bundle",
            variables=[*S3_SECRET, {"name": "AWS_CA_BUNDLE", "value": "/etc/ssl/custom-certs/ca"}],
        ),
    ),
    # --- what others do to pods
    "Istio's CNI, uid of the sidecar": shape(*istio(securityContext={"runAsUser": 1000670000})),
    "Istio's CNI, uid by annotation": shape(
        annotated(**{f"{SERVING}/storage-initializer-uid": "1337"})
    ),
    "Istio's CNI, a bad uid": shape(annotated(**{f"{SERVING}/storage-initializer-uid": "odd"})),
    "Istio with its own init container": shape(*istio(), first("istio-init")),
    "Istio by TPROXY": shape(*istio("TPROXY")),
    "Istio that intercepts nothing": shape(*istio("NONE")),
    "Istio without a status": shape(*istio(), without_annotation("sidecar.istio.io/status")),
    "Istio's words without its sidecar": shape(*istio()[:1]),
    "restricted security context": shape(
        server(securityContext=RESTRICTED),
        spec(
            securityContext={"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
            automountServiceAccountToken=False,
        ),
    ),
    "GKE's accelerator": shape(
        annotated(**{f"{SERVING}/gke-accelerator": "nvidia-l4"}),
        spec(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]),
    ),
    "EKS' identity for service accounts": shape(
        volume("aws-iam-token", projected={"sources": []}),
        mounted_everywhere("aws-iam-token", "/var/run/secrets/eks.amazonaws.com/serviceaccount"),
        variable("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
    ),
    "sidecars that do not read the model": shape(beside("vault-agent"), beside("logger")),
    "a sidecar that reads the model": shape(
        beside("watcher", {"name": MODEL, "mountPath": "/watched", "readOnly": True}),
        volume(MODEL, emptyDir={}),
        readers=("kserve-container", "watcher"),
    ),
    "an init container that mounts the model": shape(
        first("verify", {"name": MODEL, "mountPath": "/mnt/models", "readOnly": True}),
        volume(MODEL, emptyDir={}),
        readers=("verify", "kserve-container"),
    ),
    "an init container that writes to the model": shape(
        first("seed", {"name": MODEL, "mountPath": "/mnt/models"}),
        volume(MODEL, emptyDir={}),
        reason="WritableMountRequested",
        **NONE,
    ),
    "a native sidecar": shape(first("proxy", restartPolicy="Always")),
    "nodeName": shape(spec(nodeName="gpu-1")),
    "topology constraints": shape(
        spec(
            topologySpreadConstraints=[
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
            ]
        )
    ),
    # --- what is left to KServe
    "no annotation": shape(without_annotation(SOURCE_URI), reason="NoStorageInitializer", **NONE),
    "a claim": shape(
        uri("pvc://weights/qwen"),
        releases=(V0_15, CURRENT),
        reason="NoStorageInitializer",
        **NONE,
    ),
    "a claim that is linked": shape(
        uri("pvc://weights/qwen"), releases=RELEASES[:1], reason="SchemeNotCacheable", **NONE
    ),
    "a claim to write": shape(
        uri("pvc://weights"),
        annotated(**{READ_ONLY: "false"}),
        releases=SINCE_V0_12,
        reason="NoStorageInitializer",
        **NONE,
    ),
    "a claim for a collocated transformer, too": shape(
        uri("pvc://weights/qwen"),
        beside("transformer-container"),
        releases=SINCE_V0_12,
        reason="NoStorageInitializer",
        **NONE,
    ),
    "KServe's own cache": shape(*LOCAL_MODEL_KEYS, reason="ManagedByKServeLocalModel", **NONE),
    "KServe's own cache, with a slash at the end": shape(
        *LOCAL_MODEL_KEYS, uri(f"{QWEN}/"), reason="ManagedByKServeLocalModel", **NONE
    ),
    "KServe's own cache, deep below": shape(
        *LOCAL_MODEL_KEYS, uri(f"{QWEN}/a/b"), reason="ManagedByKServeLocalModel", **NONE
    ),
    "transformer that inherits KServe's own cache": shape(
        *LOCAL_MODEL_KEYS,
        labelled(component="transformer"),
        uri(LLAMA),
        reason="ManagedByKServeLocalModel",
        **NONE,
    ),
    "the words of KServe's own cache without its label": shape(*LOCAL_MODEL_KEYS[1:]),
    # --- models in images
    "a modelcar": shape(uri(MODELCAR), releases=SINCE_V0_12, reason="NoStorageInitializer", **NONE),
    "a modelcar before releases knew them": shape(
        uri(MODELCAR), releases=(V0_11,), reason="SchemeNotCacheable", **NONE
    ),
    "a modelcar, by its own scheme": shape(
        uri("oci+modelcar://registry.example/model:1"),
        releases=(CURRENT,),
        reason="NoStorageInitializer",
        **NONE,
    ),
    "a modelcar on Knative, for a collocated transformer, too": shape(
        *KNATIVE,
        uri(MODELCAR),
        beside("transformer-container"),
        releases=SINCE_V0_12,
        reason="NoStorageInitializer",
        **NONE,
    ),
    "a modelcar of a worker": shape(
        *WORKER, uri(MODELCAR), releases=SINCE_V0_12, reason="NoStorageInitializer", **NONE
    ),
    "an image's volume": shape(
        uri("oci+native://registry.example/model:1"),
        releases=(CURRENT,),
        reason="NoStorageInitializer",
        **NONE,
    ),
    "an image's volume for a collocated transformer, too": shape(
        uri("oci+native://registry.example/model:1"),
        beside("transformer-container"),
        releases=(CURRENT,),
        reason="NoStorageInitializer",
        **NONE,
    ),
    "an image that is fetched": shape(
        uri("oci+fetch://registry.example/model:1"),
        releases=(CURRENT,),
        reason="SchemeNotCacheable",
        **NONE,
    ),
    "an image that is fetched with the pod's own secrets": shape(
        uri("oci+fetch://registry.example/model:1"),
        spec(imagePullSecrets=[{"name": "registry"}]),
        releases=(CURRENT,),
        reason="SchemeNotCacheable",
        **NONE,
    ),
    # --- KServe's agent and metrics
    "an agent that pulls models": shape(PULLER, reason="MultiModelAgent", **NONE),
    "an agent that batches": shape(BATCHER),
    "an agent that logs, with the account's secret": shape(
        LOGGER, uri(LLAMA), around=Surroundings(variables=S3_SECRET)
    ),
    "an agent that logs and batches before a collocated transformer": shape(
        LOGGER,
        BATCHER,
        beside("transformer-container", readinessProbe={"tcpSocket": {"port": 8080}}),
        readers=("kserve-container", "transformer-container"),
    ),
    "an agent that logs on Knative, which aggregates metrics": shape(
        *KNATIVE[:-1],
        beside("queue-proxy", env=[{"name": "USER_PORT", "value": "8080"}]),
        LOGGER,
        annotated(**{f"{SERVING}/enable-metric-aggregation": "true"}),
    ),
    "confidential": shape(annotated(**{CONFIDENTIAL: "true"}), reason="ConfidentialModel", **NONE),
    "not confidential, says KServe": shape(annotated(**{CONFIDENTIAL: "false"})),
    "read-write asked, whether the release knows it or not": shape(
        annotated(**{READ_ONLY: "false"}), reason="WritableMountRequested", **NONE
    ),
    "read-only said": shape(annotated(**{READ_ONLY: "true"})),
    "no label of KServe's": shape(
        lambda pod: pod["metadata"]["labels"].pop(ISVC_LABEL), reason="NotAPredictor", **NONE
    ),
    "no namespace in the object": shape(lambda pod: pod["metadata"].pop("namespace")),
    "a name of its own": shape(lambda pod: pod["metadata"].update(name="qwen-0")),
    # --- LLMInferenceService
    "LLM, single": llm("llm-single"),
    "LLM, decode with a LoRA adapter below a shared /mnt": llm("llm-decode-lora"),
    "LLM, prefill": llm("llm-decode-lora", labelled(**{"llm-d.ai/role": "prefill"}), role("")),
    "LLM, leader": llm("llm-single", role("-leader"), labelled(**{"llm-d.ai/role": "both"})),
    "LLM, worker": llm("llm-single", role("-worker")),
    "LLM, a tokenizer beside the server": llm("llm-single", beside("tokenizer")),
}
