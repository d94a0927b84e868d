"""A store of Xet's chunks, as far as the real hf_xet uploads to one and downloads from it.

    with Cas() as cas:
        hashes = cas.upload([path])             # hf_xet itself cuts, packs and sends
        cas.stalls = True                       # from now on

What hf_xet uploads is kept as it came: xorbs (chunks behind headers of 8 bytes) by their hash, and
of shards the way in which a file is put together from ranges of xorbs' chunks. A reconstruction is
such a way, cut to the range that is asked for; the bytes themselves are had by links of their own,
by ranges. Formats and calls are the published specification's.
"""

import contextlib
import hashlib
import json
import os
import re
import ssl
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from unittest.mock import patch
from urllib.parse import urlsplit

import hf_xet

from demo.hub import XetStore

TOKEN: Final = "xet-token-of-the-tests"  # noqa: S105 - nobody else's
EXPIRES: Final = 4102444800
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_ENTRY_BYTES: Final = 48
_END_OF_FILES: Final = b"\xff" * 32
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30


class _Term(NamedTuple):
    """A range of a xorb's chunks, as a file has it."""

    xorb: str
    unpacked_bytes: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Xorb:
    """Chunks, each behind a header; where each begins, packed and unpacked, and the last ends."""

    content: bytes
    packed: tuple[int, ...]
    unpacked: tuple[int, ...]

    @classmethod
    def of(cls, content: bytes) -> "_Xorb":
        packed, unpacked = [0], [0]
        while packed[-1] < len(content):
            header = content[packed[-1] : packed[-1] + 8]
            packed.append(packed[-1] + 8 + int.from_bytes(header[1:4], "little"))
            unpacked.append(unpacked[-1] + int.from_bytes(header[5:8], "little"))
        return cls(content, tuple(packed), tuple(unpacked))


class Cas:
    """The store, at a port of its own. `requests` are `METHOD path`, in the order they came.

    Of a download, `stalls` sends no byte until the end, and `flips` damages the last one; `status`
    is what all but uploads are answered, and what downloads are beyond `downloads_left`.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[str] = []
        self.authorizations: set[str] = set()
        self.stalls = self.flips = False
        self.downloads_left: int | None = None
        self.status = 200
        self.stalled = threading.Event()
        self.closing = threading.Event()
        self.xorbs: dict[str, _Xorb] = {}
        self.files: dict[str, tuple[_Term, ...]] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.cas = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def upload(self, paths: Iterable[Path]) -> list[str]:
        """Have hf_xet upload files; their Xet hashes.

        It remembers on disk what a store has, by the store's URL: another store has had that port.
        """
        settings = {"telemetry.enabled": False, "client.shard_api_version": 1}
        with (
            tempfile.TemporaryDirectory() as memory,
            patch.dict(os.environ, {"HF_XET_CACHE": memory}),
            hf_xet.XetSession(hf_xet.XetConfig().with_config(settings)).new_upload_commit(
                endpoint=self.url, token=TOKEN, token_expiry_unix_secs=EXPIRES
            ) as commit,
        ):
            sent = [commit.start_upload_file(str(path)) for path in paths]
        return [str(upload.result().xet_info.hash) for upload in sent]

    def store(self, paths: Iterable[Path]) -> XetStore:
        """The same, as a hub tells of it."""
        held = list(paths)
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in held]
        hashes = dict(zip(digests, self.upload(held), strict=True))
        return XetStore(self.url, TOKEN, EXPIRES, hashes)

    def reconstruction(self, file: str, start: int, stop: int | None) -> dict[str, Any] | None:
        """How bytes `start` to `stop` of a file are put together; None if there are none."""
        terms, fetched, skipped, position = [], {}, 0, 0
        for term in self.files[file]:
            xorb, base = self.xorbs[term.xorb], position
            position += term.unpacked_bytes
            if position <= start or (stop is not None and base >= stop):
                continue
            first, last = term.start, term.stop
            at = xorb.unpacked
            while base + at[first + 1] - at[term.start] <= start:
                first += 1
            while stop is not None and base + at[last - 1] - at[term.start] >= stop:
                last -= 1
            if not terms:
                skipped = start - (base + at[first] - at[term.start])
            chunks = {"start": first, "end": last}
            terms.append(
                {"hash": term.xorb, "unpacked_length": at[last] - at[first], "range": chunks}
            )
            place = {"start": xorb.packed[first], "end": xorb.packed[last] - 1}
            url = f"{self.url}/download/{term.xorb}?signature=secret-of-a-link"
            link = {"range": chunks, "url": url, "url_range": place}
            fetched.setdefault(term.xorb, []).append(link)
        said = {"offset_into_first_range": skipped, "terms": terms, "fetch_info": fetched}
        return said if terms else None


def _files_of(shard: bytes) -> Iterator[tuple[str, tuple[_Term, ...]]]:
    """What a shard says of files: after a header, entries up to one that is all ones."""
    position = _ENTRY_BYTES
    while (name := shard[position : position + 32]) != _END_OF_FILES:
        flags, count = struct.unpack_from("<II", shard, position + 32)
        position += _ENTRY_BYTES
        terms = []
        for n in range(count):
            at = position + n * _ENTRY_BYTES
            size, start, stop = struct.unpack_from("<III", shard, at + 36)
            terms.append(_Term(_text_of(shard[at : at + 32]), size, start, stop))
        verified = count if flags & _HAS_VERIFICATION else 0
        described = 1 if flags & _HAS_METADATA else 0
        position += (count + verified + described) * _ENTRY_BYTES
        yield _text_of(name), tuple(terms)


def _text_of(name: bytes) -> str:
    """A hash as paths have it: four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", name))


class _Server(ThreadingHTTPServer):
    cas: Cas
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        cas, path = self.server.cas, self._path()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if path.startswith("/v1/xorbs/default/"):
            cas.xorbs[path.rpartition("/")[2]] = _Xorb.of(content)
            return self._say({"was_inserted": True})
        if path == "/v1/shards":
            cas.files.update(_files_of(content))
            return self._say({"result": 1})
        return self._end(404)

    def do_GET(self) -> None:
        cas, path = self.server.cas, self._path()
        kind, _, name = path.rpartition("/")
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, stop = (int(wanted[1]), int(wanted[2]) + 1) if wanted else (0, None)
        if cas.status != 200:
            return self._end(cas.status)
        if kind == "/v1/reconstructions" and name in cas.files:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return self._end(401)
            said = cas.reconstruction(name, start, stop)
            return self._say(said) if said else self._end(416)
        if kind == "/download" and name in cas.xorbs and wanted:
            return self._download(cas.xorbs[name].content[start:stop])
        return self._end(404)

    def _download(self, content: bytes) -> None:
        cas = self.server.cas
        if cas.downloads_left is not None:
            cas.downloads_left -= 1
            if cas.downloads_left < 0:
                return self._end(403)
        if cas.stalls:
            self.send_response(206)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            cas.stalled.set()
            cas.closing.wait()
            return None
        if cas.flips:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return self._end(206, content)

    def _path(self) -> str:
        self.server.cas.requests.append(f"{self.command} {self.path}")
        if authorization := self.headers["Authorization"]:
            self.server.cas.authorizations.add(authorization)
        return urlsplit(self.path).path  # a proxy is asked by the whole URL

    def _say(self, said: object) -> None:
        self._end(200, json.dumps(said).encode())

    def _end(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""
