"""A small API server of our own: objects, paged lists, watches, and faults on demand.

It keeps the rules that clients rely on: one growing resource version, 409 for an old one, no change
without a difference, 410 for a version that is too old, one JSON line an event. `faults` are used
up by the next requests, one each; an entry of None lets a request pass.
"""

import json
import re
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]
Fault = Callable[["Handler"], None]
_PATH = re.compile(
    r"(?P<root>/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?"
)
_KINDS = {
    "configmaps": "ConfigMap",
    "daemonsets": "DaemonSet",
    "deployments": "Deployment",
    "events": "Event",
    "inferenceservices": "InferenceService",
    "leases": "Lease",
    "llminferenceservices": "LLMInferenceService",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "namespaces": "Namespace",
    "nodes": "Node",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "persistentvolumes": "PersistentVolume",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "pods": "Pod",
    "secrets": "Secret",
    "validatingadmissionpolicies": "ValidatingAdmissionPolicy",
    "validatingadmissionpolicybindings": "ValidatingAdmissionPolicyBinding",
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
}


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class World:
    """What the server holds; `changed` guards it all."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    objects: dict[tuple[str, str, str], Json] = field(default_factory=dict)
    history: list[tuple[int, str, str, Json]] = field(default_factory=list)
    applied: dict[tuple[str, tuple[str, str, str]], set[str]] = field(default_factory=dict)
    pages: dict[str, tuple[int, list[Json]]] = field(default_factory=dict)
    version: int = 100
    oldest: int = 0  # resource versions below it are too old
    streams: int = 0  # a watch ends when this moves on
    bookmarks: int = 0

    def put(self, plural: str, content: Json, kind: str) -> Json:
        self.version += 1
        metadata = content["metadata"]
        metadata["resourceVersion"] = str(self.version)
        metadata.setdefault("uid", f"uid-{self.version}")
        key = plural, metadata.get("namespace", ""), metadata["name"]
        if kind == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = content
        self.history.append((self.version, plural, kind, deepcopy(content)))
        self.changed.notify_all()
        return content


class ApiServer:
    """The server in threads of this process; `host` is its address as a configuration takes it."""

    def __init__(self) -> None:
        self.world = World()
        self.faults: deque[Fault | None] = deque()
        self.seen: list[Seen] = []
        self.tokens: set[str] | None = None  # None: everybody may come in
        self.is_brief = False  # watches break off after what has happened so far
        self.standing: dict[tuple[str, str], Fault] = {}  # by method and path, for every request
        self.discovery: dict[str, Json] = {}  # what is answered at a path that is no collection's
        self._port = 0
        self.start()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def watches(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.query.get("watch")]

    @property
    def lists(self) -> list[Seen]:
        return [s for s in self.seen if s.method == "GET" and not s.query.get("watch")]

    def start(self) -> None:
        """Serve, at the same port as before."""
        server = _Server(("127.0.0.1", self._port), Handler)
        server.api = self
        self._port = server.server_port
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Go away: what is open breaks, new connections are refused."""
        self._server.shutdown()
        self._thread.join()
        self.break_streams()
        self._server.break_connections()
        self._server.server_close()

    def restart(self) -> None:
        """Come back without a memory of earlier resource versions, as a real one does."""
        self.world.version += 1
        self.world.oldest = self.world.version
        self.start()

    def break_streams(self) -> None:
        with self.world.changed:
            self.world.streams += 1
            self.world.changed.notify_all()

    def bookmark(self) -> None:
        with self.world.changed:
            self.world.version += 1
            self.world.bookmarks += 1
            self.world.changed.notify_all()

    def add(self, name: str, plural: str = "configmaps", **fields: object) -> Json:
        """Make an object in namespace `models`, past the API."""
        metadata = {"name": name, "namespace": "models", "managedFields": [{"manager": "test"}]}
        with self.world.changed:
            content = {"apiVersion": "v1", "kind": _KINDS[plural], "metadata": metadata, **fields}
            return self.world.put(plural, content, "ADDED")

    def remove(self, name: str, plural: str = "configmaps") -> None:
        with self.world.changed:
            self.world.put(plural, self.world.objects[plural, "models", name], "DELETED")


