"""A server of files over HTTP with ranges and ETags, as a CDN or nginx is one.

    with FileServer({"/m.gguf": b"..."}) as server: ...

`tags` says what its answers name: ETag, Last-Modified, both, or nothing; `etags` are other ETags
than its own. With `keys`, a request needs one of them as its Authorization.
"""

import contextlib
import hashlib
import re
import threading
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class FileServer:
    """Serves `files` by path; the mapping may be changed at any time. Chunks are of whole files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.tags = {"ETag", "Last-Modified"}
        self.etags: dict[str, str] = {}
        self.content_type = "application/octet-stream"
        self.says_length = True
        self.sends_chunks = False  # then it says no length either
        self.breaks_off = False
        self.keys: tuple[str, ...] = ()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.files = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def etag(self, path: str) -> str:
        return self.etags.get(path) or f'"{_digest(self.files[path])}"'

    def modified(self, path: str) -> str:
        return formatdate(int(_digest(self.files[path])[:7], 16), usegmt=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _chunked(content: bytes, *, is_whole: bool) -> bytes:
    """A body in one chunk; without its end, it is one that broke off."""
    return b"%x\r\n%s\r\n" % (len(content), content) + (b"0\r\n\r\n" if is_whole else b"")


class _Server(ThreadingHTTPServer):
    files: FileServer
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        said, path = self.server.files, urlsplit(self.path).path
        if said.keys and self.headers["Authorization"] not in said.keys:
            return self._end(401)
        if path not in said.files:
            return self._end(404)
        content, etag, modified = said.files[path], said.etag(path), said.modified(path)
        if self.headers.get("If-Match", etag) != etag:
            return self._end(412)
        if self.headers.get("If-Unmodified-Since", modified) != modified:
            return self._end(412)
        named = {"ETag": etag, "Last-Modified": modified}
        headers = {name: named[name] for name in said.tags}
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        status, start, stop = 200, 0, len(content)
        if wanted:
            start = int(wanted[1])
            stop = min(stop, int(wanted[2]) + 1) if wanted[2] else stop
            if start >= stop:
                return self._end(416, {"Content-Range": f"bytes */{len(content)}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        body = content[start:stop]
        if said.sends_chunks:
            status, body = 200, _chunked(content, is_whole=not said.breaks_off)
            headers = {n: headers[n] for n in said.tags} | {"Transfer-Encoding": "chunked"}
        elif said.says_length:
            headers["Content-Length"] = str(stop - start)
        else:
            headers.pop("Content-Range", None)
        self._end(status, headers | {"Content-Type": said.content_type}, body)
        return None

    def _end(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {"Content-Length": "0"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""
