"""A model's commit and files, asked for through huggingface_hub.

The library is imported here and only when a model is listed (0.3 s, 32 MiB). It sets no timeouts,
follows a listing to any host, and takes what it reads for granted; hooks of its HTTP client keep
it to the hub's origin, give each request a timeout, translate every refusal, and check every entry
before the library looks at it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
from huggingface_hub import HfApi, RepoFile, close_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils._paths import filter_repo_objects

from agent.planning.values import Algorithm, Checksum, RemoteFile
from agent.sources.hf_refusals import Asked, refusal
from agent.sources.interface import SourceRequest
from agent.sources.web import Origin, Web, origin_of, proxy_url
from larder.errors import (
    ModelNotFoundError,
    SourceDriftedError,
    SourceUnavailableError,
)
from larder.layout import Digest, is_digest
from larder.manifest import listing_fault

MAX_FILES: Final = 100_000
MAX_ANSWERS: Final = 2000  # of 1,000 entries, in a hub whose pages are full
_PAGE_MAX_BYTES: Final = 8 * 1024 * 1024
"""100,000 names, or 1,000 files with what is said of them; in memory up to 26 times as much."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
_SIZE_MAX_BYTES: Final = (1 << 63) - 1
_HOSTILE_JSON: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class HubApi:
    """The API of one hub, for one model."""

    endpoint: str
    token: str | None
    web: Web
    asked: Asked

    def resolve(self, revision: str | None) -> str:
        """The commit that a revision names now; a commit must name itself."""
        with self._translated():
            info = self._api().model_info(self.asked.repo_id, revision=revision)
        commit = info.sha
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise SourceDriftedError(f"{self.asked.host} names no commit for {self.asked.repo_id}")
        if revision and _COMMIT.fullmatch(revision) and commit != revision:
            raise SourceDriftedError(
                f"{self.asked.host} gives commit {commit} of {self.asked.repo_id}"
                f" where {revision} was asked for"
            )
        return commit

    def files(self, commit: str, request: SourceRequest) -> tuple[RemoteFile, ...]:
        """The files at a commit that the patterns choose, by huggingface_hub's rules, sorted.

        Together they are a tree that a slot may hold.
        """
        found: list[RepoFile] = []
        with self._translated():
            tree = self._api().list_repo_tree(self.asked.repo_id, recursive=True, revision=commit)
            for entry in tree:
                if isinstance(entry, RepoFile):
                    found.append(entry)
                if len(found) > MAX_FILES:
                    raise SourceDriftedError(
                        f"{self.asked.repo_id} has more than {MAX_FILES} files"
                    )
        chosen = filter_repo_objects(
            found,
            allow_patterns=[*request.allow_patterns] or None,
            ignore_patterns=[*request.ignore_patterns] or None,
            key=lambda entry: entry.path,
        )
        files = tuple(_remote_file(entry) for entry in chosen)
        if fault := listing_fault([file.path for file in files]):
            raise SourceDriftedError(f"{self.asked.repo_id}: {cut(fault, 200)}")
        return tuple(sorted(files, key=lambda file: file.path.encode()))

    def _api(self) -> HfApi:
        set_client_factory(self._client)
        # Without a token: False, which is not None, keeps the library from using the machine's.
        return HfApi(endpoint=self.endpoint, token=self.token or False)

    def _client(self) -> httpx2.Client:
        hub = origin_of(self.endpoint)
        read, connect = self.web.timeouts.read_seconds, self.web.timeouts.connect_seconds
        limits = {"connect": connect, "read": read, "write": read, "pool": read}

        answers_left = iter(range(MAX_ANSWERS))

        def before_request(request: httpx2.Request) -> None:
            if next(answers_left, None) is None:
                raise SourceDriftedError(
                    f"{self.asked.host} describes {self.asked.repo_id} in more than"
                    f" {MAX_ANSWERS} answers; it does not come to an end"
                )
            _refuse_other_origin(hub, str(request.url))
            request.headers["Accept-Encoding"] = "identity"  # else a small page may become any size
            request.extensions = {**request.extensions, "timeout": limits}

        return httpx2.Client(
            event_hooks={"request": [before_request], "response": [self._check_answer]},
            follow_redirects=True,
            verify=self.web.network.tls(),
            proxy=proxy_url(hub, self.web.network),
            trust_env=False,
        )

    def _check_answer(self, response: httpx2.Response) -> None:
        """Raise what an answer means, before the library reads it."""
        self.web.heard()
        error = refusal(self.asked, response.status_code, response.headers.get)
        if error is not None:
            raise error
        response.stream = _Bounded(response.stream, self.asked)
        if response.is_redirect:
            return
        if (encoding := response.headers.get("Content-Encoding") or "identity") != "identity":
            raise SourceUnavailableError(
                f"{self.asked.host} describes {self.asked.repo_id} encoded as"
                f" {cut(repr(encoding), 20)}, unasked"
            )
        response.read()
        document = response.json()
        if "/tree/" not in response.url.path:
            return
        for entry in document if isinstance(document, list) else [document]:
            if fault := entry_fault(entry):
                raise SourceDriftedError(f"{self.asked.repo_id}: {fault}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the library raises into our errors, and end its connections."""
        host, repo_id = self.asked.host, self.asked.repo_id
        try:
            yield
        except HFValidationError as error:
            raise ModelNotFoundError(f"{repo_id!r} cannot be the name of a model") from error
        except httpx2.TimeoutException as error:
            raise SourceUnavailableError(f"{host} did not answer in time") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, HfHubHTTPError) as error:
            cause = error.__cause__ or error
            raise SourceUnavailableError(
                f"{host} cannot be reached: {type(cause).__name__}"
            ) from error
        except _HOSTILE_JSON as error:
            raise SourceUnavailableError(
                f"{host} answers what is no description of {repo_id}"
            ) from error
        finally:
            close_session()


