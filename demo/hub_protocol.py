"""What a hub answers, as values: requests in, status, headers and a stretch of bytes out.

The Hugging Face Hub's HTTP protocol, as far as its own client uses it to describe a model, to list
it page by page, and to fetch its files, with ranges and with LFS files kept at a second origin
behind signed links. No sockets here, and no faults but those that change what is said.
"""

import gzip
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from demo.hub_faults import Action, Gzip, Headers, IgnoreRange, Kind, Listing, NextPage, Status
from demo.hub_repos import Commit, Entry, HubFile, Repo

Origin = Literal["hub", "cdn"]

_INFO = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?")
_TREE = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
_XET = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/xet-read-token/(?P<revision>[^/]+)")
_FILE = re.compile(r"/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_LINK = re.compile(r"/lfs/[0-9a-f]{64}/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived. `path` is the file asked for, else empty."""

    origin: Origin
    method: str
    target: str
    kind: Kind
    repo_id: str = ""
    revision: str = "main"
    path: str = ""
    range: str | None = None
    authorization: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """The query's first value of each name."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True, slots=True)
class XetStore:
    """Where files' chunks are, too: a URL, a token until a time, Xet hashes by SHA-256."""

    url: str
    token: str
    expires: int
    hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: the body is `content[start:stop]`, not sent to a HEAD."""

    status: int
    headers: Mapping[str, str]
    content: bytes | Path = b""
    start: int = 0
    stop: int = 0


def read_request(
    origin: Origin, method: str, target: str, headers: Mapping[str, str | None]
) -> Request:
    """Say what is asked for; anything unknown is of kind `other`."""
    wanted_range, authorization = headers.get("Range"), headers.get("Authorization")
    path = urlsplit(target).path
    kinds: list[tuple[re.Pattern[str], Kind]] = [(_LINK, "cdn")]
    if origin == "hub":
        of_file: Kind = "head" if method == "HEAD" else "get"
        kinds = [(_INFO, "api"), (_TREE, "tree"), (_XET, "xet"), (_FILE, of_file)]
    for pattern, kind in kinds:
        if match := pattern.fullmatch(path):
            parts = {name: unquote(text or "") for name, text in match.groupdict().items()}
            return Request(
                origin=origin,
                method=method,
                target=target,
                kind=kind,
                repo_id=parts.get("id", ""),
                revision=parts.get("revision") or "main",
                path=parts.get("path", ""),
                range=wanted_range,
                authorization=authorization,
            )
    return Request(origin, method, target, "other", range=wanted_range, authorization=authorization)


def error(
    status: int,
    error_code: str | None = None,
    message: str = "",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A refusal as the Hub words it: the code and the message are headers, too."""
    said = {"X-Error-Message": message} if message else {}
    if error_code is not None:
        said["X-Error-Code"] = error_code
    answer = _json(status, {"error": message or HTTPStatus(status).phrase})
    return replace(answer, headers={**answer.headers, **said, **(headers or {})})


class Protocol:
    """The answers of one hub at `url`; LFS files are at `cdn_url`, unless that is empty."""

    def __init__(self, repos: Mapping[str, Repo], page_entries: int) -> None:
        self.repos = repos
        self.page_entries = page_entries
        self.url = ""
        self.cdn_url = ""
        self.xet: XetStore | None = None
        self._links: dict[str, HubFile] = {}

    def expire_links(self) -> None:
        """Make every signed link given so far invalid."""
        self._links.clear()

    def answer(self, request: Request, actions: Sequence[Action] = ()) -> Answer:
        """The right answer, with those faults in it that are a matter of words."""
        for action in actions:
            if isinstance(action, Status):
                return error(action.status, action.error_code, action.message, action.headers)
        answer = self._right_answer(request, actions)
        for action in actions:
            match action:
                case Headers(values):
                    changed = {**answer.headers, **values}
                    kept = {name: value for name, value in changed.items() if value is not None}
                    answer = replace(answer, headers=kept)
                case Gzip():
                    answer = _compressed(answer)
                case _:
                    pass  # the others change how the body is sent
        return answer

    def _right_answer(self, request: Request, actions: Sequence[Action]) -> Answer:
        if request.kind == "other":
            return error(404, message="no such page")
        if request.kind == "cdn":
            return self._linked_file(request, actions)
        repo = self.repos.get(request.repo_id)
        if refusal := self._refusal(repo, request):
            return refusal
        commit = repo.resolve(request.revision) if repo else None
        if commit is None:
            return error(404, "RevisionNotFound", f"Invalid rev id: {request.revision}")
        if request.kind == "api":
            return _info(request, commit)
        if request.kind == "tree":
            return self._tree(request, commit, actions)
        if request.kind == "xet":
            return self._xet_token()
        return self._file(request, commit, actions)

    def _refusal(self, repo: Repo | None, request: Request) -> Answer | None:
        """Why this request may not see what it asks for, if so."""
        scheme, _, token = (request.authorization or "").partition(" ")
        is_known = scheme == "Bearer" and any(token in r.tokens for r in self.repos.values())
        wants_file = request.kind in ("head", "get")
        if repo is not None:
            is_closed = repo.private or (repo.gated and wants_file)
            if not is_closed or (is_known and token in repo.tokens):
                return None
            if request.authorization and not is_known:
                return error(401, message="Invalid credentials in Authorization header")
            if not repo.private:
                return error(403 if is_known else 401, "GatedRepo", "Access to it is restricted.")
        return error(404 if is_known else 401, "RepoNotFound", "Repository not found")

    def _tree(self, request: Request, commit: Commit, actions: Sequence[Action]) -> Answer:
        """One page of the listing, and where the next one is."""
        entries = [self._with_xet_hash(entry) for entry in commit.tree()]
        for action in actions:
            if isinstance(action, Listing):
                entries = action.edit(entries)
        if request.query.get("recursive") != "true":
            entries = [entry for entry in entries if "/" not in str(entry["path"])]
        start = int(request.query.get("cursor", "0"))
        stop = start + self.page_entries
        answer = _json(200, entries[start:stop])
        elsewhere = [action.url for action in actions if isinstance(action, NextPage)]
        if not elsewhere and stop >= len(entries):
            return answer
        path = urlsplit(request.target).path
        next_url = elsewhere[0] if elsewhere else f"{self.url}{path}?recursive=true&cursor={stop}"
        link = {"Link": f'<{next_url}>; rel="next"'}
        return replace(answer, headers={**answer.headers, **link})

    def _with_xet_hash(self, entry: Entry) -> Entry:
        """An LFS file is listed with its Xet hash, if it has one."""
        pointer = entry.get("lfs")
        if self.xet is None or not isinstance(pointer, dict):
            return entry
        return {**entry, "xetHash": self.xet.hashes.get(pointer["oid"])}

    def _xet_token(self) -> Answer:
        store = self.xet
        if store is None:
            return error(404, message="no such page")
        said = {"casUrl": store.url, "accessToken": store.token, "exp": store.expires}
        return _json(200, said)

    def _file(self, request: Request, commit: Commit, actions: Sequence[Action]) -> Answer:
        file = commit.files.get(request.path)
        if file is None:
            return error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit.hash})
        headers = {"X-Repo-Commit": commit.hash}
        if file.sha256 is not None:
            headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            if self.cdn_url:
                location = {"Location": self._signed_link(request.path, file)}
                return Answer(302, headers | location | {"Content-Length": "0"})
        answer = _bytes_of(file, request, actions)
        return replace(answer, headers=headers | dict(answer.headers))

    def _signed_link(self, path: str, file: HubFile) -> str:
        signature = secrets.token_hex(16)
        self._links[signature] = file
        return f"{self.cdn_url}/lfs/{file.sha256}/{quote(path)}?sig={signature}"

    def _linked_file(self, request: Request, actions: Sequence[Action]) -> Answer:
        if request.authorization is not None:
            return error(400, message="a signed link and a token: only one of them may be given")
        file = self._links.get(request.query.get("sig", ""))
        if file is None:
            return error(403, message="the link has expired")
        return _bytes_of(file, request, actions)


