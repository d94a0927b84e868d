"""A tenant's pod gets what the catalog gives its namespace, whatever it says of itself.

Namespace `chat` has a model; `hf://org/secret` is for `search` alone. Each spoof is said by a pod
of `chat` that asks for the one or the other.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from larder.catalog import read_catalog
from larder.contract import INITIALIZER_COMMAND, DecisionReason, SlotMount
from larder.identity import identity_of
from larder.matching import CatalogIndex
from tests.fuzz.pod_judge import judge
from webhook.metrics import Metrics
from webhook.mutation import AdmissionRequest, Decision, View, VolumeMode, apply_patch, decide
from webhook.review import serve_review

Pod = Any
Spoof = Callable[[Pod], object]

OURS = identity_of(
    "hf://Qwen/Qwen2-0.5B-Instruct", revision="c540970f9e29518b1d8f06ab8b24cba66ad77b6d"
).key
THEIR_URI = "hf://org/secret"
THEIRS = identity_of(THEIR_URI, revision="main").key
SLOT = f"larder-{THEIRS}"
ROW = SlotMount(THEIR_URI, f"/larder/{THEIRS}", "", THEIR_URI)
LARDER_SLOTS = f"1\n{ROW.uri}\t{ROW.mount_path}\t{ROW.subpath}\t{ROW.fallback_uri}\n"


def initializer(pod: Pod) -> Any:
    return pod["spec"]["initContainers"][0]


def annotation(**fields: str) -> Spoof:
    return lambda pod: pod["metadata"]["annotations"].update(named(fields))


def label(**fields: str) -> Spoof:
    return lambda pod: pod["metadata"]["labels"].update(named(fields))


def named(fields: dict[str, str]) -> dict[str, str]:
    return {f"larder.dev/{name}": value for name, value in fields.items()}


def variable(name: str, value: str) -> Spoof:
    return lambda pod: initializer(pod)["env"].append({"name": name, "value": value})


def mount(**fields: object) -> Spoof:
    return lambda pod: initializer(pod)["volumeMounts"].append(
        {"name": SLOT, "mountPath": f"/larder/{THEIRS}", "readOnly": True} | fields
    )


def volume(**source: object) -> Spoof:
    return lambda pod: pod["spec"]["volumes"].append({"name": SLOT, **source})


def all_of(*spoofs: Spoof) -> Spoof:
    return lambda pod: [spoof(pod) for spoof in spoofs]


HOST = volume(hostPath={"path": f"/var/lib/larder/slots/{THEIRS}", "type": "Directory"})
CLAIM = volume(persistentVolumeClaim={"claimName": SLOT, "readOnly": True})
DECIDED = annotation(decision="Cached", keys=THEIRS)
SPOOFS: dict[str, Spoof] = {
    "the annotations of a decision": DECIDED,
    "the URI that a placed pod keeps": annotation(**{"storage-initializer-sourceuri": THEIR_URI}),
    "KServe's annotation of another URI": lambda pod: pod["metadata"]["annotations"].update(
        {"internal.serving.kserve.io/storage-initializer-sourceuri": THEIR_URI}
    ),
    "the label of a slot": lambda pod: pod["metadata"]["labels"].update(
        {f"model.larder.dev/{THEIRS}": "ready"}
    ),
    "a label that allows host paths": label(volume="hostPath", mode="Enforce"),
    "another namespace": lambda pod: pod["metadata"].update(namespace="search"),
    "LARDER_SLOTS": variable("LARDER_SLOTS", LARDER_SLOTS),
    "LARDER_FALLBACK": variable("LARDER_FALLBACK", "/bin/evil"),
    "our command": lambda pod: initializer(pod).update(command=list(INITIALIZER_COMMAND)),
    "the slot's host path": all_of(HOST, mount()),
    "a volume of ours that nobody mounts": HOST,
    "the slot's claim": all_of(CLAIM, mount()),
    "a part of the slot's claim": all_of(CLAIM, mount(subPath="content")),
    "a mount of the slot to write": all_of(HOST, mount(readOnly=False)),
    "everything that a rewrite leaves": all_of(
        HOST,
        mount(),
        DECIDED,
        variable("LARDER_SLOTS", LARDER_SLOTS),
        lambda pod: initializer(pod).update(command=list(INITIALIZER_COMMAND)),
    ),
}


def decided(pod: Pod, view: View) -> Decision:
    return decide(AdmissionRequest(pod, "chat"), view)


def with_catalog(view: View, text: str) -> View:
    return replace(view, index=CatalogIndex(read_catalog(text.encode(), standalone=True)))


@pytest.fixture(params=["host paths", "claims"])
def around(request: pytest.FixtureRequest, view: View) -> View:
    """Both ways to a slot; of claims, every one that could be there."""
    if request.param == "host paths":
        return view
    claims = frozenset({f"larder-{OURS}", SLOT})
    return replace(view, volumes=VolumeMode.BY_NAMESPACE, namespace_labels={}, claims=claims)


@pytest.mark.parametrize("name", SPOOFS)
def test_a_pod_that_may_not_have_a_model_gains_nothing_by(
    name: str, pod: Pod, around: View
) -> None:
    initializer(pod)["args"][0] = THEIR_URI
    assert decided(pod, around).reason is DecisionReason.NAMESPACE_NOT_ALLOWED
    SPOOFS[name](pod)
    decision = decided(pod, around)
    assert (decision.reason is DecisionReason.CACHED, decision.operations) == (False, ())


@pytest.mark.parametrize("name", SPOOFS)
def test_a_pod_that_has_a_model_gets_no_other_by(name: str, pod: Pod, around: View) -> None:
    SPOOFS[name](pod)
    before = deepcopy(pod)
    after = apply_patch(pod, decided(pod, around).operations)
    judge(before, after, {OURS})
    if after == before:  # it was left alone, as it is
        return
    ours = [v["value"] for v in initializer(after)["env"] if v["name"] == "LARDER_SLOTS"]
    assert [THEIRS in value for value in ours] == [False]
    assert THEIRS not in after["metadata"]["annotations"]["larder.dev/keys"]


@pytest.mark.parametrize(
    "others",
    [pytest.param([], id="alone"), pytest.param(["s3://adapters/a"], id="beside a model it has")],
)
def test_what_a_pod_is_answered_tells_nothing_of_models_of_others(
    review: Callable[[str], Any], view: View, catalog_text: str, others: list[str]
) -> None:
    asked = review("hf-raw.after-kserve")
    words = [w for i, uri in enumerate(others) for w in (uri, f"/mnt/models/{i}")]
    initializer(asked["request"]["object"])["args"] = [THEIR_URI, "/mnt/models", *words]
    body = json.dumps(asked).encode()
    without = with_catalog(view, catalog_text.replace("org/secret", "org/other"))
    cached, unknown = (serve_review(body, lambda _, v=v: v) for v in (view, without))
    assert cached.body == unknown.body
    reasons = [answer.decision and answer.decision.reason for answer in (cached, unknown)]
    assert others or reasons == [
        DecisionReason.NAMESPACE_NOT_ALLOWED,
        DecisionReason.MODEL_NOT_IN_CATALOG,
    ]


def test_what_the_metrics_count_tells_nothing_of_models_of_others() -> None:
    texts = []
    for reason in (DecisionReason.NAMESPACE_NOT_ALLOWED, DecisionReason.MODEL_NOT_IN_CATALOG):
        metrics = Metrics()
        metrics.decisions[reason].inc()
        lines = metrics.text().decode().splitlines()
        texts.append([line for line in lines if "_created" not in line])
    assert texts[0] == texts[1]


def test_a_namespace_that_an_entry_loses_is_given_no_more_of_it(
    pod: Pod, view: View, catalog_text: str
) -> None:
    assert decided(pod, view).keys == (OURS,)
    after = with_catalog(view, catalog_text.replace("[chat]", "[search]"))
    decision = decided(pod, after)
    assert decision.reason is DecisionReason.NAMESPACE_NOT_ALLOWED
    assert decision.operations == ()
