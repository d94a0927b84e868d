"""The webhook while pods are made all the time: rolled out anew, and with other certificates."""

import base64
import json
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from larder.catalog import read_catalog
from larder.catalog_rules import catalog_notes
from larder.contract import CATALOG_CONFIG_MAP, CATALOG_DATA_KEY, SYSTEM_NAMESPACE
from larder.errors import CatalogError
from runtime.kube.paths import object_path
from tests.cluster.node.admissions import Admissions
from tests.cluster.node.node_cluster import kubectl, until
from tests.cluster.node.predictors import Model, predictor_pod
from tests.cluster.node.whole import CONFIGURATION, Cluster, webhooks

SECRET = object_path("v1", "secrets", "larder-webhook-certificates", namespace=SYSTEM_NAMESPACE)
CATALOG = "apiVersion: larder.dev/v1alpha1\nkind: Catalog\n"
SHOWN = "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], 9443)))"


@pytest.fixture
def known(cluster: Cluster) -> Model:
    """A model that is in the catalog, as the webhook knows."""
    model = cluster.hub.model("tiny")
    cluster.write_catalog(model)
    until(lambda: cluster.try_to_predict(model) == "Cached", "the webhook knew the model")
    return model


def admissions(cluster: Cluster, model: Model, rate: int) -> Admissions:
    return Admissions(cluster.admin, predictor_pod(model, cluster.node.name, "nobody"), rate)


def test_a_rollout_under_100_admissions_a_second_fails_none_and_patches_all(
    cluster: Cluster, known: Model
) -> None:
    rollout, deployment = ("-n", SYSTEM_NAMESPACE, "rollout"), "deployment/larder-webhook"
    old = set(webhooks(cluster.admin, ready=True))
    with admissions(cluster, known, rate=100) as made:
        kubectl(*rollout, "restart", deployment)
        kubectl(*rollout, "status", deployment, "--timeout=90s")
        until(lambda: not old & webhooks(cluster.admin), "the old ones were gone")
        count = made.count
        until(lambda: made.count > count + 200, "it went on for two seconds")
    assert set(made.outcomes) == {"Cached"}, made.outcomes
    print(f"{made.count} pods, {made.count / made.seconds:.0f} a second")  # noqa: T201 - the figure, with -s


def test_a_new_leaf_under_load_is_shown_by_every_replica_and_leaves_no_pod_unpatched(
    cluster: Cluster, known: Model
) -> None:
    old = material(cluster)
    with admissions(cluster, known, rate=20) as made:
        cluster.admin.patch(SECRET, {"data": {"tls.crt": None, "tls.key": None}})
        await_shown(cluster, lambda new: new["ca.crt"] == old["ca.crt"], old)
        count = made.count
        until(lambda: made.count > count + 40, "it went on for two seconds")
    assert set(made.outcomes) == {"Cached"}, made.outcomes


def test_an_emptied_secret_under_load_fails_no_pod_and_is_made_anew(
    cluster: Cluster, known: Model
) -> None:
    old = material(cluster)
    with admissions(cluster, known, rate=20) as made:
        cluster.admin.patch(SECRET, {"data": dict.fromkeys(old)})
        await_shown(cluster, lambda new: new["ca.crt"] != old["ca.crt"], old)
        patched = made.outcomes["Cached"]
        until(lambda: made.outcomes["Cached"] > patched + 40, "pods were patched again")
    assert set(made.outcomes) <= {"Cached", "unpatched"}, made.outcomes
    hooks = cluster.admin.get(CONFIGURATION)["webhooks"]
    bundle = base64.b64encode(material(cluster)["ca.crt"]).decode()
    assert {hook["clientConfig"]["caBundle"] for hook in hooks} == {bundle}


def material(cluster: Cluster) -> dict[str, bytes]:
    data = cluster.admin.get(SECRET).get("data", {})
    return {name: base64.b64decode(value) for name, value in data.items()}


def await_shown(
    cluster: Cluster, is_wanted: Callable[[dict[str, bytes]], bool], old: Mapping[str, bytes]
) -> None:
    """Until the Secret holds another leaf, and every replica shows that one."""

    def is_shown() -> bool:
        new = material(cluster)
        if not new.get("tls.crt") or new["tls.crt"] == old["tls.crt"]:
            return False
        assert is_wanted(new)
        return {shown_by(cluster, pod) for pod in webhooks(cluster.admin, ready=True)} == {
            new["tls.crt"].strip()
        }

    until(is_shown, "every replica showed the new leaf", pause=1)


def shown_by(cluster: Cluster, pod: str) -> bytes:
    """The certificate that a replica shows, seen from the hub's pod."""
    path = object_path("v1", "pods", pod, namespace=SYSTEM_NAMESPACE)
    address: Any = cluster.admin.get(path)["status"]["podIP"]
    hub = cluster.hub
    return kubectl(
        "-n", hub.namespace, "exec", hub.name, "--", "python3", "-c", SHOWN, address
    ).strip().encode()  # fmt: skip


def edited(text: str) -> subprocess.CompletedProcess[str]:
    """An admin tries an edit of the catalog (a dry run)."""
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CATALOG_CONFIG_MAP, "namespace": SYSTEM_NAMESPACE},
        "data": {CATALOG_DATA_KEY: text},
    }
    apply = (
        "kubectl",
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
        "-",
    )
    return subprocess.run(  # noqa: S603 - ours
        apply, input=json.dumps(content), check=False, capture_output=True, text=True
    )


def test_a_bad_edit_of_the_catalog_is_refused_in_the_words_of_catalog_validate(
    cluster: Cluster, known: Model
) -> None:
    assert cluster.try_to_predict(known) == "Cached"  # it answers
    bad = f"{CATALOG}typo: 1\nmodels:\n- {{name: a, storageUri: 'hf://o/m'}}\n"
    with pytest.raises(CatalogError) as refused:
        read_catalog(bad.encode(), standalone=False)
    done = edited(bad)
    assert done.returncode == 1
    assert 'admission webhook "catalog.larder.dev" denied the request' in done.stderr
    assert len(refused.value.problems) > 1
    for problem in refused.value.problems:
        assert problem in done.stderr


def test_an_admin_is_warned_of_a_branch_and_the_edit_is_taken(
    cluster: Cluster, known: Model
) -> None:
    assert cluster.try_to_predict(known) == "Cached"  # it answers
    branch = "{name: a, storageUri: 'hf://o/m', revision: main, namespaces: [x]}"
    good = f"{CATALOG}models:\n- {branch}\n"
    (note,) = catalog_notes(read_catalog(good.encode(), standalone=False), standalone=False)
    done = edited(good)
    assert done.returncode == 0, done.stderr
    assert f"Warning: {note}" in done.stderr
