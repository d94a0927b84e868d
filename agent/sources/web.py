"""GETs of byte ranges over HTTP, with a credential that stays at its origin.

The standard library, because it is fast: a `readinto` loop moves two to four times the bytes of
the hub's own client for the same CPU (library facts A3). What it does not do by itself is here:
proxies of the environment, redirects, connections that are kept alive, timeouts. Several threads
may ask at once: a connection is whose request is on it.

Secret headers are sent to the first URL's origin (scheme, host and port), never to another, and
once a redirect led elsewhere not again. A redirect from https to http is refused.
"""

import http.client
import re
import socket
import ssl
import string
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from larder.errors import SourceUnavailableError
from runtime.clock import Clock

CONNECT_TIMEOUT_SECONDS: Final = 10.0
READ_TIMEOUT_SECONDS: Final = 30.0
MAX_REDIRECTS: Final = 5
_FIRST_REDIRECT: Final = 300
_SUCCESSES: Final = frozenset({200, 206})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_DRAINED_MAX_BYTES: Final = 64 * 1024  # a longer body of an error or redirect ends its connection
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NETWORK_ERRORS: Final = (OSError, http.client.HTTPException, UnicodeError)  # of a host's labels
_STALE_ERRORS: Final = (ConnectionError, http.client.BadStatusLine)
_NODE_HOSTS: Final = frozenset({"metadata.google.internal", "169.254.170.23", "fd00:ec2::23"})
"""Who tells a pod what it is at its cloud: on its own node, where no proxy leads."""
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_RATE_LIMIT_RESET = re.compile(r";\s*t=(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a source may be silent."""

    connect_seconds: float = CONNECT_TIMEOUT_SECONDS
    read_seconds: float = READ_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class Network:
    """The way out: a proxy's URL and a file of more authorities; empty is the environment's own."""

    proxy: str = ""
    ca_bundle: str = ""
    verifies: bool = True

    def tls(self) -> ssl.SSLContext:
        """Whom to trust. Raises `SourceUnavailableError` for a bundle that cannot be read."""
        context = ssl.create_default_context()  # honours SSL_CERT_FILE
        if not self.verifies:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca_bundle:
            try:
                context.load_verify_locations(self.ca_bundle)
            except OSError as error:
                raise SourceUnavailableError(
                    f"caBundle {self.ca_bundle!r} cannot be read; accepted: a file of PEM"
                ) from error
        return context


@dataclass(frozen=True, slots=True)
class Origin:
    """Who a URL speaks to; two origins are the same only if all three parts are."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """Host and port as a URL writes them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """The origin of an http(s) URL. Raises `ValueError` for anything else."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in _DEFAULT_PORTS or not host.isprintable() or not host.split():
        raise ValueError("not an http:// or https:// URL")
    return Origin(parts.scheme, host, parts.port or _DEFAULT_PORTS[parts.scheme])


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body is still to be read; `hops` are the headers of redirects before it."""

    sent: "_Sent"
    origin: Origin
    hops: tuple[http.client.HTTPMessage, ...] = ()

    @property
    def response(self) -> http.client.HTTPResponse:
        """The response as the library has it."""
        return self.sent.response

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    def header(self, name: str) -> str | None:
        """A header's value, its name in any case."""
        return self.response.headers.get(name)

    @property
    def is_success(self) -> bool:
        """Whether the body is what was asked for, all of it or from an offset on."""
        return self.status in _SUCCESSES

    def first_header(self, name: str) -> str | None:
        """A header of the first answer: of the origin that was asked, before any redirect."""
        return (self.hops[0] if self.hops else self.response.headers).get(name)

    def text(self, max_bytes: int) -> str:
        """A whole body of UTF-8. Raises `SourceUnavailableError` for a longer or another one."""
        try:
            body = self.response.read(max_bytes + 1)
        except _NETWORK_ERRORS as error:
            raise unreachable(self.origin.host, error) from error
        if len(body) > max_bytes:
            raise SourceUnavailableError(f"{self.origin.host} answers more than {max_bytes} bytes")
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise SourceUnavailableError(f"{self.origin.host} answers what is no text") from error

    def readinto(self, buffer: memoryview) -> int:
        """Read on; 0 at the end. Raises `SourceUnavailableError`."""
        try:
            return self.response.readinto(buffer)
        except _NETWORK_ERRORS as error:
            raise unreachable(self.origin.host, error) from error

    def abort(self) -> None:
        """Break the connection under whoever reads."""
        with suppress(OSError):  # it is broken already
            socket.socket.shutdown(self.sent.sock, socket.SHUT_RDWR)  # TLS's own would wait


class _PlainConnection(http.client.HTTPConnection):
    """A connection with one timeout to come into being and another to be silent."""

    def __init__(self, host: str, port: int, timeouts: Timeouts) -> None:
        super().__init__(host, port, timeout=timeouts.connect_seconds)
        self._read_seconds = timeouts.read_seconds

    def connect(self) -> None:
        """Connect within the one, then set the other."""
        super().connect()
        self.sock.settimeout(self._read_seconds)


class _TlsConnection(http.client.HTTPSConnection):
    """The same over TLS."""

    def __init__(self, host: str, port: int, timeouts: Timeouts, tls: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeouts.connect_seconds, context=tls)
        self._read_seconds = timeouts.read_seconds

    def connect(self) -> None:
        """Connect within the one, then set the other."""
        super().connect()
        self.sock.settimeout(self._read_seconds)


class Web:
    """Asks, each request on a connection of its own, and keeps those that are free again.

    `heard` is called for each answer, from the thread that asked.
    """

    def __init__(
        self,
        timeouts: Timeouts = Timeouts(),
        network: Network = Network(),
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        self.timeouts = timeouts
        self.network = network
        self.heard = heard
        self._free: dict[Origin, list[http.client.HTTPConnection]] = {}

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], secret: Mapping[str, str] = NO_HEADERS
    ) -> Iterator[Answer]:
        """GET a URL, redirects followed; a connection whose answer was read to its end is kept.

        `secret` are headers for the URL's own origin alone. Raises `SourceUnavailableError` for
        whatever the network does.
        """
        with self.ask("GET", url, headers, secret) as answer:
            yield answer

    @contextmanager
    def ask(
        self, method: str, url: str, headers: Mapping[str, str], secret: Mapping[str, str]
    ) -> Iterator[Answer]:
        """The same with another method, GET or HEAD."""
        answer = self._follow(method, url, headers, secret)
        try:
            yield answer
        finally:
            self._end(answer)

    @contextmanager
    def post(self, url: str, fields: Mapping[str, str]) -> Iterator[Answer]:
        """POST a form, which may hold a secret: no redirect is followed."""
        origin = origin_of(url)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        asked = _Request("POST", _target(url), headers, urlencode(fields).encode())
        answer = Answer(self._request(origin, asked), origin)
        try:
            yield answer
        finally:
            self._end(answer)

    def close(self) -> None:
        """Close every connection."""
        for connection in [c for free in self._free.values() for c in free]:
            connection.close()
        self._free.clear()

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], secret: Mapping[str, str]
    ) -> Answer:
        first = origin = origin_of(url)
        hops: list[http.client.HTTPMessage] = []
        for _ in range(MAX_REDIRECTS + 1):
            asked = _Request(method, _target(url), {**headers, **secret})
            answer = Answer(self._request(origin, asked), origin, tuple(hops))
            self.heard()
            location = answer.header("Location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            hops.append(answer.response.headers)
            self._end(answer)
            url, origin = _redirected(url, origin, location)
            secret = secret if origin == first else NO_HEADERS
        raise SourceUnavailableError(f"{first.host} redirects more than {MAX_REDIRECTS} times")

    def _request(self, origin: Origin, asked: "_Request") -> "_Sent":
        proxy = _proxy_for(origin, self.network)
        headers = {"Host": origin.netloc, **asked.headers}
        target = asked.target
        if proxy and origin.scheme == "http":
            target = f"http://{origin.netloc}{target}"
            headers |= proxy.headers
        sent = _Request(asked.method, target, headers, asked.body)
        try:
            with suppress(IndexError, *_STALE_ERRORS):  # the server ended it while it was idle
                return _send(self._free.setdefault(origin, []).pop(), sent)
            return _send(self._connection(origin, proxy), sent)
        except _NETWORK_ERRORS as error:
            raise unreachable(origin.host, error) from error

    def _connection(self, origin: Origin, proxy: "_Proxy | None") -> http.client.HTTPConnection:
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        if origin.scheme == "http":
            return _PlainConnection(host, port, self.timeouts)
        connection = _TlsConnection(host, port, self.timeouts, self._tls)
        if proxy:
            connection.set_tunnel(origin.host, origin.port, proxy.headers)
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self.network.tls()

    def _end(self, answer: Answer) -> None:
        """Keep the connection if its answer was read to the end, else close it."""
        response = answer.response
        if not response.isclosed() and response.status >= _FIRST_REDIRECT:
            with suppress(*_NETWORK_ERRORS):
                response.read(_DRAINED_MAX_BYTES)
        is_read = response.isclosed() and not response.length
        response.close()
        if is_read:
            self._free.setdefault(answer.origin, []).append(answer.sent.connection)
        else:
            answer.sent.connection.close()


def _send(connection: http.client.HTTPConnection, asked: "_Request") -> "_Sent":
    try:
        connection.request(asked.method, asked.target, asked.body, asked.headers)
        sock = connection.sock  # of a connection that ends with this answer it is gone below
        return _Sent(connection, sock, connection.getresponse())
    except BaseException:
        connection.close()
        raise


def _target(url: str) -> str:
    """Path and query, as they stand in a request line."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe=string.punctuation, encoding="iso-8859-1", errors="replace")


def _redirected(url: str, before: Origin, location: str) -> tuple[str, Origin]:
    """Where a redirect leads."""
    try:
        url = urljoin(url, location)
        after = origin_of(url)
    except ValueError as error:
        raise SourceUnavailableError(
            f"{before.host} redirects to what is not an http:// or https:// URL"
        ) from error
    if (before.scheme, after.scheme) == ("https", "http"):
        raise SourceUnavailableError(f"{before.host} redirects from https to http; refused")
    return url, after


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request that was answered, and what it went over."""

    connection: http.client.HTTPConnection
    sock: socket.socket
    response: http.client.HTTPResponse


@dataclass(frozen=True, slots=True)
class _Proxy:
    host: str
    port: int
    headers: Mapping[str, str]


def proxy_url(origin: Origin, network: Network) -> str | None:
    """The proxy for an origin: the catalog's, else the environment's; NO_PROXY holds for both.

    Raises `SourceUnavailableError`.
    """
    text = network.proxy or getproxies().get(origin.scheme)
    if not text or origin.host in _NODE_HOSTS or proxy_bypass(origin.netloc):
        return None
    url = text if "://" in text else f"http://{text}"
    try:
        is_known = urlsplit(url).scheme == "http" and bool(origin_of(url))
    except ValueError:
        is_known = False
    if not is_known:
        raise SourceUnavailableError(
            f"the proxy for {origin.scheme} URLs is not given as http://HOST:PORT"
        )
    return url


def _proxy_for(origin: Origin, network: Network) -> _Proxy | None:
    url = proxy_url(origin, network)
    if url is None:
        return None
    parts, place = urlsplit(url), origin_of(url)
    headers = {}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    return _Proxy(place.host, place.port, headers)


def unreachable(host: str, error: Exception) -> SourceUnavailableError:
    """One sentence for what the network did, without the texts of foreign exceptions."""
    match error:
        case TimeoutError():
            fault = "did not answer in time"
        case ssl.SSLCertVerificationError():
            fault = f"has a certificate that is not trusted: {error.verify_message}"
        case OSError() if error.strerror:
            fault = f"cannot be reached: {error.strerror}"
        case UnicodeError():
            fault = "is no name that a host can have"
        case http.client.IncompleteRead() | http.client.RemoteDisconnected():
            fault = "broke the connection off"
        case _:
            fault = f"cannot be understood: {type(error).__name__}"
    return SourceUnavailableError(f"{host} {fault}")


def retry_after_seconds(
    retry_after: str | None, rate_limit: str | None, clock: Clock
) -> float | None:
    """When a server wants to be asked again, by its headers of these names, if it says so.

    `Retry-After` is seconds or a date (RFC 9110 10.2.3); `RateLimit` is the hub's own,
    `…;t=SECONDS`.
    """
    wish = (retry_after or "").strip()
    if wish.isdecimal() and wish.isascii():
        return float(wish[:9])
    if wish:
        try:
            return max(0.0, parsedate_to_datetime(wish).timestamp() - clock.now())
        except (ValueError, TypeError, OverflowError):
            return None
    reset = _RATE_LIMIT_RESET.search(rate_limit or "")
    return float(reset[1]) if reset else None
