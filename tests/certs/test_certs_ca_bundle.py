import base64
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.authority import bundle_of, make_authority
from certs.ca_bundle import Published, is_injected, patch_of, published_authorities
from tests.certs.certs_cases import NOW, PATH
from tests.certs.certs_world import ENDPOINTS, configuration

OURS, FOREIGN = make_authority(NOW), make_authority(NOW)
BUNDLE = bundle_of([OURS])
WANTED = Published(BUNDLE, PATH, ENDPOINTS)
NAMES = list(ENDPOINTS)


def mutating(*names: str, **annotations: str) -> dict[str, Any]:
    made = configuration("MutatingWebhookConfiguration", *names or NAMES[:2], **annotations)
    made["metadata"]["resourceVersion"] = "7"
    return made


def repaired(content: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = jsonpatch.apply_patch(content, patch_of(content, WANTED))
    return result


def test_a_bare_configuration_gets_bundle_and_path_and_keeps_all_else() -> None:
    before = mutating()
    after = repaired(before)
    for webhook, name in zip(after["webhooks"], NAMES, strict=False):
        client = webhook["clientConfig"]
        assert base64.b64decode(client.pop("caBundle")) == BUNDLE
        assert client["service"].pop("path") == f"/{PATH}{ENDPOINTS[name]}"
    for webhook in before["webhooks"]:
        webhook["clientConfig"]["service"].pop("path")
    assert after == before


def test_a_patch_holds_for_the_version_read_alone() -> None:
    assert patch_of(mutating(), WANTED)[0] == {
        "op": "replace",
        "path": "/metadata/resourceVersion",
        "value": "7",
    }


@pytest.mark.parametrize(
    ("change", "operations"),
    [
        ({}, 0),
        ({"caBundle": ""}, 1),
        ({"caBundle": None}, 1),
        ({"caBundle": "%%%"}, 1),
        ({"caBundle": "\u00e9"}, 1),
        ({"caBundle": base64.b64encode(bundle_of([FOREIGN])).decode()}, 1),
        ({"caBundle": base64.b64encode(bundle_of([OURS, FOREIGN])).decode()}, 1),
        ({"service": {"name": "larder-webhook", "path": "/"}}, 1),
        ({"service": {"name": "larder-webhook"}}, 1),
        ({"caBundle": "", "service": {"name": "larder-webhook"}}, 2),
    ],
    ids=[
        "nothing",
        "emptied",
        "null",
        "no base64",
        "no ASCII",
        "another authority",
        "an authority more",
        "another path",
        "no path",
        "bundle and path",
    ],
)
def test_drift_of_one_webhook_is_repaired_in_it_alone(
    change: dict[str, Any], operations: int
) -> None:
    good = repaired(mutating())
    drifted = repaired(mutating())
    drifted["webhooks"][1]["clientConfig"].update(change)
    patch = patch_of(drifted, WANTED)
    assert len(patch) == (operations + 1 if operations else 0)
    assert all(p["path"].startswith("/webhooks/1/") for p in patch[1:])
    again = repaired(drifted)
    assert patch_of(again, WANTED) == []
    client, expected = again["webhooks"][1]["clientConfig"], good["webhooks"][1]["clientConfig"]
    assert client["caBundle"] == expected["caBundle"]
    assert client["service"]["path"] == expected["service"]["path"]


@pytest.mark.parametrize(
    "annotation",
    [
        "cert-manager.io/inject-ca-from",
        "cert-manager.io/inject-ca-from-secret",
        "cert-manager.io/inject-apiserver-ca",
        "service.beta.openshift.io/inject-cabundle",
    ],
)
def test_a_bundle_that_somebody_else_injects_is_left_alone_but_the_path_is_ours(
    annotation: str,
) -> None:
    content = mutating(**{annotation: "larder-system/larder-webhook"})
    assert is_injected(content)
    assert published_authorities(content, ENDPOINTS) == ()
    for webhook in repaired(content)["webhooks"]:
        assert "caBundle" not in webhook["clientConfig"]
        assert webhook["clientConfig"]["service"]["path"] == f"/{PATH}/mutate-pods"
    assert patch_of(repaired(content), WANTED) == []


def test_webhooks_of_others_are_left_alone() -> None:
    content = mutating("somebody.example.com", NAMES[0])
    assert {p["path"].split("/")[2] for p in patch_of(content, WANTED)[1:]} == {"1"}


def test_a_webhook_that_is_reached_by_a_url_is_left_alone() -> None:
    content = mutating(NAMES[0])
    content["webhooks"][0]["clientConfig"] = {"url": "https://outside.example.com/mutate-pods"}
    assert patch_of(content, WANTED) == []
    assert published_authorities(content, ENDPOINTS) == ()


def test_a_configuration_without_webhooks_needs_nothing() -> None:
    content = mutating()
    del content["webhooks"]
    del content["metadata"]["annotations"]
    assert patch_of(content, WANTED) == []


def test_what_is_published_is_said_for_each_webhook() -> None:
    content = repaired(mutating())
    content["webhooks"][1]["clientConfig"]["caBundle"] = "%%%"
    assert published_authorities(content, ENDPOINTS) == (
        frozenset({OURS.fingerprint}),
        frozenset(),
    )


@given(st.text(max_size=40))
def test_no_bundle_however_odd_raises(text: str) -> None:
    content = mutating(NAMES[0])
    content["webhooks"][0]["clientConfig"]["caBundle"] = text
    assert patch_of(repaired(content), WANTED) == []


def test_the_path_shows_in_no_text() -> None:
    assert PATH not in repr(WANTED)
