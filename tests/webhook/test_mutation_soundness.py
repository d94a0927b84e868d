"""The last look at a patched pod: what an API server would refuse, and what is not idempotent."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from larder.contract import DecisionReason
from larder.matching import CatalogIndex, Match, SourceView
from webhook.mutation import AdmissionRequest, View, decide
from webhook.mutation.soundness import soundness_fault

Pod = Any
Edit = Callable[[Pod], object]


def server(pod: Pod) -> Any:
    return pod["spec"]["containers"][0]


@pytest.mark.parametrize("name", ["hf-raw", "s3-raw", "storage-uris", "pvc", "llm-decode-lora"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_pod_of_kserves_is_sound(name: str, when: str, review: Callable[[str], Any]) -> None:
    pod = review(f"{name}.{when}-kserve")["request"]["object"]
    assert soundness_fault(pod) is None


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        pytest.param(
            lambda pod: pod["spec"]["volumes"].append(pod["spec"]["volumes"][0]),
            "a volume name is there twice",
            id="two volumes of one name",
        ),
        pytest.param(
            lambda pod: pod["spec"]["volumes"].append({"name": "x" * 64, "emptyDir": {}}),
            "a volume's name is no DNS label",
            id="a name of 64 letters",
        ),
        pytest.param(
            lambda pod: pod["spec"]["volumes"].append({"emptyDir": {}}),
            "a volume's name is no DNS label",
            id="a volume without a name",
        ),
        pytest.param(
            lambda pod: pod["spec"]["volumes"].append("odd"),
            "a volume's name is no DNS label",
            id="a volume of an odd type",
        ),
        pytest.param(
            lambda pod: pod["spec"]["containers"].append({"name": "storage-initializer"}),
            "a container name is there twice",
            id="a container with an init container's name",
        ),
        pytest.param(
            lambda pod: pod["spec"]["containers"].append({"name": "-x"}),
            "a container's name is no DNS label",
            id="a container with a bad name",
        ),
        pytest.param(
            lambda pod: server(pod)["volumeMounts"].append({"name": "none", "mountPath": "/x"}),
            "a mount of a container has no volume",
            id="a mount without its volume",
        ),
        pytest.param(
            lambda pod: server(pod)["volumeMounts"].append(server(pod)["volumeMounts"][0]),
            "a mount path is there twice",
            id="two mounts at one path",
        ),
    ],
)
def test_what_would_be_refused_is_found(edit: Edit, fault: str, pod: Pod) -> None:
    edit(pod)
    assert soundness_fault(pod) == fault


class MoodyIndex(CatalogIndex):
    """A catalog that is asked twice and answers two ways."""

    asked = 0

    def match(self, uri: str, namespace: str, source: SourceView) -> Match | DecisionReason:
        self.asked += 1
        elsewhere = uri if self.asked == 1 else "s3://models/llama"
        return super().match(elsewhere, namespace, source)


def test_a_rewrite_that_is_not_idempotent_is_an_internal_error(pod: Pod, view: View) -> None:
    assert view.index
    moody = replace(view, index=MoodyIndex(view.index.catalog))
    decision = decide(AdmissionRequest(pod, "chat"), moody)
    assert decision.reason is DecisionReason.INTERNAL_ERROR
    assert decision.detail.startswith("a second application is not the same as one: ")
    assert decision.operations == ()
