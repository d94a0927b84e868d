"""Storage URIs are compared as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from larder.storage_uri import (
    MAX_URI_CHARACTERS,
    HubModel,
    endpoint_fault,
    entry_uri_fault,
    host_of,
    is_tree,
    is_unresolved,
    normalise,
    normalise_endpoint,
    parse_hub_uri,
    scheme_of,
    subpath_below,
)

REPACKED = (
    "is repacked by KServe in a way that cannot be cached; accepted: .tar, .tgz, .tar.gz, .zip"
)


@pytest.mark.parametrize(
    ("uri", "normalised"),
    [
        ("s3://b/m", "s3://b/m"),
        ("S3://B/M/", "s3://B/M"),
        ("s3://b/m//", "s3://b/m/"),
        ("HF://Qwen/Qwen2", "hf://Qwen/Qwen2"),
        ("https://Host/a%2Fb", "https://Host/a%2Fb"),
        ("pvc", "pvc"),
        ("", ""),
    ],
)
def test_only_the_scheme_and_one_slash_are_touched(uri: str, normalised: str) -> None:
    assert normalise(uri) == normalised


@given(st.text(max_size=30).filter(lambda t: not t.endswith("/")))
def test_one_trailing_slash_never_matters(uri: str) -> None:
    assert normalise(uri + "/") == normalise(uri)


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("HF://a/b", "hf"),
        ("abfs+x.y-z://b", "abfs+x.y-z"),
        ("1s3://b", ""),
        ("s3:/b", ""),
        ("", ""),
    ],
)
def test_a_scheme_is_lower_case_or_empty(uri: str, scheme: str) -> None:
    assert scheme_of(uri) == scheme


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://Host.example:8443/a/b", "host.example"),
        ("https://[::1]/a", "::1"),
        ("https://[::1/a", ""),
        ("https:///a", ""),
    ],
)
def test_the_host_of_a_uri_has_no_port(uri: str, host: str) -> None:
    assert host_of(uri) == host


@pytest.mark.parametrize("uri", ["s3://b/\tm", "s3://b/m\n", "s3://$(B)/m", "s3://b/\x7f", "a\0b"])
def test_a_uri_that_the_kubelet_would_change_is_unresolved(uri: str) -> None:
    assert is_unresolved(uri)


@pytest.mark.parametrize("uri", ["s3://b/$m", "s3://b/(m)", "hf://o/m:$$", "s3://b/a b"])
def test_a_dollar_alone_is_resolved(uri: str) -> None:
    assert not is_unresolved(uri)


@pytest.mark.parametrize(
    ("uri", "model"),
    [
        ("hf://o/m", HubModel("o/m", None)),
        ("hf://o/m/", HubModel("o/m", None)),
        ("HF://o/m:main", HubModel("o/m", "main")),
        ("hf://o/m:refs/pr/1", HubModel("o/m", "refs/pr/1")),
        ("hf://o/m:a:b", HubModel("o/m", "a:b")),
        ("hf://o/m:", None),
        ("hf://o", None),
        ("hf://o/m/sub", None),
        ("hf:///m", None),
        ("hf://../m", None),
        ("s3://o/m", None),
        ("o/m", None),
    ],
)
def test_a_hub_uri_is_owner_model_and_perhaps_a_revision(uri: str, model: HubModel | None) -> None:
    assert parse_hub_uri(uri) == model


def test_a_hub_model_is_written_as_kserve_reads_it() -> None:
    model = HubModel("o/m", "main")

    assert [model.uri(None), model.uri("abc")] == ["hf://o/m", "hf://o/m:abc"]


@pytest.mark.parametrize(
    ("uri", "is_one"),
    [
        ("s3://b/m", True),
        ("gs://b", True),
        ("https://acct.blob.core.windows.net/container", True),
        ("https://acct.blob.core.windows.net/container/a/", True),
        ("https://acct.blob.core.windows.net", False),
        ("https://host/m.tar.gz", False),
        ("https://host/acct.blob.core.windows.net/m", False),
        ("hf://o/m", False),
    ],
)
def test_object_stores_are_trees(uri: str, is_one: bool) -> None:
    assert is_tree(uri) is is_one


@pytest.mark.parametrize(
    ("uri", "subpath"),
    [
        pytest.param("s3://b/model", "", id="equal"),
        pytest.param("s3://b/model/", "", id="equal but for a slash"),
        pytest.param("S3://b/model", "", id="equal but for the scheme's case"),
        pytest.param("s3://b/model/1", "1", id="a directory below"),
        pytest.param("s3://b/model/1/x/", "1/x", id="deeper, with a slash"),
        pytest.param("s3://b/model2", None, id="a look-alike"),
        pytest.param("s3://b/model-v2/1", None, id="below a look-alike"),
        pytest.param("s3://b/Model", None, id="another case"),
        pytest.param("s3://b", None, id="above"),
        pytest.param("gs://b/model", None, id="another scheme"),
        pytest.param("s3://b/model/../other", None, id="out by two dots"),
        pytest.param("s3://b/model/..", None, id="two dots at the end"),
        pytest.param("s3://b/model/./1", None, id="a dot"),
        pytest.param("s3://b/model//1", None, id="two slashes"),
        pytest.param("s3://b/model/" + "x" * 256, None, id="a name that no file can have"),
    ],
)
def test_a_uri_is_below_an_entry_at_a_slash_only(uri: str, subpath: str | None) -> None:
    assert subpath_below("s3://b/model/", uri) == subpath


@pytest.mark.parametrize("entry", ["hf://o/m", "https://host/m.tar.gz"])
def test_nothing_is_below_what_is_no_tree(entry: str) -> None:
    assert subpath_below(entry, entry) == ""
    assert subpath_below(entry, f"{entry}/1") is None


@given(st.text(alphabet="ab./%", min_size=1, max_size=20))
def test_what_is_below_names_the_rest_exactly(rest: str) -> None:
    subpath = subpath_below("s3://b/m", f"s3://b/m/{rest}")

    assert subpath is None or f"{subpath}/".startswith(rest.removesuffix("/"))
    assert not subpath or ".." not in subpath.split("/")


@pytest.mark.parametrize(
    "uri",
    [
        "hf://meta-llama/Llama-3.1-8B",
        "HF://o/m",
        "s3://bucket",
        "s3://bucket/a b".replace(" ", "%20"),
        "gs://kfserving-examples/models/sklearn/1.0/model",
        "https://host:8443/m.tar.gz",
        "https://acct.blob.core.windows.net/c/m",
    ],
)
def test_what_can_be_cached_has_no_fault(uri: str) -> None:
    assert entry_uri_fault(uri) is None


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("s3://b/a b", "holds white space, a control character or '$('"),
        ("s3://b/a\u00a0b", "holds white space, a control character or '$('"),
        ("s3://$(B)/a", "holds white space, a control character or '$('"),
        ("s3://b/" + "x" * MAX_URI_CHARACTERS, "is too long; accepted: up to 2048 characters"),
        ("pvc://c/m", "scheme 'pvc' cannot be cached; accepted: hf, s3, gs, https"),
        ("http://h/m", "scheme 'http' cannot be cached; accepted: hf, s3, gs, https"),
        ("models/m", "a URI without scheme cannot be cached; accepted: hf, s3, gs, https"),
        ("hf://o", "names no model; accepted: hf://OWNER/MODEL"),
        ("hf://o/m:main", "carries a revision; give it as 'revision' instead"),
        ("s3://", "names no bucket; accepted: s3://BUCKET/PATH"),
        ("s3://[b", "names no bucket; accepted: s3://BUCKET/PATH"),
        ("gs://../m", "names no bucket; accepted: gs://BUCKET/PATH"),
        ("https://[x/m", "names no file on a host; accepted: https://HOST/PATH"),
        ("https://host", "names no file on a host; accepted: https://HOST/PATH"),
        ("https:///m", "names no file on a host; accepted: https://HOST/PATH"),
        ("https://host:x/m", "names no file on a host; accepted: https://HOST/PATH"),
        *(
            (
                uri,
                "names a git repository or a file share; accepted: a single file or an Azure blob",
            )
            for uri in ("https://h/m.git/", "https://a.file.core.windows.net/share/m")
        ),
        *((f"https://h/m{ending}", REPACKED) for ending in (".bin.gz", ".tar.bz2", ".txz")),
        (
            "https://h/m?sig=s3cr3t",
            "carries a user, query or fragment; credentials go to 'credentials'",
        ),
        (
            "https://u:s3cr3t@h/m",
            "carries a user, query or fragment; credentials go to 'credentials'",
        ),
        ("s3://b/m#x", "carries a user, query or fragment; credentials go to 'credentials'"),
        ("s3://b/../m", "is unfit: path '../m' has the part '..'"),
        ("s3://b//m", "is unfit: path '/m' is absolute"),
    ],
)
def test_what_cannot_be_cached_is_said_without_quoting_secrets(uri: str, fault: str) -> None:
    assert entry_uri_fault(uri) == fault


@pytest.mark.parametrize(
    ("endpoint", "normalised"),
    [
        ("https://Hub.Example.com/", "https://hub.example.com"),
        ("HTTPS://hub.example.com:443", "https://hub.example.com"),
        ("http://hub:80/Path/", "http://hub/Path"),
        ("http://hub:443", "http://hub:443"),
        ("ftp://hub:21", "ftp://hub:21"),
        ("http://[x", "http://[x"),
        ("hub", "://hub"),
    ],
)
def test_endpoints_are_compared_without_case_and_default_port(
    endpoint: str, normalised: str
) -> None:
    assert normalise_endpoint(endpoint) == normalised


@given(st.text(max_size=40))
def test_any_endpoint_of_a_pod_can_be_compared(endpoint: str) -> None:
    assert isinstance(normalise_endpoint(endpoint), str)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8080", "https://h/path", "http://[::1]:80"])
def test_an_endpoint_is_a_plain_url(endpoint: str) -> None:
    assert endpoint_fault(endpoint) is None


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("", "is not a URL; accepted: http://HOST or https://HOST"),
        ("host:80", "is not a URL; accepted: http://HOST or https://HOST"),
        ("s3://host", "is not a URL; accepted: http://HOST or https://HOST"),
        ("http://", "is not a URL; accepted: http://HOST or https://HOST"),
        ("http://[x", "is not a URL; accepted: http://HOST or https://HOST"),
        ("http://h:99999", "is not a URL; accepted: http://HOST or https://HOST"),
        ("http://u:p@h", "carries a user, query or fragment; credentials go to 'credentials'"),
        ("http://h?x=1", "carries a user, query or fragment; credentials go to 'credentials'"),
        ("http://h#x", "carries a user, query or fragment; credentials go to 'credentials'"),
        ("http://h/a b", "holds white space or a control character"),
        ("http://h/a\x00b", "holds white space or a control character"),
    ],
)
def test_what_is_no_plain_url_is_no_endpoint(endpoint: str, fault: str) -> None:
    assert endpoint_fault(endpoint) == fault