class _Bounded(httpx2.SyncByteStream):
    """The body of an answer, which ends with an error where it grows too large."""

    def __init__(self, stream: Any, asked: Asked) -> None:
        self._stream = stream
        self._asked = asked

    def __iter__(self) -> Iterator[bytes]:
        count_bytes = 0
        for chunk in self._stream:
            count_bytes += len(chunk)
            if count_bytes > _PAGE_MAX_BYTES:
                raise SourceDriftedError(
                    f"{self._asked.host} describes {self._asked.repo_id} in more than"
                    f" {_PAGE_MAX_BYTES} bytes a page"
                )
            yield chunk

    def close(self) -> None:
        """End the answer."""
        self._stream.close()


def _refuse_other_origin(hub: Origin, url: str) -> None:
    other = origin_of(url)
    if other != hub:
        raise SourceUnavailableError(
            f"{hub.host} sends us to another origin ({other.netloc}) for its listing; refused"
        )


def entry_fault(entry: Any) -> str | None:
    """What makes an entry of a listing unfit, as one clause, or None. Paths are checked later."""
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return "the listing holds an entry without a path"
    named = f"entry {cut(repr(entry['path']), 80)}"
    if entry.get("type") not in {"file", "directory"}:
        return f"{named} is neither a file nor a directory"
    if not isinstance(entry.get("oid"), str):
        return f"{named} has no object id"
    if entry["type"] == "directory":
        return None
    size, lfs = entry.get("size"), entry.get("lfs")
    if type(size) is not int or not 0 <= size <= _SIZE_MAX_BYTES:
        return f"{named} has no size that a file can have"
    if lfs is None:
        return None if _GIT_SHA1.fullmatch(entry["oid"]) else f"{named} has no digest"
    if not isinstance(lfs, dict) or not {"size", "oid", "pointerSize"} <= lfs.keys():
        return f"{named} has an unreadable LFS pointer"
    if lfs["size"] != size:
        return f"{named} has two sizes, {size} and {cut(repr(lfs['size']), 20)}"
    return None if is_digest(str(lfs["oid"])) else f"{named} has no digest"


def cut(text: str, max_characters: int) -> str:
    """A text from outside, short enough for a sentence."""
    return text if len(text) <= max_characters else text[:max_characters] + "…"


def _remote_file(entry: RepoFile) -> RemoteFile:
    if entry.lfs is not None:  # its git object is the pointer, not the content
        xet_hash = entry.xet_hash if is_digest(str(entry.xet_hash)) else None
        digest = Digest(entry.lfs.sha256)
        return RemoteFile(entry.path, entry.size, sha256=digest, xet_hash=xet_hash)
    git_blob = Checksum(Algorithm.GIT_BLOB, entry.blob_id)
    return RemoteFile(entry.path, entry.size, checksum=git_blob)
