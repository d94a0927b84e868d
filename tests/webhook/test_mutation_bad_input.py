"""Pods that nobody should send: each is left alone for a reason, or patched soundly."""

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from larder.contract import DecisionReason
from larder.identity import identity_of
from tests.fakes.kserve_mutator import KServe
from tests.fakes.kserve_sidecars import add_modelcar
from tests.fakes.predictor_pods import QWEN, beside, first, server, shape, volume
from webhook.mutation import AdmissionRequest, View, apply_patch, decide
from webhook.mutation.soundness import soundness_fault

Pod = Any
Edit = Callable[[Pod], object]
R = DecisionReason
HERE = "/mnt/models"
MODEL = "kserve-provision-location"
COMMIT = "c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
OURS = f"larder-{identity_of(QWEN, revision=COMMIT).key}"
SLOT = {"path": f"/var/lib/larder/slots/{OURS.removeprefix('larder-')}"}


def after_kserve(*edits: Edit) -> Pod:
    """The recorded pod as KServe leaves it, then changed."""
    pod = KServe().mutate(shape().before)
    for edit in edits:
        edit(pod)
    return pod


def initializer(pod: Pod) -> Any:
    return pod["spec"]["initContainers"][0]


def init(**fields: object) -> Edit:
    return lambda pod: initializer(pod).update(fields)


def args(*words: object) -> Edit:
    return init(args=list(words))


def variable(name: str, value: str) -> Edit:
    return lambda pod: initializer(pod)["env"].append({"name": name, "value": value})


def init_mount(name: str, path: str) -> Edit:
    mount = {"name": name, "mountPath": path}
    return lambda pod: initializer(pod)["volumeMounts"].append(mount)


def server_mount(name: str, path: str, **fields: object) -> Edit:
    mount = {"name": name, "mountPath": path, **fields}
    return lambda pod: pod["spec"]["containers"][0]["volumeMounts"].append(mount)


def remount(**fields: object) -> Edit:
    """Change the initializer's mount of the model."""
    return lambda pod: initializer(pod)["volumeMounts"][0].update(fields)


def model_volume(**source: object) -> Edit:
    """The model goes to another kind of volume."""

    def edit(pod: Pod) -> None:
        volumes = [v for v in pod["spec"]["volumes"] if v["name"] != MODEL]
        pod["spec"]["volumes"] = [*volumes, {"name": MODEL, **source}]

    return edit


def endpoint_from(**source: object) -> Edit:
    entry = {"name": "HF_ENDPOINT", "valueFrom": source}
    return lambda pod: initializer(pod)["env"].append(entry)


def containers(number: int) -> Edit:
    mount = {"name": MODEL, "mountPath": HERE, "readOnly": True}

    def edit(pod: Pod) -> None:
        for i in range(number):
            beside(f"reader-{i}", mount)(pod)

    return edit


