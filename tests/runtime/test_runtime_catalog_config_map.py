"""The catalog in the cluster's ConfigMap, as the mirror of a watch shows it."""

from typing import Any

from runtime.catalog_config_map import CatalogConfigMap
from runtime.kube.mirror import Mirror

GOOD = "apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels: []\n"


def config_map(data: Any, version: str) -> dict[str, Any]:
    metadata = {"name": "larder-catalog", "namespace": "larder-system", "resourceVersion": version}
    return {"metadata": metadata, "data": data}


def test_an_edit_is_read_once_and_a_bad_one_keeps_the_last_good_one() -> None:
    mirror = Mirror()
    catalog = CatalogConfigMap(mirror)
    first = catalog.poll()
    assert (first.catalog, first.changed, first.problems) == (None, False, ())
    mirror.fill([config_map({"catalog.yaml": GOOD}, "1")])
    good = catalog.poll()
    assert good.catalog is not None
    assert (good.changed, good.problems, good.document) == (True, (), GOOD.encode())
    assert not catalog.poll().changed
    for data, version, problem in (
        ({"catalog.yaml": "kind: Nonsense"}, "2", "line 1: "),
        ({"catalogue.yaml": GOOD}, "3", "has no key 'catalog.yaml'"),
        (None, "4", "has no key 'catalog.yaml'"),
    ):
        mirror.fill([config_map(data, version)])
        bad = catalog.poll()
        assert bad.catalog == good.catalog
        assert any(problem in p for p in bad.problems)
    mirror.fill([])
    assert catalog.poll().problems == ("ConfigMap larder-system/larder-catalog: is not there",)


def test_a_watch_that_is_out_of_touch_is_no_edit() -> None:
    mirror = Mirror()
    catalog = CatalogConfigMap(mirror)
    mirror.fill([config_map({"catalog.yaml": GOOD}, "1")])
    catalog.poll()
    mirror.lost()
    reading = catalog.poll()
    assert (reading.changed, reading.problems) == (False, ())


def test_what_only_a_standalone_agent_may_be_told_is_refused() -> None:
    mirror = Mirror()
    entry = (
        "models: [{name: a, storageUri: 'hf://o/m', revision: v1, namespaces: [x],"
        " credentials: {tokenFile: /etc/shadow}}]\n"
    )
    text = GOOD.replace("models: []\n", entry)
    mirror.fill([config_map({"catalog.yaml": text}, "1")])
    assert any("secretName" in p for p in CatalogConfigMap(mirror).poll().problems)
