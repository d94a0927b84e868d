"""What a hub's listing becomes, and what is said when it cannot be used."""

import gzip
import hashlib
import socket
from collections.abc import Callable
from contextlib import closing
from email.utils import formatdate
from typing import Any, Literal

import pytest

from agent.planning.values import Algorithm, Checksum
from agent.sources.hf import HubSource
from agent.sources.interface import SourceRequest
from agent.sources.web import Timeouts, Web
from demo.hub import Fault, Headers, Hub, Listing, NextPage, Repo, Status, file_entry
from demo.hub_repos import Entry, git_blob_id
from larder.errors import (
    AccessDeniedError,
    FillError,
    ModelNotFoundError,
    SourceDriftedError,
    SourceUnavailableError,
    TransientError,
)
from runtime.clock import ManualClock
from tests.fakes.fault_proxy import Fault as ProxyFault
from tests.fakes.fault_proxy import FaultProxy
from tests.fakes.file_server import FileServer

URI = "hf://acme/tiny"


def paths(source: HubSource, **request: Any) -> list[str]:
    return [file.path for file in source.list(SourceRequest(URI, **request)).files]


def test_a_branch_is_listed_at_its_commit_with_sizes_and_digests(
    source: HubSource, hub: Hub, repo: Repo
) -> None:
    listing = source.list(SourceRequest("HF://acme/tiny/", "main"))
    assert listing.storage_uri == URI
    assert listing.revision == repo.branches["main"]
    by_path = {file.path: file for file in listing.files}
    assert list(by_path) == sorted(by_path)
    config, model = by_path["config.json"], by_path["deep/er/model-2.safetensors"]
    assert (config.size_bytes, config.sha256) == (8, None)
    assert config.checksum == Checksum(Algorithm.GIT_BLOB, git_blob_id(b'{"a": 1}'))
    assert (model.size_bytes, model.checksum) == (300, None)
    assert model.sha256 == hashlib.sha256(b"2" * 300).hexdigest()
    trees = [r for r in hub.requests if r.kind == "tree"]
    assert len(trees) > 1  # page by page
    assert {r.revision for r in trees} == {listing.revision}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param("ab" * 32, "ab" * 32, id="a hash"),
        pytest.param("../" * 8, None, id="no hash"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_a_large_file_is_listed_with_what_a_store_of_chunks_knows_it_by(
    source: HubSource, hub: Hub, said: str | None, kept: str | None
) -> None:
    path = "deep/er/model-2.safetensors"

    def edit(entries: list[Entry]) -> list[Entry]:
        return [{**entry, "xetHash": said} if entry["path"] == path else entry for entry in entries]

    hub.faults.append(Fault(Listing(edit)))
    hashes = {file.path: file.xet_hash for file in source.list(SourceRequest(URI)).files}
    assert hashes.pop(path) == kept
    assert set(hashes.values()) == {None}


@pytest.mark.parametrize(
    ("uri", "revision"),
    [
        pytest.param(URI, None, id="nobody names a revision: main"),
        pytest.param(URI, "main", id="the catalog names a branch"),
        pytest.param(f"{URI}:main", None, id="the URI names a branch"),
    ],
)
def test_a_revision_comes_from_catalog_or_uri(
    source: HubSource, repo: Repo, uri: str, revision: str | None
) -> None:
    assert source.list(SourceRequest(uri, revision)).revision == repo.branches["main"]


def test_an_old_commit_is_listed_although_the_branch_moved(source: HubSource, repo: Repo) -> None:
    old = repo.branches["main"]
    repo.commit({"config.json": b"new"})
    assert len(source.list(SourceRequest(URI, old)).files) == 4


@pytest.mark.parametrize(
    ("allow", "ignore", "chosen"),
    [
        pytest.param(("*.json",), (), ["config.json"], id="allowed"),
        pytest.param((), ("*.md", "deep/"), ["config.json", "model-1.safetensors"], id="ignored"),
        pytest.param(
            ("*.safetensors",), ("deep/*",), ["model-1.safetensors"], id="allowed and ignored"
        ),
    ],
)
def test_patterns_choose_files_as_huggingface_hub_does(
    source: HubSource, allow: tuple[str, ...], ignore: tuple[str, ...], chosen: list[str]
) -> None:
    assert paths(source, allow_patterns=allow, ignore_patterns=ignore) == chosen


def test_patterns_that_leave_nothing_are_said(source: HubSource) -> None:
    with pytest.raises(ModelNotFoundError, match="has no file to keep"):
        paths(source, allow_patterns=("*.gguf",))


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        pytest.param(Status(401), AccessDeniedError, "wants a token", id="401"),
        pytest.param(Status(403), AccessDeniedError, "denies access", id="403"),
        pytest.param(Status(401, "GatedRepo"), AccessDeniedError, "is gated", id="401, gated"),
        pytest.param(Status(403, "GatedRepo"), AccessDeniedError, "is gated", id="403, gated"),
        pytest.param(
            Status(401, "RepoNotFound"), ModelNotFoundError, "private", id="401, no repository"
        ),
        pytest.param(
            Status(404, "RepoNotFound"), ModelNotFoundError, "no model", id="404, no repository"
        ),
        pytest.param(
            Status(404, "RevisionNotFound"), ModelNotFoundError, "revision", id="no revision"
        ),
        pytest.param(Status(404), ModelNotFoundError, "does not have", id="404"),
        pytest.param(Status(429), SourceUnavailableError, "HTTP 429", id="429"),
        pytest.param(Status(500), SourceUnavailableError, "HTTP 500", id="500"),
        pytest.param(Status(503), SourceUnavailableError, "HTTP 503", id="503"),
        pytest.param(Status(400), SourceUnavailableError, "HTTP 400", id="400"),
    ],
)
def test_a_refusal_is_one_of_our_errors_at_once(
    source: HubSource, hub: Hub, fault: Status, error: type[FillError], says: str
) -> None:
    kinds: tuple[Literal["api", "tree"], ...] = ("api", "tree")
    for kind in kinds:
        hub.faults[:] = [Fault(fault, kind=kind)]
        with pytest.raises(error, match=says) as refused:
            paths(source)
        assert "acme/tiny" in str(refused.value)
        assert str(refused.value).isprintable()
        assert "://" not in str(refused.value)
        assert hub.faults[0].hits == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Retry-After": "17"}, 17.0, id="in seconds"),
        pytest.param(
            {"Retry-After": formatdate(ManualClock().now() + 90, usegmt=True)}, 90.0, id="as a date"
        ),
        pytest.param({"Retry-After": formatdate(5.0, usegmt=True)}, 0.0, id="as a past date"),
        pytest.param({"Retry-After": "soon"}, None, id="as nonsense"),
        pytest.param({"RateLimit": '"api";r=0;t=55'}, 55.0, id="in the hub's own words"),
        pytest.param({}, None, id="not at all"),
    ],
)
def test_when_to_ask_again_is_taken_from_the_answer(
    source: HubSource, hub: Hub, headers: dict[str, str], seconds: float | None
) -> None:
    hub.faults.append(Fault(Status(429, headers=headers), kind="tree"))
    with pytest.raises(TransientError) as refused:
        paths(source)
    assert refused.value.retry_after_seconds == seconds


