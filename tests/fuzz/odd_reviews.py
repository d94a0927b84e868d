"""AdmissionReviews far from what KServe makes: its own pods, bent in many places.

A review is made from a number alone, so that one that breaks something can be made again. What is
put into a pod is odd JSON, parts of other pods, or words that Larder knows, at places where they do
not belong.
"""

import copy
import random
from collections.abc import Iterator
from typing import Any, Final

from tests.fakes.kserve_mutator import KServe
from tests.fakes.predictor_pods import SHAPES

Json = Any

NAMESPACES: Final = ("chat", "search", "other", "", "kube-system")
WORDS: Final = (
    *("storage-initializer", "kserve-container", "kserve-provision-location", "queue-proxy", "x"),
    *("larder-0123456789abcdef", "larder-52a2d80d4bc5fa16", "LARDER_SLOTS", "LARDER_FALLBACK"),
    *("/mnt/models", "/mnt", "/mnt/models/sub", "/larder", "/larder/x", "/", "", "..", "a/../b"),
    *("hf://Qwen/Qwen2-0.5B-Instruct", "hf://Qwen/Qwen2-0.5B-Instruct:main", "hf://org/secret"),
    *("hf://org/placed", "HF://org/parts", "s3://models/llama", "s3://models/llama/v$1"),
    *("s3://adapters/../x", "s3://adapters/%2e%2e/x", "s3://adapters/a b", "s3://x/$(Y)"),
    *("s3://adapters/a\tb", "s3://adapters/a\nb", "s3://adapters/" + "x" * 4000, "pvc://w/x"),
    *("oci://r/i", "https://h/m.tar.gz", "gs://b/c", "$(X)", "$$", "\x00", "\u2028", "é" * 60),
    *("HF_ENDPOINT", "AWS_ENDPOINT_URL", "S3_ENDPOINT", "S3_USE_HTTPS", "STORAGE_CONFIG"),
    *("STORAGE_ALLOW_PATTERNS", "https://huggingface.co", "http://minio:9000", '["*.json"]', "[["),
    *("kserve/storage-initializer:v1", "registry.example:5000/our/fetcher", "nginx"),
    *("serving.kserve.io/inferenceservice", "app.kubernetes.io/part-of", "llminferenceservice"),
    *("larder.dev/cache", "disabled", "larder.dev/decision", "Cached", "larder.dev/keys"),
    *("storage.kserve.io/readonly", "false", "true", "internal.serving.kserve.io/agent"),
    *("nodeName", "affinity", "hostUsers", "runtimeClassName", "gvisor", "securityContext"),
    *("command", "args", "env", "envFrom", "volumeMounts", "volumeDevices", "subPath", "readOnly"),
)
ODD: Final = (None, True, False, 0, -1, 2**63, 1.5, "", [], {}, [None], [[]], {"": None}, ["a"] * 3)
_MOST_CHANGES: Final = 8
_MANY: Final = 200


def shapes() -> list[Json]:
    """The pods of KServe that reviews are made from, those that are served more than once."""
    found = []
    for row in SHAPES.values():
        found.append(row.before)
        after = [KServe(release, row.around).mutate(row.before) for release in row.releases]
        found += after * (4 if row.slots else 1)
    return found


class OddReviews:
    """Makes the review of a number; the same number makes the same review."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._shapes = shapes()

    def review(self, number: int) -> Json:
        """A review, well-formed but for its pod; of fifty, one is not."""
        source = random.Random(f"{self._seed}/{number}")  # noqa: S311 - a test that can be repeated
        pod = copy.deepcopy(source.choice(self._shapes))
        for _ in range(source.randint(0, _MOST_CHANGES)):
            self._change(source, pod)
        request = {
            "uid": f"{number}",
            "operation": "CREATE",
            "namespace": source.choice(NAMESPACES[: source.choice((1, 1, 1, len(NAMESPACES)))]),
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": pod,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        whole = {**review, "request": request}
        if source.randrange(50) == 0:
            self._change(source, whole)
        return whole

    def _change(self, source: random.Random, document: Json) -> None:
        """One change somewhere: taken away, replaced, said twice, or said very often."""
        parents = [node for node in nodes(document) if isinstance(node, (dict, list)) and node]
        parent = source.choice(parents)
        at = source.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        match source.randrange(7):
            case 0:
                del parent[at]
            case 1:
                parent[at] = copy.deepcopy(source.choice(ODD))
            case 2 | 3:
                parent[at] = source.choice(WORDS)
            case 4 if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[at]))
            case 5 if isinstance(parent, list) and source.randrange(8) == 0:
                parent += [copy.deepcopy(parent[at]) for _ in range(_MANY)]
            case 6 if isinstance(parent, dict):
                parent[source.choice(WORDS)] = copy.deepcopy(parent[at])
            case _:
                other = list(nodes(source.choice(self._shapes)))
                parent[at] = copy.deepcopy(source.choice(other))


def nodes(value: Json) -> Iterator[Json]:
    """A document and everything in it."""
    yield value
    for inner in value.values() if isinstance(value, dict) else ():
        yield from nodes(inner)
    for inner in value if isinstance(value, list) else ():
        yield from nodes(inner)
