"""The fuzz run is short here (`make fuzz` is the long one), and its judge is not blind."""

import base64
import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.predictor_pods import recorded
from tests.fuzz.odd_http import OddHttp
from tests.fuzz.odd_reviews import OddReviews
from tests.fuzz.pod_judge import BrokenAnswerError, judge, patched_pod
from tests.fuzz.run_http import Clients

REPOSITORY = Path(__file__).parents[2]
KEY = "52a2d80d4bc5fa16"
REVIEW = {"request": {"uid": "u", "object": {"spec": {}}}}


def test_odd_reviews_break_nothing() -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--reviews", "1000", "--seed", "7"]
    told = subprocess.run(  # noqa: S603 - our own program
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "1000 reviews, " in told.stdout


def test_odd_bytes_break_nothing() -> None:
    command = [sys.executable, "-m", "tests.fuzz.run_http", "--conversations", "300", "--seed", "7"]
    told = subprocess.run(  # noqa: S603 - our own program
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "300 conversations, " in told.stdout


@pytest.mark.parametrize("received", [b"HTTP/1.1 500 x", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 503 x"])
def test_the_judge_sees_a_status_that_must_not_be_given(received: bytes) -> None:
    webhook: Any = None  # nobody is asked
    with pytest.raises(BrokenAnswerError):
        Clients(webhook, 1).judge(received)


def test_a_number_makes_the_same_conversation_again() -> None:
    first, second = OddHttp(1), OddHttp(1)
    assert [first.conversation(n) for n in range(50)] == [second.conversation(n) for n in range(50)]


def test_a_number_makes_the_same_review_again() -> None:
    first, second = OddReviews(1), OddReviews(1)
    assert [first.review(n) for n in range(50)] == [second.review(n) for n in range(50)]
    assert OddReviews(2).review(3) != first.review(3)


def answer(**response: object) -> bytes:
    return json.dumps({"response": {"uid": "u", "allowed": True} | response}).encode()


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"patchType": "JSONPatch", "patch": text}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(500, answer(), id="a status of 500"),
        pytest.param(400, b'{"error": "two\\nlines"}', id="two lines"),
        pytest.param(200, answer(allowed=False), id="a refusal"),
        pytest.param(200, answer(uid="v"), id="another uid"),
        pytest.param(200, answer(status={"message": "NamespaceNotAllowed"}), id="a reason"),
        pytest.param(
            200, answer(**patch({"op": "move", "from": "/spec", "path": "/x"})), id="move"
        ),
        pytest.param(200, answer(**patch() | {"patchType": "Merge"}), id="a patch of another type"),
    ],
)
def test_the_judge_sees_an_answer_that_must_not_be_given(status: int, body: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        patched_pod(REVIEW, status, body)


def test_the_judge_applies_a_patch() -> None:
    add = {"op": "add", "path": "/spec/x", "value": 1}
    assert patched_pod(REVIEW, 200, answer(**patch(add))) == {"spec": {"x": 1}}
    assert patched_pod(REVIEW, 200, answer()) is None


def slot(path: str = f"/var/lib/larder/slots/{KEY}", name: str = f"larder-{KEY}") -> Any:
    return {"name": name, "hostPath": {"path": path}}


def claim(name: str, **fields: bool) -> Any:
    return {"name": f"larder-{KEY}", "persistentVolumeClaim": {"claimName": name, **fields}}


def added(*volumes: Any, **mount: Any) -> Callable[[Any], None]:
    def edit(pod: Any) -> None:
        pod["spec"]["volumes"] += volumes
        path = {"name": f"larder-{KEY}", "mountPath": "/larder/x", "readOnly": True}
        if mount:
            pod["spec"]["containers"][0]["volumeMounts"].append(path | mount)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(added(slot("/etc")), id="a volume of the host's"),
        pytest.param(added(slot("/var/lib/larder/slots/0123456789abcdef")), id="another's slot"),
        pytest.param(added(claim(f"larder-{KEY}")), id="a claim to write"),
        pytest.param(added(claim("weights", readOnly=True)), id="a claim of the tenant's"),
        pytest.param(added(claim("larder-0123456789abcdef", readOnly=True)), id="another's claim"),
        pytest.param(added(slot(name="x")), id="a volume of another name"),
        pytest.param(added(slot(), slot()), id="a volume twice"),
        pytest.param(added(slot() | {"emptyDir": {}}), id="a volume with two sources"),
        pytest.param(added(slot(), readOnly=False), id="a mount to write"),
        pytest.param(added(slot(), subPath="a"), id="a part"),
        pytest.param(added(slot(), mountPath="/mnt/models"), id="two mounts at one path"),
        pytest.param(added(readOnly=True), id="a mount without a volume"),
        pytest.param(
            lambda pod: pod["spec"]["initContainers"].append({"name": "Odd"}), id="a bad name"
        ),
        pytest.param(
            lambda pod: pod["spec"]["initContainers"][0]["env"].append({}), id="a bad variable"
        ),
    ],
)
def test_the_judge_sees_a_pod_that_must_not_be_made(edit: Callable[[Any], None]) -> None:
    before = recorded("hf-raw.after-kserve")
    after = copy.deepcopy(before)
    edit(after)
    with pytest.raises(BrokenAnswerError):
        judge(before, after, {KEY})


def test_the_judge_takes_a_slot_that_is_mounted_as_it_should() -> None:
    before = recorded("hf-raw.after-kserve")
    after = copy.deepcopy(before)
    added(slot(), readOnly=True)(after)
    judge(before, after, {KEY})
    after["spec"]["volumes"][-1] = claim(f"larder-{KEY}", readOnly=True)
    judge(before, after, {KEY})