def test_a_gated_model_can_be_listed_by_who_may(known_source: HubSource) -> None:
    assert known_source.list(SourceRequest("hf://acme/gated")).files


def test_a_private_model_is_unknown_without_a_token(
    source: HubSource, known_source: HubSource
) -> None:
    assert known_source.list(SourceRequest("hf://acme/private")).files
    with pytest.raises(ModelNotFoundError, match="acme/private"):
        source.list(SourceRequest("hf://acme/private"))


def test_a_wrong_token_is_refused_without_being_told(hub: Hub) -> None:
    source = HubSource(hub.url, "hf_wrongwrong", ManualClock())
    with pytest.raises(AccessDeniedError, match="refuses the token") as refused:
        source.list(SourceRequest("hf://acme/private"))
    assert "wrongwrong" not in str(refused.value)


def test_a_token_of_the_machine_is_not_used(
    source: HubSource, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    paths(source)
    assert hub.authorizations("hub") == []


def test_a_hub_that_is_not_there_is_unavailable() -> None:
    source = HubSource("http://127.0.0.1:1", None, ManualClock())
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1 cannot be reached"):
        paths(source)


def test_a_hub_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        source = HubSource(url, None, ManualClock(), Web(Timeouts(0.2, 0.2)))
        with pytest.raises(SourceUnavailableError, match="did not answer in time"):
            paths(source)


def test_an_answer_that_is_no_json_is_said(source: HubSource, hub: Hub) -> None:
    hub.faults.append(Fault(Headers({"Content-Length": "7"}), kind="api"))
    with pytest.raises(SourceUnavailableError, match="no description of acme/tiny"):
        paths(source)


@pytest.mark.parametrize("uri", ["hf://acme", "s3://acme/tiny", "hf://acme/a--b"])
def test_what_is_no_model_s_name_is_refused(source: HubSource, uri: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"is not hf://|cannot be the name"):
        source.list(SourceRequest(uri))


# --- hostile listings -----------------------------------------------------------------------------


def adding(*entries: Any) -> Callable[[list[Entry]], list[Entry]]:
    return lambda listed: [*listed, *entries]


def lfs(**changes: object) -> dict[str, object]:
    return {"oid": "0" * 64, "size": 0, "pointerSize": 10} | changes


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        pytest.param(file_entry("../x"), "has the part '..'", id="a path that leads out"),
        pytest.param(file_entry("a/../../x"), "has the part '..'", id="one that does so later"),
        pytest.param(file_entry("/etc/passwd"), "is absolute", id="an absolute path"),
        pytest.param(file_entry("a\0b"), "control character", id="a NUL"),
        pytest.param(file_entry("a\nb"), "control character", id="a newline"),
        pytest.param(file_entry("n" * 300), "longer than 255", id="a name of 300 bytes"),
        pytest.param(file_entry("a//b"), "has the part ''", id="an empty part"),
        pytest.param(file_entry(""), "has the part ''", id="an empty path"),
        pytest.param(file_entry("\ud800"), "not valid Unicode", id="a lone surrogate"),
        pytest.param(file_entry("config.json"), "listed twice", id="a duplicate"),
        pytest.param(
            file_entry("config.json/x"), "both a file and a directory", id="a file as a directory"
        ),
        pytest.param(file_entry("x", type="symlink"), "neither a file nor", id="a symbolic link"),
        pytest.param(file_entry("x", type=None), "neither a file nor", id="an entry of no type"),
        pytest.param(file_entry("x", size=-1), "has no size", id="a negative size"),
        pytest.param(file_entry("x", size="1"), "has no size", id="a size in words"),
        pytest.param(file_entry("x", size=None), "has no size", id="no size"),
        pytest.param(file_entry("x", size=True), "has no size", id="a size that is true"),
        pytest.param(file_entry("x", size=1 << 70), "has no size", id="a size beyond any disk"),
        pytest.param(file_entry("x", oid="?"), "has no digest", id="no digest"),
        pytest.param(file_entry("x", oid=None), "has no object id", id="no object id"),
        pytest.param(file_entry("x", lfs=lfs(size=9)), "has two sizes", id="two sizes"),
        pytest.param(file_entry("x", lfs=lfs(oid="0")), "has no digest", id="no LFS digest"),
        pytest.param(file_entry("x", lfs={}), "unreadable LFS pointer", id="an empty LFS pointer"),
        pytest.param(file_entry("x", lfs="x"), "unreadable LFS pointer", id="LFS as text"),
        pytest.param({"type": "file"}, "without a path", id="no path"),
        pytest.param(file_entry(7), "without a path", id="a number as path"),  # type: ignore[arg-type]  # hostile
        pytest.param("config.json", "without a path", id="no object at all"),
    ],
)
def test_a_hostile_listing_gets_one_sentence(
    source: HubSource, hub: Hub, entry: Any, says: str
) -> None:
    hub.faults.append(Fault(Listing(adding(entry))))
    with pytest.raises(SourceDriftedError, match=says) as refused:
        paths(source)
    sentence = str(refused.value)
    assert sentence.startswith("acme/tiny: ")
    assert sentence.isprintable()
    assert len(sentence) < 300