class _Server(ThreadingHTTPServer):
    api: ApiServer
    daemon_threads = False
    block_on_close = True

    def __init__(self, *arguments: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(2)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def api(self) -> ApiServer:
        return cast("_Server", self.server).api

    @property
    def world(self) -> World:
        return self.api.world

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def answer(self, code: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, code: int, reason: str = "", headers: dict[str, str] | None = None) -> None:
        self.answer(code, status(code, reason), headers)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = int(headers.get("content-length", 0))
        body = self.body = self.rfile.read(length)
        self.api.seen.append(Seen(self.command, url.path, self.query, headers))
        fault = self.api.standing.get((self.command, url.path))
        if self.api.faults and not fault:
            fault = self.api.faults.popleft()
        if fault:
            fault(self)
            return
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if self.api.tokens is not None and token not in self.api.tokens:
            self.refuse(401, "Unauthorized")
            return
        if found := self.api.discovery.get(url.path):
            self.answer(200, found)
            return
        match = _PATH.fullmatch(url.path)
        if not match or match["plural"] not in _KINDS:
            self.refuse(404, "NotFound")
            return
        self.plural, self.namespace, self.name = match["plural"], match["namespace"], match["name"]
        if self.query.get("watch"):
            self._watch()
            return
        with self.world.changed:
            self._object(json.loads(body or b"null")) if self.name else self._collection(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the base class's names

    # --- objects ---------------------------------------------------------------------------------

    def _object(self, body: Json | None) -> None:
        key = self.plural, self.namespace or "", self.name
        now = self.world.objects.get(key)
        is_apply = "apply-patch" in self.headers.get("Content-Type", "")
        if now is None and not is_apply:
            self.refuse(404, "NotFound")
        elif self.command == "GET":
            self.answer(200, now)
        elif self.command == "DELETE" and now is not None:
            self._delete(now, (body or {}).get("preconditions") or {})
        elif body is not None:
            self._patch(key, now, body, is_apply=is_apply)

    def _delete(self, now: Json, preconditions: Json) -> None:
        metadata = now["metadata"]
        if any(metadata.get(name) != value for name, value in preconditions.items()):
            self.refuse(409, "Conflict")
        elif metadata.get("finalizers"):
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self.answer(200, self.world.put(self.plural, now, "MODIFIED"))
        else:
            self.answer(200, self.world.put(self.plural, now, "DELETED"))

    def _patch(
        self, key: tuple[str, str, str], now: Json | None, body: Json, *, is_apply: bool
    ) -> None:
        metadata = body.get("metadata") or {}
        expected = metadata.get("resourceVersion")
        if now and expected and expected != now["metadata"]["resourceVersion"]:
            self.refuse(409, "Conflict")
            return
        if is_apply:
            owner = self.query["fieldManager"], key
            labels = set(metadata.get("labels") or {})
            gone = dict.fromkeys(self.world.applied.get(owner, set()) - labels)
            self.world.applied[owner] = labels
            body = merged(body, {"metadata": {"labels": gone}}, keep_null=True) if gone else body
        new = merged(now or {"metadata": {"namespace": self.namespace or ""}}, body)
        if new != now:
            self.world.put(self.plural, new, "MODIFIED" if now else "ADDED")
        self.answer(200 if now else 201, new)

    def _collection(self, body: bytes) -> None:
        if self.command == "GET":
            self._list()
            return
        content = json.loads(body)
        content["metadata"]["namespace"] = self.namespace or ""
        key = self.plural, self.namespace or "", content["metadata"]["name"]
        if key in self.world.objects:
            self.refuse(409, "AlreadyExists")
        else:
            self.answer(201, self.world.put(self.plural, content, "ADDED"))

    # --- collections -----------------------------------------------------------------------------

    def _list(self) -> None:
        limit = int(self.query.get("limit", 0)) or 1_000_000
        if token := self.query.get("continue"):
            if token not in self.world.pages:
                self.refuse(410, "Expired")
                return
            version, items = self.world.pages.pop(token)
        else:
            version = self.world.version
            items = [c for (p, _, _), c in self.world.objects.items() if p == self.plural]
            items = [deepcopy(c) for c in items if self._is_selected(c)]
        metadata = {"resourceVersion": str(version)}
        if items[limit:]:
            metadata["continue"] = f"after-{items[limit - 1]['metadata']['name']}"
            self.world.pages[metadata["continue"]] = version, items[limit:]
        kind = "PartialObjectMetadata" if self._metadata_only else _KINDS[self.plural]
        page = [
            {n: v for n, v in self._shown(c).items() if n not in {"kind", "apiVersion"}}
            for c in items[:limit]
        ]
        self.answer(
            200, {"kind": f"{kind}List", "apiVersion": "v1", "metadata": metadata, "items": page}
        )

    def _watch(self) -> None:
        world = self.world
        place, streams, bookmarks = (
            int(self.query["resourceVersion"]),
            world.streams,
            world.bookmarks,
        )
        if place < world.oldest:  # as a real one says it: in the stream
            self.begin_stream()
            self.chunk(line("ERROR", status(410, "Expired")))
            self.chunk(b"")
            return
        self.begin_stream()
        while True:
            with world.changed:
                if self.api.is_brief and not self._has_news(place, streams, bookmarks):
                    self.close_connection = True
                    return
                world.changed.wait_for(partial(self._has_news, place, streams, bookmarks))
                if world.streams != streams:
                    self.close_connection = True
                    return
                news = [h for h in world.history if h[0] > place and h[1] == self.plural]
                is_bookmark = world.bookmarks != bookmarks
                bookmarks, place = world.bookmarks, world.version
            lines = [line(k, self._shown(c)) for _, _, k, c in news if self._is_selected(c)]
            if is_bookmark:
                lines.append(line("BOOKMARK", {"metadata": {"resourceVersion": str(place)}}))
            if lines:
                self.chunk(b"".join(lines))

    def _has_news(self, place: int, streams: int, bookmarks: int) -> bool:
        world = self.world
        is_moved = (world.streams, world.bookmarks) != (streams, bookmarks)
        return is_moved or bool(world.history and world.history[-1][0] > place)

    @property
    def _metadata_only(self) -> bool:
        return "PartialObjectMetadata" in self.headers.get("Accept", "")

    def _shown(self, content: Json) -> Json:
        if self._metadata_only:
            return {"kind": "PartialObjectMetadata", "metadata": content["metadata"]}
        return content

    def _is_selected(self, content: Json) -> bool:
        metadata = content["metadata"]
        if self.namespace and metadata.get("namespace") != self.namespace:
            return False
        facts = {
            "metadata.name": metadata["name"],
            "spec.nodeName": content.get("spec", {}).get("nodeName"),
            "status.phase": content.get("status", {}).get("phase"),
        }
        return _matches(self.query.get("fieldSelector", ""), facts) and _matches(
            self.query.get("labelSelector", ""), metadata.get("labels") or {}
        )


def _matches(selector: str, facts: Json) -> bool:
    return all(_holds(term, facts) for term in selector.split(",") if term)


def _holds(term: str, facts: Json) -> bool:
    name, equals, value = term.partition("=")
    if name.endswith("!"):
        return bool(facts.get(name[:-1]) != value)
    return name in facts and (not equals or facts[name] == value)


def merged(now: Json, patch: Json, *, keep_null: bool = False) -> Json:
    """A JSON merge patch."""
    new = deepcopy(now)
    for name, value in patch.items():
        if value is None and not keep_null:
            new.pop(name, None)
        elif isinstance(value, dict):
            old = new.get(name)
            new[name] = merged(old if isinstance(old, dict) else {}, value, keep_null=keep_null)
        else:
            new[name] = value
    return new


def status(code: int, reason: str) -> Json:
    """A Status object with a text that nobody may repeat."""
    return {"kind": "Status", "code": code, "reason": reason, "message": "secret-token in a body"}


def line(kind: str, content: Json) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": content}).encode() + b"\n"


# --- faults --------------------------------------------------------------------------------------


def refusing(code: int, reason: str = "", **headers: str) -> Fault:
    """Answers with a status."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.refuse(code, reason, names)


def answering(content: object) -> Fault:
    """Answers 200 with this, JSON or bytes."""
    return lambda handler: handler.answer(200, content)


def dropping(handler: Handler) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True


def streaming(
    *chunks: bytes, broken: bool = False, then: Callable[[], object] | None = None
) -> Fault:
    """Answers with a stream of these chunks, then ends it, or breaks off."""

    def stream(handler: Handler) -> None:
        handler.begin_stream()
        for chunk in chunks:
            handler.chunk(chunk)
        if then:
            then()
        if broken:
            handler.close_connection = True
        else:
            handler.chunk(b"")

    return stream


def hanging(until: threading.Event, *, is_open: bool = False) -> Fault:
    """Says nothing until the event: before the answer, or (is_open) within it."""

    def hang(handler: Handler) -> None:
        if is_open:
            handler.begin_stream()
        until.wait()
        handler.close_connection = True

    return hang
