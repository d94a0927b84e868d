"""The hub against its real clients: huggingface_hub, and KServe's downloader on top of it."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest
from huggingface_hub import (
    HfApi,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder

from demo.hub import Fault, Headers, Hub, Listing, Repo, Status, file_entry, main
from demo.hub_repos import Entry

TOKEN = "t0ken"  # noqa: S105 - opens nothing
WEIGHTS = bytes(range(256)) * 40
FILES: dict[str, bytes | Path] = {
    "config.json": b'{"model_type": "llama"}',
    "empty.txt": b"",
    "a folder/ünï?#%.txt": b"odd name",
    "deep/er/model.safetensors": WEIGHTS,
}
PLAIN = {path: content for path, content in FILES.items() if not path.endswith(".safetensors")}


def snapshot(hub: Hub, tmp_path: Path, revision: str | None = None, token: str = "") -> Path:
    """The acme/tiny model, downloaded by the client of the Hub."""
    return Path(
        snapshot_download(
            "acme/tiny",
            endpoint=hub.url,
            revision=revision,
            token=token or False,
            cache_dir=tmp_path / "cache",
            local_dir=tmp_path / "model",
        )
    )


def files_below(directory: Path) -> dict[str, bytes]:
    """What a snapshot holds, without the client's own notes."""
    files = [file for file in directory.rglob("*") if file.is_file()]
    named = {file.relative_to(directory).as_posix(): file.read_bytes() for file in files}
    return {name: content for name, content in named.items() if not name.startswith(".cache/")}


def test_a_description_names_the_commit_and_the_digest_of_every_file() -> None:
    repo = Repo(FILES)
    with Hub({"acme/tiny": repo}) as hub:
        info = HfApi(endpoint=hub.url, token=False).model_info("acme/tiny", files_metadata=True)
    assert info.sha == repo.branches["main"]
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    assert set(siblings) == set(FILES)
    assert siblings["empty.txt"].blob_id == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert siblings["empty.txt"].lfs is None
    lfs = siblings["deep/er/model.safetensors"].lfs
    assert lfs is not None
    assert (lfs.size, lfs.sha256) == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())


def test_a_description_without_blobs_gives_names_alone() -> None:
    with Hub({"acme/tiny": Repo(FILES)}) as hub:
        info = HfApi(endpoint=hub.url, token=False).model_info("acme/tiny")
    assert {sibling.rfilename for sibling in info.siblings or ()} == set(FILES)
    assert {sibling.blob_id for sibling in info.siblings or ()} == {None}