def test_a_hostile_file_that_patterns_leave_out_does_no_harm(source: HubSource, hub: Hub) -> None:
    hub.faults.append(Fault(Listing(adding(file_entry("../x.md")))))
    assert paths(source, allow_patterns=("*.json",)) == ["config.json"]


def test_a_listing_that_is_no_list_gets_one_sentence(source: HubSource, hub: Hub) -> None:
    hub.faults.append(Fault(Headers({"Content-Length": "0"}), kind="tree"))
    with pytest.raises(SourceUnavailableError, match="no description of acme/tiny"):
        paths(source)


def ask_about_tiny(url: str) -> None:
    with closing(HubSource(url, None, ManualClock(), Web(Timeouts(5.0, 5.0)))) as source:
        source.list(SourceRequest(URI))


@pytest.mark.parametrize("sends_chunks", [False, True])
def test_a_page_without_end_is_given_up(sends_chunks: bool) -> None:
    with FileServer({"/api/models/acme/tiny": b" " * (9 << 20)}) as server:
        server.sends_chunks = sends_chunks
        with pytest.raises(SourceDriftedError, match="in more than 8388608 bytes a page"):
            ask_about_tiny(server.url)


def test_a_page_that_is_packed_is_refused() -> None:
    packed = Headers({"Content-Encoding": "gzip"})
    with FileServer({"/api/models/acme/tiny": gzip.compress(b" " * (9 << 20))}) as server:
        with FaultProxy(server.url) as proxy:
            proxy.faults.append(ProxyFault(packed))
            with pytest.raises(SourceUnavailableError, match="encoded as 'gzip', unasked"):
                ask_about_tiny(proxy.url)
        assert {asked.headers["Accept-Encoding"] for asked in proxy.requests} == {"identity"}


