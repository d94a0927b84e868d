"""A pod's URI finds the entry that answers for it, or the reason why none does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.catalog import Catalog, read_catalog
from larder.contract import DecisionReason
from larder.errors import CatalogError
from larder.matching import UNKNOWN, CatalogIndex, Match, SourceView
from larder.storage_uri import MAX_URI_CHARACTERS

SILENT = SourceView()


def entry(name: str, uri: str, **more: Any) -> dict[str, Any]:
    hub = {"revision": "main"} if uri.startswith("hf") else {}
    return {"name": name, "storageUri": uri, "namespaces": ["team"], **hub, **more}


def catalog_of(*entries: dict[str, Any]) -> Catalog:
    document = {"apiVersion": "larder.dev/v1alpha1", "kind": "Catalog", "models": list(entries)}
    return read_catalog(repr(document).replace("True", "true").encode(), standalone=True)


def answer(catalog: Catalog, uri: str, namespace: str = "team", source: SourceView = SILENT) -> str:
    found = CatalogIndex(catalog).match(uri, namespace, source)
    return f"{found.entry.name}:{found.subpath}" if isinstance(found, Match) else found.value


TREES = catalog_of(
    entry("whole", "s3://b/models"),
    entry("nested", "s3://b/models/llama/"),
    entry("other-team", "s3://b/models/llama/8b", namespaces=["others"]),
    entry("hub", "hf://o/m", revision="v1"),
    entry("archive", "https://host/m.tar.gz"),
    entry("azure", "https://acct.blob.core.windows.net/c/m"),
    entry("bucket", "gs://b"),
)


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        pytest.param("s3://b/models", "whole:", id="equal"),
        pytest.param("s3://b/models/", "whole:", id="equal with a slash"),
        pytest.param("S3://b/models", "whole:", id="equal with an upper-case scheme"),
        pytest.param("s3://b/models/qwen/1", "whole:qwen/1", id="below"),
        pytest.param("s3://b/models/llama", "nested:", id="nested, without the entry's slash"),
        pytest.param("s3://b/models/llama/1/", "nested:1", id="below both: the longest wins"),
        pytest.param(
            "s3://b/models/llama/8b/x", "nested:8b/x", id="another team's does not compete"
        ),
        pytest.param("s3://b/models/llama-2", "whole:llama-2", id="beside a look-alike"),
        pytest.param("s3://b/models2", "ModelNotInCatalog", id="a look-alike"),
        pytest.param("s3://b/MODELS", "ModelNotInCatalog", id="another case"),
        pytest.param("s3://b", "ModelNotInCatalog", id="above"),
        pytest.param("s3://b/models/../secret", "ModelNotInCatalog", id="out by two dots"),
        pytest.param(
            "s3://b/models/llama/../../x", "ModelNotInCatalog", id="out of the nested one"
        ),
        pytest.param("s3://b/models//llama", "ModelNotInCatalog", id="two slashes"),
        pytest.param("s3://b/models/%2e%2e/x", "whole:%2e%2e/x", id="per cent is not decoded"),
        pytest.param("gs://b/any/depth", "bucket:any/depth", id="below a bucket"),
        pytest.param("hf://o/m", "hub:", id="a hub model"),
        pytest.param("hf://o/m/", "hub:", id="a hub model with a slash"),
        pytest.param("HF://o/m", "hub:", id="a hub model with an upper-case scheme"),
        pytest.param("hf://o/m:v1", "hub:", id="its revision, in the same words"),
        pytest.param("hf://o/m:v2", "ModelNotInCatalog", id="another revision"),
        pytest.param("hf://o/m:", "ModelNotInCatalog", id="an empty revision"),
        pytest.param("hf://o/m/sub", "ModelNotInCatalog", id="below a hub model"),
        pytest.param("hf://o/m2", "ModelNotInCatalog", id="a look-alike hub model"),
        pytest.param("hf://O/m", "ModelNotInCatalog", id="another case of the owner"),
        pytest.param("https://host/m.tar.gz", "archive:", id="an archive"),
        pytest.param("https://host/m.tar.gz/x", "ModelNotInCatalog", id="below an archive"),
        pytest.param(
            "https://acct.blob.core.windows.net/c/m/1", "azure:1", id="below an Azure blob"
        ),
        pytest.param("s3://b/\tmodels", "UnresolvedUri", id="a tab"),
        pytest.param("s3://$(B)/models", "UnresolvedUri", id="a variable"),
        pytest.param("pvc://c/m", "SchemeNotCacheable", id="a claim"),
        pytest.param("oci://r/i:t", "SchemeNotCacheable", id="an image"),
        pytest.param("/mnt/m", "SchemeNotCacheable", id="a path"),
        pytest.param("", "SchemeNotCacheable", id="nothing"),
        pytest.param("s3://", "ModelNotInCatalog", id="a scheme alone"),
        pytest.param(
            "s3://b/models" + "/x" * MAX_URI_CHARACTERS, "ModelNotInCatalog", id="endless"
        ),
    ],
)
def test_a_uri_finds_its_entry(uri: str, found: str) -> None:
    assert answer(TREES, uri) == found


@pytest.mark.parametrize(
    ("namespace", "found"),
    [("team", "nested:8b"), ("others", "other-team:"), ("strangers", "NamespaceNotAllowed")],
)
def test_only_entries_of_the_namespace_compete(namespace: str, found: str) -> None:
    assert answer(TREES, "s3://b/models/llama/8b", namespace) == found


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        pytest.param("s3://b/models/llama/8b/x", ["other-team", "nested", "whole"], id="a tree"),
        pytest.param("hf://o/m:v1", ["hub"], id="a hub model"),
        pytest.param("s3://b", [], id="nothing"),
        pytest.param("pvc://c/m", [], id="a claim"),
        pytest.param("s3://b/models" + "/x" * MAX_URI_CHARACTERS, [], id="endless"),
    ],
)
def test_entries_of_a_uri_are_found_for_everybody(uri: str, names: list[str]) -> None:
    assert [e.name for e in CatalogIndex(TREES).entries_for(uri)] == names


def test_everyone_may_be_named() -> None:
    catalog = catalog_of(entry("all", "hf://o/m", namespaces=["*"]))

    assert answer(catalog, "hf://o/m", "whoever") == "all:"


def test_a_uri_longer_than_any_place_is_not_looked_for() -> None:
    path = "/".join(["x" * 204] * 5)
    catalog = catalog_of(entry("deep", f"s3://b/{path}"))

    assert answer(catalog, f"s3://b/{path}/{path[:900]}") == f"deep:{path[:900]}"
    assert len(f"s3://b/{path}/{path}") > MAX_URI_CHARACTERS
    assert answer(catalog, f"s3://b/{path}/{path}") == "ModelNotInCatalog"


ENDPOINTS = catalog_of(
    entry("default", "hf://o/m"),
    entry("mirror", "hf://o/m", endpoint="https://mirror.example.com"),
    entry("only-mirror", "hf://o/n", endpoint="https://mirror.example.com"),
    entry("any", "hf://o/any", endpoint="any"),
    entry("bucket", "gs://b/m"),
    entry("first", "s3://b/m", endpoint="http://one.example.com"),
    entry("second", "s3://b/m", endpoint="http://two.example.com"),
)


@pytest.mark.parametrize(
    ("uri", "endpoint", "found"),
    [
        pytest.param("hf://o/m", None, "default:", id="silence means the default"),
        pytest.param("hf://o/m", "https://huggingface.co/", "default:", id="the default, said"),
        pytest.param("hf://o/m", "https://Mirror.example.com:443", "mirror:", id="another, said"),
        pytest.param("hf://o/m", "https://x.example.com", "EndpointDiffers", id="a third"),
        pytest.param("hf://o/m", "http://[", "EndpointDiffers", id="no URL"),
        pytest.param("hf://o/m", UNKNOWN, "EndpointUnknown", id="unreadable"),
        pytest.param("hf://o/n", None, "only-mirror:", id="silence accepts the only one"),
        pytest.param("hf://o/n", "https://huggingface.co", "EndpointDiffers", id="not the default"),
        pytest.param("hf://o/any", UNKNOWN, "any:", id="any accepts the unreadable"),
        pytest.param("hf://o/any", "https://x.example.com", "any:", id="any accepts a third"),
        pytest.param("gs://b/m", "https://x.example.com", "EndpointDiffers", id="gs has none"),
        pytest.param("s3://b/m", None, "EndpointUnknown", id="silence between two"),
        pytest.param("s3://b/m", "http://two.example.com", "second:", id="one of two"),
    ],
)
def test_what_a_pod_says_of_its_endpoint_must_agree(uri: str, endpoint: Any, found: str) -> None:
    assert answer(ENDPOINTS, uri, source=SourceView(endpoint=endpoint)) == found


PATTERNS = catalog_of(
    entry("some", "hf://o/some", allowPatterns=["*.json", "*.txt"], ignorePatterns=["x"]),
    entry("whole", "hf://o/whole"),
)


@pytest.mark.parametrize(
    ("uri", "allow", "ignore", "found"),
    [
        pytest.param("hf://o/some", None, None, "some:", id="silence accepts"),
        pytest.param("hf://o/some", ("*.json", "*.txt"), ("x",), "some:", id="the same"),
        pytest.param("hf://o/some", ("*.json",), None, "PatternsDiffer", id="fewer"),
        pytest.param("hf://o/some", None, ("y",), "PatternsDiffer", id="others to ignore"),
        pytest.param("hf://o/some", None, (), "PatternsDiffer", id="nothing to ignore"),
        pytest.param("hf://o/some", UNKNOWN, None, "PatternsDiffer", id="unreadable"),
        pytest.param("hf://o/whole", None, None, "whole:", id="no patterns anywhere"),
        pytest.param("hf://o/whole", (), (), "whole:", id="empty patterns are none"),
        pytest.param(
            "hf://o/whole", ("*",), None, "PatternsDiffer", id="patterns of the pod's own"
        ),
    ],
)
def test_what_a_pod_says_of_its_patterns_must_agree(
    uri: str, allow: Any, ignore: Any, found: str
) -> None:
    source = SourceView(allow_patterns=allow, ignore_patterns=ignore)

    assert answer(PATTERNS, uri, source=source) == found


segments = st.sampled_from(["a", "b", "ab", "..", ".", ""])
tree_uris = st.lists(segments, max_size=5).map(lambda parts: "s3://k/" + "/".join(parts))
endpoints = st.sampled_from([None, "any", "https://one.example.com", "https://two.example.com"])
namespaces = st.sampled_from([["team"], ["others"], ["team", "others"], ["*"]])


@given(st.lists(tree_uris, max_size=5, unique=True), tree_uris)
def test_the_longest_entry_above_a_uri_wins(entry_uris: list[str], uri: str) -> None:
    try:
        catalog = catalog_of(*(entry(f"m{i}", u) for i, u in enumerate(entry_uris)))
    except CatalogError:
        return
    found = CatalogIndex(catalog).match(uri, "team", SILENT)
    above = [
        e.identity.storage_uri
        for e in catalog.models
        if f"{uri.removesuffix('/')}/".startswith(f"{e.identity.storage_uri}/")
    ]
    is_odd = any(p in {"", ".", ".."} for p in uri[len("s3://k/") :].removesuffix("/").split("/"))

    if isinstance(found, Match):
        assert found.entry.identity.storage_uri == max(above, key=len)
    else:
        assert found is DecisionReason.MODEL_NOT_IN_CATALOG
        assert is_odd or not above


@given(
    st.lists(st.tuples(endpoints, namespaces), min_size=2, max_size=4),
    endpoints.filter(lambda e: e != "any"),
)
def test_no_pod_that_says_its_endpoint_has_two_entries(
    parts: list[tuple[str | None, list[str]]], said: str | None
) -> None:
    entries = [
        entry(f"m{i}", "hf://o/m", revision=f"r{i}", namespaces=names)
        | ({"endpoint": endpoint} if endpoint else {})
        for i, (endpoint, names) in enumerate(parts)
    ]
    try:
        catalog = catalog_of(*entries)
    except CatalogError:
        return
    endpoint = said or "https://huggingface.co"
    accepting = [
        e
        for e in catalog.models
        if e.allows("team") and e.endpoint in {"any", endpoint if said else None}
    ]
    found = CatalogIndex(catalog).match("hf://o/m", "team", SourceView(endpoint=endpoint))

    assert len(accepting) <= 1
    assert [found.entry] == accepting if isinstance(found, Match) else not accepting