@pytest.mark.parametrize("page_entries", [1, 3, 7, 1000])
def test_a_listing_is_complete_whatever_the_size_of_its_pages(page_entries: int) -> None:
    with Hub({"acme/tiny": Repo(FILES)}, page_entries=page_entries) as hub:
        api = HfApi(endpoint=hub.url, token=TOKEN)
        entries = list(api.list_repo_tree("acme/tiny", recursive=True))
    assert {e.path for e in entries if isinstance(e, RepoFile)} == set(FILES)
    folders = {e.path for e in entries if isinstance(e, RepoFolder)}
    assert folders == {"a folder", "deep", "deep/er"}
    assert hub.counts()["tree"] == -(-7 // page_entries)
    assert set(hub.authorizations("hub")) == {"Bearer t0ken"}
    [weights] = [e for e in entries if isinstance(e, RepoFile) and e.lfs]
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_listing_that_is_not_recursive_stays_at_the_top() -> None:
    with Hub({"acme/tiny": Repo(FILES)}) as hub:
        entries = HfApi(endpoint=hub.url, token=False).list_repo_tree("acme/tiny")
        assert [e.path for e in entries] == ["a folder", "config.json", "deep", "empty.txt"]


@pytest.mark.parametrize("cdn", [False, True], ids=["here", "behind a signed link"])
def test_a_heads_answer_has_commit_digest_and_size(cdn: bool) -> None:
    repo = Repo(FILES)
    with Hub({"acme/tiny": repo}, cdn=cdn) as hub:
        for path, digest in (
            ("deep/er/model.safetensors", hashlib.sha256(WEIGHTS).hexdigest()),
            ("empty.txt", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        ):
            url = hf_hub_url("acme/tiny", path, endpoint=hub.url)
            said = get_hf_file_metadata(url, token=False, endpoint=hub.url)
            assert (said.commit_hash, said.etag) == (repo.branches["main"], digest)
            assert said.size == len(FILES[path])  # type: ignore[arg-type]  # bytes all of them
            is_elsewhere = cdn and path.endswith(".safetensors")
            assert said.location.startswith(hub.cdn_url if is_elsewhere else hub.url)


def test_a_snapshot_of_a_branch_or_a_commit_has_its_bytes(tmp_path: Path) -> None:
    repo = Repo(FILES)
    first = repo.branches["main"]
    repo.commit({"config.json": b"a second version"})
    experiment = repo.commit({"config.json": b"an experiment"}, branch="an/experiment")
    with Hub({"acme/tiny": repo}) as hub:
        for revision, files in (
            (None, {"config.json": b"a second version"}),
            ("an/experiment", {"config.json": b"an experiment"}),
            (experiment, {"config.json": b"an experiment"}),
            (first, FILES),
        ):
            folder = tmp_path / str(revision).replace("/", "-")
            assert files_below(snapshot(hub, folder, revision)) == files


def test_files_on_disk_are_served_as_those_in_memory(tmp_path: Path) -> None:
    for path, content in FILES.items():
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_bytes(content)  # type: ignore[arg-type]  # bytes
    repo = Repo.from_directory(tmp_path / "source")
    assert repo.branches == Repo(FILES).branches
    with Hub({"acme/tiny": repo}) as hub:
        assert files_below(snapshot(hub, tmp_path)) == FILES
        assert hub.bytes_sent > sum(map(len, files_below(tmp_path / "source").values()))


def test_a_token_goes_to_the_hub_and_not_to_the_signed_links(tmp_path: Path) -> None:
    repo = Repo(FILES, private=True, tokens=(TOKEN,))
    with Hub({"acme/tiny": repo}, cdn=True) as hub:
        assert files_below(snapshot(hub, tmp_path, token=TOKEN)) == FILES
    assert hub.counts()["cdn"] == 1
    assert hub.authorizations("cdn") == []
    assert set(hub.authorizations("hub")) == {"Bearer t0ken"}


def test_an_expired_link_is_refused_and_a_new_one_opens(tmp_path: Path) -> None:
    with Hub({"acme/tiny": Repo({"m.bin": b"weights"})}, cdn=True) as hub:
        url = hf_hub_url("acme/tiny", "m.bin", endpoint=hub.url)
        link = get_hf_file_metadata(url, token=False, endpoint=hub.url).location
        hub.expire_links()
        connection = HTTPConnection(hub.cdn_url.removeprefix("http://"))
        connection.request("GET", link.removeprefix(hub.cdn_url))
        assert connection.getresponse().status == 403
        connection.close()
        assert files_below(snapshot(hub, tmp_path)) == {"m.bin": b"weights"}


REPOS = {
    "acme/tiny": Repo(PLAIN),
    "acme/private": Repo(PLAIN, private=True, tokens=("reader",)),
    "acme/gated": Repo(PLAIN, gated=True, tokens=("reader",)),
    "acme/other": Repo(PLAIN, private=True, tokens=("stranger",)),
}


@pytest.mark.parametrize(
    ("model", "token", "raised"),
    [
        pytest.param("acme/none", "", RepositoryNotFoundError, id="a model that is not there"),
        pytest.param("acme/none", "reader", RepositoryNotFoundError, id="the same with a token"),
        pytest.param("acme/private", "", RepositoryNotFoundError, id="private, without a token"),
        pytest.param("acme/private", "stranger", RepositoryNotFoundError, id="private, stranger"),
        pytest.param("acme/private", "wrong", HfHubHTTPError, id="private, a token nobody has"),
        pytest.param("acme/gated", "", GatedRepoError, id="gated, without a token"),
        pytest.param("acme/gated", "stranger", GatedRepoError, id="gated, stranger"),
        pytest.param("acme/gated", "wrong", HfHubHTTPError, id="gated, a token nobody has"),
        pytest.param("acme/private", "reader", None, id="private, the right token"),
        pytest.param("acme/gated", "reader", None, id="gated, the right token"),
        pytest.param("acme/tiny", "wrong", None, id="open, whatever the token"),
    ],
)
def test_who_may_read_what(
    model: str, token: str, raised: type[Exception] | None, tmp_path: Path
) -> None:
    with Hub(REPOS) as hub:

        def download() -> str:
            return hf_hub_download(
                model, "config.json", endpoint=hub.url, token=token or False, cache_dir=tmp_path
            )

        if raised is None:
            assert Path(download()).read_bytes() == FILES["config.json"]
            return
        with pytest.raises(raised) as caught:
            download()
        assert type(caught.value) is raised


def test_a_gated_model_may_be_seen_without_a_token() -> None:
    with Hub(REPOS) as hub:
        api = HfApi(endpoint=hub.url, token=False)
        assert api.model_info("acme/gated").sha == REPOS["acme/gated"].branches["main"]
        assert len(list(api.list_repo_tree("acme/gated", recursive=True))) == 4


def info(api: HfApi) -> None:
    api.model_info("acme/tiny", revision="main")


def tree(api: HfApi) -> None:
    list(api.list_repo_tree("acme/tiny", recursive=True))


def unknown_revision(api: HfApi) -> None:
    api.model_info("acme/tiny", revision="no such branch")


def unknown_file(api: HfApi) -> None:
    url = hf_hub_url("acme/tiny", "none.json", endpoint=api.endpoint)
    get_hf_file_metadata(url, token=False, endpoint=api.endpoint)


@pytest.mark.parametrize(
    ("call", "fault", "raised"),
    [
        pytest.param(unknown_revision, None, RevisionNotFoundError, id="no such revision"),
        pytest.param(unknown_file, None, RemoteEntryNotFoundError, id="no such file"),
        pytest.param(info, Status(404, "RepoNotFound"), RepositoryNotFoundError, id="repo, 404"),
        pytest.param(tree, Status(401, "RepoNotFound"), RepositoryNotFoundError, id="repo, 401"),
        pytest.param(tree, Status(404, "RevisionNotFound"), RevisionNotFoundError, id="revision"),
        pytest.param(info, Status(403, "GatedRepo"), GatedRepoError, id="gated, 403"),
        pytest.param(info, Status(401, "GatedRepo"), GatedRepoError, id="gated, 401"),
        pytest.param(info, Status(429), HfHubHTTPError, id="too many requests"),
        pytest.param(info, Status(503), HfHubHTTPError, id="out of service"),
    ],
)
def test_errors_arrive_as_the_clients_own(
    call: Callable[[HfApi], None], fault: Status | None, raised: type[Exception]
) -> None:
    with Hub({"acme/tiny": Repo(PLAIN)}) as hub:
        hub.faults = [] if fault is None else [Fault(fault)]
        with pytest.raises(raised) as caught:
            call(HfApi(endpoint=hub.url, token=False))
    assert type(caught.value) is raised


def test_a_listing_may_lie() -> None:
    def lie(entries: list[Entry]) -> list[Entry]:
        lies = [entry | {"size": 7} for entry in entries]
        return [*lies, *lies, file_entry("../../etc/passwd"), file_entry("a\0b\nc" * 99)]

    with Hub({"acme/tiny": Repo({"config.json": b"{}"})}, page_entries=1) as hub:
        hub.faults.append(Fault(Listing(lie)))
        api = HfApi(endpoint=hub.url, token=False)
        listed = list(api.list_repo_tree("acme/tiny", recursive=True))
    assert [e.path for e in listed] == [
        "config.json",
        "config.json",
        "../../etc/passwd",
        "a\0b\nc" * 99,
    ]
    assert [e.size for e in listed if isinstance(e, RepoFile)] == [7, 7, 0, 0]


def test_a_file_may_claim_another_commit() -> None:
    with Hub({"acme/tiny": Repo(PLAIN)}) as hub:
        hub.faults.append(Fault(Headers({"X-Repo-Commit": "f" * 40}), kind="head"))
        url = hf_hub_url("acme/tiny", "config.json", endpoint=hub.url)
        said = get_hf_file_metadata(url, token=False, endpoint=hub.url)
    assert said.commit_hash == "f" * 40


DOWNLOAD = "import sys; from kserve_storage import Storage; Storage.download(*sys.argv[1:])"


@pytest.mark.parametrize("revision", ["", ":main", ":<commit>"])
def test_kserves_own_downloader_is_served(revision: str, tmp_path: Path) -> None:
    repo = Repo(FILES)
    uri = "hf://acme/tiny" + revision.replace("<commit>", repo.branches["main"])
    with Hub({"acme/tiny": repo}, cdn=True) as hub:
        names = ("PATH", "LD_LIBRARY_PATH")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", DOWNLOAD, uri, str(tmp_path / "model")],
            env=kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            check=True,
            timeout=60,
        )
    assert files_below(tmp_path / "model") == FILES


def test_a_hub_of_its_own_serves_every_folder_and_prints_its_url(tmp_path: Path) -> None:
    (tmp_path / "acme/tiny").mkdir(parents=True)
    (tmp_path / "acme/tiny/config.json").write_bytes(b"{}")
    (tmp_path / "acme/README").write_text("not a model")
    argv = [sys.executable, "-m", "demo.hub", str(tmp_path), "--limit-rate", "1000000"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as hub:  # noqa: S603 - ours
        try:
            assert hub.stdout is not None
            url = hub.stdout.readline().strip()
            path = hf_hub_download(
                "acme/tiny", "config.json", endpoint=url, token=False, cache_dir=tmp_path / "cache"
            )
            assert Path(path).read_bytes() == b"{}"
        finally:
            hub.terminate()


@pytest.mark.parametrize("argv", [["{}"], ["{}/none"], ["{}", "--port", "x"]])
def test_a_hub_with_nothing_to_serve_says_so(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([text.format(tmp_path) for text in argv])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err