def test_a_page_of_brackets_is_no_description() -> None:
    with (
        FileServer({"/api/models/acme/tiny": b"[" * 200_000}) as server,
        pytest.raises(SourceUnavailableError, match="no description of acme/tiny"),
    ):
        ask_about_tiny(server.url)


def test_a_commit_that_the_hub_answers_with_another_is_a_drift(
    source: HubSource, repo: Repo
) -> None:
    asked, given = repo.branches["main"], repo.commit({"config.json": b"new"})
    repo.commits[asked] = repo.commits[given]
    with pytest.raises(SourceDriftedError, match=f"gives commit {given}"):
        paths(source, revision=asked)


def test_a_listing_that_continues_elsewhere_is_refused_and_gets_no_token(
    known_source: HubSource, hub: Hub, repo: Repo
) -> None:
    with Hub({"acme/tiny": repo}) as other:
        hub.faults.append(Fault(NextPage(f"{other.url}/api/models/acme/tiny/tree/main"), times=1))
        with pytest.raises(SourceUnavailableError, match="to another origin") as refused:
            paths(known_source)
        assert other.requests == []
    assert "://" not in str(refused.value)


def test_a_hub_that_redirects_elsewhere_is_refused_and_gives_no_token_away(
    known_source: HubSource, hub: Hub, repo: Repo
) -> None:
    with Hub({"acme/tiny": repo}) as other:
        elsewhere = {"Location": f"{other.url}/api/models/acme/tiny"}
        hub.faults.append(Fault(Status(307, headers=elsewhere), kind="api"))
        with pytest.raises(SourceUnavailableError, match="to another origin"):
            paths(known_source)
        assert other.requests == []


def test_a_listing_without_end_is_given_up(
    source: HubSource, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sources.hf_api.MAX_FILES", 50)
    hub.faults.append(Fault(NextPage(f"{hub.url}/api/models/acme/tiny/tree/main?recursive=true")))
    with pytest.raises(SourceDriftedError, match="has more than 50 files"):
        paths(source)


def test_empty_pages_without_end_are_given_up(
    source: HubSource, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sources.hf_api.MAX_ANSWERS", 5)
    hub.faults.append(Fault(NextPage(f"{hub.url}/api/models/acme/tiny/tree/main?recursive=true")))
    hub.faults.append(Fault(Listing(lambda _: [])))
    with pytest.raises(SourceDriftedError, match="does not come to an end"):
        paths(source)
    assert sum(hub.counts().values()) == 6


def test_an_empty_file_is_listed(source: HubSource, hub: Hub) -> None:
    hub.faults.append(Fault(Listing(adding(file_entry("empty")))))
    assert "empty" in paths(source)
