"""What is far from an API server's requests: bytes for a connection, made from a number alone.

A conversation is a request of odd parts: a line, heads, a framing that is true to its body or not,
and a body that is a review, a question, or neither. Then its bytes may be bent, cut or said several
times.
"""

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.fuzz.odd_reviews import OddReviews
from tests.webhook.explain_cluster import ADMIN, STRANGER, TENANT

ADMISSION_PATH: Final = "0123456789abcdef" * 3
MUTATE: Final = f"/{ADMISSION_PATH}/mutate-pods".encode()
METHODS: Final = (
    *(b"POST", b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT"),
    *(b"post", b"BREW", b"", b"PRI", b"M-SEARCH", b"\xff", b"POST POST"),
)
PATHS: Final = (
    *(MUTATE, MUTATE + b"?timeout=3s", f"/{ADMISSION_PATH}/validate-catalog".encode()),
    *(b"/explain", b"/explain?x=y", b"/explain/", b"//explain", b"/livez", b"/metrics"),
    *(b"/mutate-pods", b"/mutate-pods?timeout=3s", b"/validate-catalog"),
    *(b"/0123/mutate-pods", b"//mutate-pods", b"/mutate-pods/", b"/%2e%2e/mutate-pods", b"/x/y/z"),
    *(b"/%00/mutate-pods", b"/%ff/mutate-pods", b"/%ed%a0%80/mutate-pods", b"/%/mutate-pods"),
    *(b"/\xc3\xa9/mutate-pods", b"/../../etc/passwd", b"*", b"", b"x", b"http://evil/mutate-pods"),
    *(b"https://[::1/livez", b"/" + b"a" * 3000, b"/livez#x", b"/livez?" + b"&" * 500, b"/\x00"),
)
VERSIONS: Final = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1", b"")
HEADS: Final = (
    *(b"Content-Type: application/json", b"Content-Encoding: gzip", b"Expect: 100-continue"),
    *(b"Connection: close", b"Connection: keep-alive, upgrade", b"Upgrade: websocket"),
    *(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Upgrade: TLS/1.0"),
    *(b"Host: y", b"Host:", b"X" * 300 + b": y", b"X: " + b"y" * 9000, b"X: \xff\xfe", b"X : y"),
    *(
        b": y",
        b"X",
        b" folded",
        b"X: a\x00b",
        b"X: a\rb",
        b"X\n: y",
        b"Trailer: X",
        b"TE: trailers",
    ),
    *(b"X-Forwarded-For: 1.2.3.4", b"Range: bytes=0-1", b"Content-Length: 0", b"Content-Length: 9"),
    *(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
)
BEARERS: Final = (
    *[b"Authorization: Bearer " + token.encode() for token in (ADMIN, TENANT)] * 6,
    *(b"Authorization: Bearer " + STRANGER.encode(), b"Authorization: Bearer " + b"x" * 9000),
    *(b"Authorization: bearer  x", b"Authorization: Basic x", b"Authorization: Bearer \xff"),
    *(b"Authorization:", b"X: y"),
)
LENGTHS: Final = (b"-1", b"+5", b"0x10", b"", b"1, 1", b"1e3", b"18446744073709551616", b"5;", b" ")
CODINGS: Final = (
    b"chunked",
    b"Chunked",
    b"gzip, chunked",
    b"chunked, gzip",
    b"identity",
    b"x",
    b"",
)
SIZES: Final = (
    b"-1",
    b"0x5",
    b"FFFFFFFFFFFFFFFFF",
    b"",
    b"g",
    b"5;a=b",
    b"5 ",
    b'5;a="\r\n"',
    b"00",
)
_MOST_TIMES: Final = 12  # of one request in a row


@dataclass(frozen=True)
class Conversation:
    """What is sent, in pieces. `is_whole` if a server must answer, or end it, without more."""

    pieces: tuple[bytes, ...]
    is_whole: bool


class OddHttp:
    """Makes the conversation of a number; the same number makes the same one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._reviews = OddReviews(seed)

    def conversation(self, number: int) -> Conversation:
        """One request, or some, bent or not."""
        source = random.Random(f"{self._seed}/{number}/http")  # noqa: S311 - can be repeated
        is_plain = source.randrange(2) == 0
        is_question = source.randrange(3) == 0
        body = self._body(source, number, is_question=is_question)
        head, framed, is_true = framing(source, body)
        line = b" ".join(
            (
                b"POST" if is_plain else source.choice(METHODS),
                (b"/explain" if is_question else MUTATE) if is_plain else source.choice(PATHS),
                b"HTTP/1.1" if is_plain else source.choice(VERSIONS),
            )
        )
        odd = [] if is_plain else source.choices(HEADS, k=source.randrange(4))
        if is_question:
            odd.append(source.choice(BEARERS))
        end = source.choice((*[b"\r\n"] * 8, b"\n", b"\r"))
        sent = end.join((line, b"Host: x", head, *odd, b"", b"")) + framed
        is_whole = is_plain and is_true and end == b"\r\n"
        match source.randrange(8):
            case 0:
                sent, is_whole = sent[: source.randrange(len(sent))], False
            case 1:
                sent, is_whole = bent(source, sent), False
            case 2:
                sent *= source.randint(2, _MOST_TIMES)
            case _:
                pass
        return Conversation(tuple(pieces(source, sent)), is_whole)

    def _body(self, source: random.Random, number: int, *, is_question: bool) -> bytes:
        asked = self._reviews.review(number)
        if is_question:
            asked = question(source, asked)
        review = json.dumps(asked).encode()
        deep = source.choice((b"[", b'{"a":')) * source.choice((10, 1000, 100_000))
        makers: tuple[Callable[[], bytes], ...] = (
            *[lambda: review] * 10,
            lambda: b"",
            lambda: gzip.compress(review, mtime=0),
            lambda: deep,
            lambda: review[: len(review) // 2],
            lambda: review.replace(b'"', b"\xff", 3),
            lambda: review.decode().encode("utf-16"),
            lambda: source.randbytes(source.randrange(3000)),
            lambda: b"a=b&c=d",
            lambda: b"1" * source.choice((100, 100_000)),
        )
        return source.choice(makers)()


def question(source: random.Random, review: Any) -> Any:
    """What `/explain` may be asked: the pod of a review, or one of the cluster."""
    request = review.get("request") if isinstance(review, dict) else None
    pod = request.get("object") if isinstance(request, dict) else None
    if not isinstance(pod, dict) or source.randrange(8) == 0:
        return {"namespace": "chat", "pod": source.choice(("qwen", "none", "..", "x" * 300, 7))}
    metadata = pod.get("metadata") if isinstance(pod.get("metadata"), dict) else {}
    return {**pod, "kind": "Pod", "metadata": {**metadata, "namespace": "chat"}}


def framing(source: random.Random, body: bytes) -> tuple[bytes, bytes, bool]:
    """A head that says how long a body is, the body as it is sent, and whether that is true."""
    length = len(body)
    match source.randrange(16):
        case 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7:
            return b"Content-Length: %d" % length, body, True
        case 8 | 9 | 10:
            return b"Transfer-Encoding: chunked", chunked(source, body), True
        case 11:
            said = length + source.choice((-1, 1, 10, 2**40))
            return b"Content-Length: %d" % said, body, False
        case 12:
            return b"Content-Length: " + source.choice(LENGTHS), body, False
        case 13:
            size = source.choice(SIZES)
            return b"Transfer-Encoding: chunked", size + b"\r\n" + chunked(source, body), False
        case _:
            coding = b"Transfer-Encoding: " + source.choice(CODINGS)
            return coding + b"\r\nContent-Length: %d" % length, chunked(source, body), False


def chunked(source: random.Random, body: bytes) -> bytes:
    size = source.choice((1000, 65536))
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    trailer = source.choice((b"", b"", b"X: y\r\n"))
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n" + trailer + b"\r\n"


def bent(source: random.Random, sent: bytes) -> bytes:
    """Some bytes of the first thousand are others."""
    changed = bytearray(sent)
    for _ in range(source.randint(1, 5)):
        changed[source.randrange(min(len(changed), 1000))] = source.randrange(256)
    return bytes(changed)


def pieces(source: random.Random, sent: bytes) -> list[bytes]:
    """What is sent at once: all of it, or a few pieces."""
    cuts = sorted(source.randrange(len(sent) + 1) for _ in range(source.choice((0, 0, 1, 5))))
    return [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
