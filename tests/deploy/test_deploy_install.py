"""The install as a whole: complete, named as the programs know it, no more rights than meant."""

from pathlib import Path

import pytest

from larder.contract import CREDENTIALS_NAMESPACE, SYSTEM_NAMESPACE
from tests.deploy.shipped import DEPLOY, INSTALLED, KUSTOMIZATIONS, Object, documents, kustomization
from webhook.certificates import SECRET

ROLES = [o for o in INSTALLED if o["kind"] in {"Role", "ClusterRole"}]
BINDINGS = [o for o in INSTALLED if o["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
ACCOUNTS = {"larder-agent", "larder-webhook", "larder-controller"}


def key(o: Object) -> tuple[str, str | None, str]:
    return o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]


def test_every_object_says_what_it_is_and_is_there_once() -> None:
    keys = [key(o) for o in INSTALLED]
    assert len(keys) > 25
    assert len(keys) == len(set(keys))
    assert all(o["metadata"]["labels"]["app.kubernetes.io/part-of"] == "larder" for o in INSTALLED)


def test_every_file_is_in_a_kustomization_and_everything_named_exists() -> None:
    listed: set[Path] = set(KUSTOMIZATIONS)
    for path in KUSTOMIZATIONS:
        content = kustomization(path.parent)
        names = [*content.get("resources", ()), *content.get("components", ())]
        names += [patch["path"] for patch in content.get("patches", ()) if "path" in patch]
        names += [f for each in content.get("configMapGenerator", ()) for f in each["files"]]
        listed |= {(path.parent / name).resolve() for name in names}
    assert {p for p in listed if not p.is_dir()} == set(DEPLOY.rglob("*.yaml"))
    assert all(p.is_file() or (p / "kustomization.yaml") in KUSTOMIZATIONS for p in listed)


def test_rights_can_be_left_out() -> None:
    base = kustomization(DEPLOY / "base")
    assert (base["resources"], base["components"]) == (["programs"], ["../components/rbac"])
    programs = kustomization(DEPLOY / "base/programs")["resources"]
    kinds = {o["kind"] for name in programs for o in documents(DEPLOY / "base/programs" / name)}
    assert "ServiceAccount" in kinds
    assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & kinds


def test_the_namespaces_are_those_of_the_programs() -> None:
    levels = {
        o["metadata"]["name"]: o["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for o in INSTALLED
        if o["kind"] == "Namespace"
    }
    assert levels == {SYSTEM_NAMESPACE: "privileged", CREDENTIALS_NAMESPACE: "restricted"}
    used = {o["metadata"]["namespace"] for o in INSTALLED if "namespace" in o["metadata"]}
    assert used == {*levels, "default"}  # a Node's Events are in "default"


def test_three_programs_are_shipped_and_one_host_path() -> None:
    workloads = {
        o["metadata"]["name"]: o["spec"]["template"]["spec"]
        for o in INSTALLED
        if "template" in o.get("spec", {})
    }
    assert set(workloads) == ACCOUNTS
    for pod in workloads.values():
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert {name for name, pod in workloads.items() if "volumes" in pod} == {"larder-agent"}


def test_images_have_no_registry_and_a_tag_from_the_base() -> None:
    images = kustomization(DEPLOY / "base/programs")["images"]
    assert {image["name"] for image in images} == {"larder-agent", "larder-webhook"}
    assert all(image["newTag"] for image in images)


def test_no_right_has_a_wildcard() -> None:
    assert ROLES
    rules = [rule for o in ROLES for rule in o["rules"]]
    assert all("*" not in item for rule in rules for field in rule.values() for item in field)


def test_no_right_to_secrets_but_the_credentials_and_the_own_one() -> None:
    holders = [
        (*key(o), rule["verbs"], rule.get("resourceNames"))
        for o in ROLES
        for rule in o["rules"]
        if "secrets" in rule["resources"]
    ]
    assert holders == [
        ("Role", CREDENTIALS_NAMESPACE, "larder-agent", ["get"], None),
        ("Role", SYSTEM_NAMESPACE, "larder-webhook", ["get", "patch"], [SECRET]),
    ]


@pytest.mark.parametrize("verb", ["create", "delete", "update", "deletecollection"])
def test_rights_to_make_or_take_away_are_few(verb: str) -> None:
    holders = [
        (o["metadata"]["name"], resource)
        for o in ROLES
        for rule in o["rules"]
        for resource in rule["resources"]
        if verb in rule["verbs"]
    ]
    claims = [("larder-controller", f"persistentvolume{end}") for end in ("s", "claims")]
    made = [
        ("larder-agent", "configmaps"),
        ("larder-agent", "events"),
        ("larder-webhook", "tokenreviews"),
        ("larder-webhook", "subjectaccessreviews"),
        ("larder-webhook", "events"),
        *claims,
        ("larder-controller", "events"),
    ]
    assert holders == {"create": made, "delete": claims}.get(verb, [])


def test_every_right_is_one_programs_and_only_its() -> None:
    for o in BINDINGS:
        name = o["metadata"]["name"]
        subject = {"kind": "ServiceAccount", "name": name, "namespace": SYSTEM_NAMESPACE}
        assert (name in ACCOUNTS, o["subjects"]) == (True, [subject])
    bound = {
        (o["roleRef"]["kind"], o["metadata"].get("namespace"), o["roleRef"]["name"])
        for o in BINDINGS
    }
    assert bound == {key(o) for o in ROLES}


def test_no_account_gives_its_token_to_a_pod_that_did_not_ask() -> None:
    accounts = {
        o["metadata"]["name"]: o["automountServiceAccountToken"]
        for o in INSTALLED
        if o["kind"] == "ServiceAccount"
    }
    assert accounts == dict.fromkeys(ACCOUNTS, False)