def _info(request: Request, commit: Commit) -> Answer:
    siblings: list[Entry] = [file.sibling(path) for path, file in commit.files.items()]
    if request.query.get("blobs") != "true":
        siblings = [{"rfilename": path} for path in commit.files]
    said = {"id": request.repo_id, "modelId": request.repo_id, "sha": commit.hash}
    return _json(200, {**said, "private": False, "siblings": siblings})


def _bytes_of(file: HubFile, request: Request, actions: Sequence[Action]) -> Answer:
    """The file, or the range that was asked for."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.etag}"',
    }
    ignored = any(isinstance(action, (IgnoreRange, Gzip)) for action in actions)
    wanted = None if ignored else _RANGE.fullmatch(request.range or "")
    if wanted is None or request.method == "HEAD":
        whole = {"Content-Length": str(file.size)}
        return Answer(200, headers | whole, file.content, 0, file.size)
    start, last = int(wanted[1]), min(int(wanted[2] or file.size), file.size - 1)
    if start > last:
        return error(416, headers={"Content-Range": f"bytes */{file.size}"})
    part = {
        "Content-Length": str(last + 1 - start),
        "Content-Range": f"bytes {start}-{last}/{file.size}",
    }
    return Answer(206, headers | part, file.content, start, last + 1)


def _compressed(answer: Answer) -> Answer:
    plain = answer.content if isinstance(answer.content, bytes) else answer.content.read_bytes()
    packed = gzip.compress(plain[answer.start : answer.stop], compresslevel=1)
    kept = {name: value for name, value in answer.headers.items() if name != "Content-Length"}
    headers = kept | {"Content-Encoding": "gzip", "Connection": "close"}
    return Answer(answer.status, headers, packed, 0, len(packed))


def _json(status: int, said: object) -> Answer:
    content = json.dumps(said).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    return Answer(status, headers, content, 0, len(content))