CASES: dict[str, tuple[Edit, DecisionReason]] = {
    # --- containers
    "no containers": (lambda pod: pod["spec"].update(containers=[]), R.CACHED),
    "containers that are null": (lambda pod: pod["spec"].update(containers=None), R.CACHED),
    "200 containers": (containers(200), R.CACHED),
    "two containers of one name": (beside("kserve-container"), R.INVALID_POD),
    "a container named as the initializer": (beside("storage-initializer"), R.INVALID_POD),
    "two init containers of one name": (
        lambda pod: [first("a")(pod), first("a")(pod)],
        R.INVALID_POD,
    ),
    "a container whose name is no label": (server(name="Not A Label"), R.INVALID_POD),
    "a mount without its volume": (server_mount("none", "/x"), R.INVALID_POD),
    "two volumes of one name": (
        lambda pod: [volume("a", emptyDir={})(pod), volume("a", emptyDir={})(pod)],
        R.INVALID_POD,
    ),
    "volumes that are no list": (
        lambda pod: pod["spec"].update(volumes="odd"),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "annotations that are no object": (
        lambda pod: pod["metadata"].update(annotations="odd"),
        R.INVALID_POD,
    ),
    "an affinity that is no object": (
        lambda pod: pod["spec"].update(affinity=[]),
        R.INVALID_POD,
    ),
    "variables that are no list": (init(env={"name": "HF_ENDPOINT"}), R.INVALID_POD),
    "mounts that are no list": (
        lambda pod: [beside("odd")(pod), pod["spec"]["containers"][-1].update(volumeMounts="x")],
        R.INVALID_POD,
    ),
    "two storage-initializers": (first("storage-initializer"), R.CUSTOM_STORAGE_CONTAINER),
    # --- arguments
    "one argument": (args(QWEN), R.UNRESOLVED_URI),
    "three arguments": (args(QWEN, HERE, QWEN), R.UNRESOLVED_URI),
    "arguments that are null": (init(args=None), R.UNRESOLVED_URI),
    "an argument that is a number": (args(QWEN, 7), R.UNRESOLVED_URI),
    "a path with a variable": (args(QWEN, "/mnt/$(X)"), R.UNRESOLVED_URI),
    "paths whose ends make a variable together": (
        args(QWEN, f"{HERE}/a$", QWEN, f"({HERE}"),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "arguments in the command": (
        init(command=["/storage-initializer/scripts/initializer-entrypoint", QWEN, HERE], args=[]),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "half of the arguments in the command": (
        init(command=["/storage-initializer/scripts/initializer-entrypoint", QWEN], args=[HERE]),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "the path first": (args(HERE, QWEN), R.SCHEME_NOT_CACHEABLE),
    "an empty URI": (args("", HERE), R.SCHEME_NOT_CACHEABLE),
    "an empty path": (args(QWEN, ""), R.MODEL_VOLUME_NOT_EMPTY_DIR),
    "the root as path": (args(QWEN, "/"), R.MODEL_VOLUME_NOT_EMPTY_DIR),
    # --- mounts
    "the model at /mnt": (
        lambda pod: [
            m.update(mountPath="/mnt")
            for c in (initializer(pod), pod["spec"]["containers"][0])
            for m in c["volumeMounts"]
            if m["name"] == MODEL
        ],
        R.CACHED,
    ),
    "something else at /mnt": (server_mount("devshm", "/mnt"), R.CACHED),
    "something else inside the server's model": (server_mount("devshm", f"{HERE}/sub"), R.CACHED),
    "something else inside the model that is downloaded": (
        init_mount("devshm", f"{HERE}/sub"),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "a claim inside the model that is downloaded, in disguise": (
        lambda pod: [
            volume("claim", persistentVolumeClaim={"claimName": "c"})(pod),
            init_mount("claim", f"{HERE}//x/../sub/")(pod),
        ],
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "something beside the model that is downloaded": (init_mount("devshm", "/mnt/other"), R.CACHED),
    "something at /larder": (server_mount("devshm", "/larder"), R.CUSTOM_STORAGE_CONTAINER),
    "the initializer's own /larder": (
        init_mount("devshm", "/larder/x"),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "the model itself below /larder": (
        lambda pod: [remount(mountPath="/larder")(pod), args(QWEN, "/larder")(pod)],
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "the model twice in the server": (
        server_mount(MODEL, "/again", readOnly=True),
        R.CACHED,
    ),
    "the model to write elsewhere in the server": (
        server_mount(MODEL, "/again"),
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    "a part of the model elsewhere in the server": (
        server_mount(MODEL, "/again", readOnly=True, subPath="a"),
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    "a part of the model's volume for the initializer": (
        remount(subPath="a"),
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    "the server's own mount to write": (
        lambda pod: [m.pop("readOnly", None) for m in pod["spec"]["containers"][0]["volumeMounts"]],
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    "a modelcar in the same volume": (
        lambda pod: add_modelcar(pod["spec"], "registry.example/model:1", []),
        R.WRITABLE_MOUNT_REQUESTED,
    ),
    # --- volumes
    "the model's volume is a claim": (
        model_volume(persistentVolumeClaim={"claimName": "weights"}),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "the model's volume is the host's": (
        model_volume(hostPath={"path": "/data"}),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "the model's volume is an image": (
        model_volume(image={"reference": "registry.example/model:1"}),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "the model's volume has two sources": (
        model_volume(emptyDir={}, hostPath={"path": "/data"}),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "the model's volume is not there": (
        lambda pod: pod["spec"].update(volumes=[]),
        R.MODEL_VOLUME_NOT_EMPTY_DIR,
    ),
    "a volume of our name that is empty": (volume(OURS, emptyDir={}), R.CUSTOM_STORAGE_CONTAINER),
    "a volume of our name that is a claim": (
        volume(OURS, persistentVolumeClaim={"claimName": OURS}),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "a volume of our name that shows another slot": (
        volume(OURS, hostPath={"path": "/var/lib/larder/slots/0123456789abcdef"}),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "a volume of our name that makes what is not there": (
        volume(OURS, hostPath=SLOT),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "our own volume, there already": (
        volume(OURS, hostPath={**SLOT, "type": "DirectoryOrCreate"}),
        R.CACHED,
    ),
    "our own volume, there twice": (
        lambda pod: [
            volume(OURS, hostPath={**SLOT, "type": "DirectoryOrCreate"})(pod) for _ in range(2)
        ],
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    "a volume named as the slot of a model that nobody asked for": (
        volume("larder-0123456789abcdef", emptyDir={}),
        R.CUSTOM_STORAGE_CONTAINER,
    ),
    # --- URIs
    "two dots": (args("s3://models/llama/../secret", HERE), R.MODEL_NOT_IN_CATALOG),
    "two dots at the end": (args("s3://models/llama/..", HERE), R.MODEL_NOT_IN_CATALOG),
    "two dots in per cent": (args("s3://models/llama/%2e%2e/x", HERE), R.CACHED),
    "a space below an entry": (args("s3://models/llama/a b", HERE), R.CACHED),
    "a space in an entry's words": (args(f"{QWEN} ", HERE), R.MODEL_NOT_IN_CATALOG),
    "a newline": (args("s3://models/llama/a\nb", HERE), R.UNRESOLVED_URI),
    "a carriage return": (args("s3://models/llama/a\rb", HERE), R.UNRESOLVED_URI),
    "a tab": (args("s3://models/llama/a\tb", HERE), R.UNRESOLVED_URI),
    "a null": (args("s3://models/llama/\0", HERE), R.UNRESOLVED_URI),
    "a variable": (args("s3://models/llama/$(X)", HERE), R.UNRESOLVED_URI),
    "a variable that is escaped": (args("s3://models/llama/$$(X)", HERE), R.UNRESOLVED_URI),
    "a line's separator of Unicode's": (args("s3://models/llama/\u2028", HERE), R.CACHED),
    "an upper-case scheme": (args(QWEN.replace("hf", "HF"), HERE), R.CACHED),
    "upper-case words": (args(QWEN.upper(), HERE), R.MODEL_NOT_IN_CATALOG),
    "4,000 characters": (args("s3://models/llama/" + "x" * 4_000, HERE), R.MODEL_NOT_IN_CATALOG),
    "4,000 slashes": (args("s3://models/llama" + "/" * 4_000, HERE), R.MODEL_NOT_IN_CATALOG),
    # --- endpoints
    "an endpoint without a dot": (
        lambda pod: [
            args("s3://models/llama", HERE)(pod),
            variable("AWS_ENDPOINT_URL", "http://minio:9000")(pod),
        ],
        R.ENDPOINT_UNKNOWN,
    ),
    "an endpoint without a dot where any will do": (
        lambda pod: [
            args("s3://models/elsewhere", HERE)(pod),
            variable("AWS_ENDPOINT_URL", "http://minio:9000")(pod),
        ],
        R.CACHED,
    ),
    "an endpoint of a ConfigMap": (
        endpoint_from(configMapKeyRef={"name": "c", "key": "k"}),
        R.ENDPOINT_UNKNOWN,
    ),
    "an endpoint of a Secret": (
        endpoint_from(secretKeyRef={"name": "s", "key": "k"}),
        R.ENDPOINT_UNKNOWN,
    ),
    "an endpoint of a field of the pod": (
        endpoint_from(fieldRef={"fieldPath": "metadata.name"}),
        R.ENDPOINT_UNKNOWN,
    ),
    "an endpoint that the kubelet expands": (
        variable("HF_ENDPOINT", "https://$(HOST)"),
        R.ENDPOINT_UNKNOWN,
    ),
    "an endpoint of envFrom": (
        init(envFrom=[{"configMapRef": {"name": "c"}}]),
        R.ENDPOINT_UNKNOWN,
    ),
    "an endpoint of a Secret's envFrom": (
        init(envFrom=[{"secretRef": {"name": "s"}}]),
        R.ENDPOINT_UNKNOWN,
    ),
}


@pytest.mark.parametrize(("edit", "reason"), CASES.values(), ids=CASES.keys())
def test_bad_input_is_left_alone_or_patched_soundly(
    edit: Edit, reason: DecisionReason, view: View
) -> None:
    pod = after_kserve(edit)
    start = time.process_time()
    decision = decide(AdmissionRequest(pod, "chat"), view)
    assert time.process_time() - start < 1.0
    assert decision.reason is reason, decision.detail
    assert bool(decision.operations) == (reason is R.CACHED)
    patched = apply_patch(pod, decision.operations)
    assert soundness_fault(patched) is None or patched == pod
    again = decide(AdmissionRequest(patched, "chat"), view)
    assert again.operations == ()


def test_an_invalid_pods_fault_is_told_as_its_own(view: View) -> None:
    decision = decide(AdmissionRequest(after_kserve(beside("kserve-container")), "chat"), view)
    assert (decision.reason, decision.detail) == (R.INVALID_POD, "a container name is there twice")


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Python's collector looks at all there is, more and more often; that is not asked here."""
    gc.disable()
    yield
    gc.enable()


def many_readers(number: int) -> Pod:
    return after_kserve(containers(number))


def many_volumes(number: int, uris: int = 1) -> Pod:
    """An initializer with many mounts, and so many URIs that go into one of them."""
    volumes = [f"v{i}" for i in range(number)]
    words = [w for i in range(uris) for w in (f"s3://adapters/{i}", f"{HERE}/{i}")]
    pod = after_kserve(args(*words))
    pod["spec"]["volumes"] += [{"name": name, "emptyDir": {}} for name in volumes]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in volumes]
    initializer(pod)["volumeMounts"] += mounts
    return pod


def many_uris(number: int) -> Pod:
    return many_volumes(number, number)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("make", "number"), [(many_readers, 24_000), (many_volumes, 40_000), (many_uris, 8_000)]
)
def test_a_pod_sixteen_times_as_large_holds_others_up_about_sixteen_times_as_long(
    make: Callable[[int], Pod], number: int, view: View
) -> None:
    """As large as a request may be; what compares each with each takes 250 times as long."""
    seconds = []
    for size in (number // 16, number):
        request = AdmissionRequest(make(size), "chat")
        start = time.process_time()
        assert decide(request, view).reason is R.CACHED
        seconds.append(time.process_time() - start)
    assert seconds[1] < 45 * seconds[0]  # a large one misses the processor's caches more


def test_deep_paths_are_compared_in_bounded_time(view: View) -> None:
    """As many depths as fit into a request: comparing each with each took half a minute."""
    words = [w for d in range(1, 1200) for w in (f"s3://adapters/{d}", HERE + "/a" * d)]
    mounts = [{"name": "devshm", "mountPath": f"{HERE}/b" * 300 + f"/{i}"} for i in range(1200)]
    pod = after_kserve(args(*words))
    initializer(pod)["volumeMounts"] += mounts
    start = time.process_time()
    decision = decide(AdmissionRequest(pod, "chat"), view)
    assert decision.reason is R.CACHED, decision.detail
    assert time.process_time() - start < 20.0
