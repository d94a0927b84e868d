"""Which claims there should be, by catalog, namespaces and services."""

from typing import Any

import pytest

from controller.planning.wanted import MAX_URIS, Wanted, spec_of, uris_in, wanted_claims
from larder.catalog import Catalog, read_catalog
from larder.claims import Claim

NAMESPACES = frozenset({"chat", "search", "lab"})


def catalog(*entries: str) -> Catalog:
    lines = "\n".join(f"  - {{{entry}}}" for entry in entries)
    text = f"apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels:\n{lines}\n"
    return read_catalog(text.encode(), standalone=False)


HUB = "name: hub, storageUri: hf://acme/a, revision: main"
TREE = "name: tree, storageUri: s3://models/llama"


def test_each_namespace_that_an_entry_names_gets_one() -> None:
    listed = catalog(f"{HUB}, namespaces: [chat, search]")
    key = listed.models[0].key
    wanted = wanted_claims(listed, NAMESPACES, {})
    assert wanted == Wanted(frozenset({Claim("chat", key), Claim("search", key)}))


def test_a_namespace_that_is_not_there_gets_none() -> None:
    assert wanted_claims(catalog(f"{HUB}, namespaces: [gone]"), NAMESPACES, {}) == Wanted()


def test_require_gets_another_one_for_the_content() -> None:
    listed = catalog(f"{HUB}, namespaces: [chat], placement: Require")
    key = listed.models[0].key
    both = {Claim("chat", key), Claim("chat", key, is_content=True)}
    assert wanted_claims(listed, NAMESPACES, None).claims == both


@pytest.mark.parametrize(
    ("entry", "uri", "is_asked_for"),
    [
        (HUB, "hf://acme/a", True),
        (HUB, "hf://acme/a:main", True),
        (HUB, "hf://acme/a:other", False),
        (HUB, "hf://acme/ab", False),
        (TREE, "s3://models/llama", True),
        (TREE, "S3://models/llama/", True),
        (TREE, "s3://models/llama/v2", True),
        (TREE, "s3://models/llama2", False),
        (TREE, "pvc://models/llama", False),
        (TREE, "s3://models/llama/" + "x" * 2048, False),
        (TREE, "no scheme://", False),
    ],
)
def test_everybodys_model_gets_one_where_a_service_asks_for_it(
    entry: str, uri: str, is_asked_for: bool
) -> None:
    listed = catalog(f"{entry}, namespaces: ['*']")
    services = {"chat": frozenset({uri}), "elsewhere": frozenset({uri})}
    wanted = wanted_claims(listed, NAMESPACES, services)
    assert wanted.claims == ({Claim("chat", listed.models[0].key)} if is_asked_for else set())
    assert wanted.undecided == frozenset()


def test_a_service_gets_nothing_that_its_namespace_is_not_named_for() -> None:
    listed = catalog(f"{HUB}, namespaces: [search]", f"{TREE}, namespaces: ['*']")
    services = {"chat": frozenset({"hf://acme/a"})}
    assert wanted_claims(listed, NAMESPACES, services).claims == {
        Claim("search", listed.models[0].key)
    }


def test_while_services_are_unknown_nobody_decides_about_everybodys_models() -> None:
    listed = catalog(f"{HUB}, namespaces: [chat]", f"{TREE}, namespaces: ['*']")
    hub, tree = (entry.key for entry in listed.models)
    wanted = wanted_claims(listed, NAMESPACES, None)
    assert wanted == Wanted(frozenset({Claim("chat", hub)}), frozenset({tree}))


@pytest.mark.parametrize(
    ("spec", "uris"),
    [
        ({"predictor": {"model": {"storageUri": "hf://a/b"}}}, {"hf://a/b"}),
        (
            {"predictor": {"model": {"storageUris": [{"uri": "s3://x"}, {"uri": "s3://y"}]}}},
            {"s3://x", "s3://y"},
        ),
        (
            {"predictor": {"containers": [{"env": [{"name": "STORAGE_URI", "value": "gs://m"}]}]}},
            {"gs://m"},
        ),
        (
            {"model": {"uri": "hf://a/b", "lora": {"adapters": [{"uri": "hf://a/c"}]}}},
            {"hf://a/b", "hf://a/c"},
        ),
        ({"replicas": 2, "paused": False, "name": None, "model": "x"}, set()),
        (None, set()),
    ],
)
def test_uris_are_found_wherever_a_service_says_them(spec: Any, uris: set[str]) -> None:
    assert uris_in(spec_of({"spec": spec, "status": {"url": "http://x"}})) == uris


def test_a_service_that_says_more_uris_than_any_needs_costs_no_more() -> None:
    assert len(uris_in([f"s3://bucket/{n}" for n in range(MAX_URIS * 3)])) == MAX_URIS
