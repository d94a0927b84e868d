"""Requests to the API server: raw JSON in, raw JSON out, errors from one small family.

Rules: nothing is tried twice here, save once with a token read anew after a 401; redirects are not
followed; every request has time limits; no typed class of the `kubernetes` package is named.
Safe to use from several threads.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self, cast
from urllib.parse import urlencode

import orjson
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)
from kubernetes.config.kube_config import load_kube_config
from urllib3 import HTTPResponse
from yaml import YAMLError

from runtime.kube.errors import (
    KubeConfigError,
    KubeError,
    UnavailableError,
    error_of,
    translated,
)
from runtime.kube.objects import KubeObject, name_of
from runtime.kube.stream import Stream
from runtime.kube.token_file import TokenFile

Query = Sequence[tuple[str, str]]
Timeout = tuple[float, float]  # seconds: to connect, and between two pieces of the answer

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
REQUEST_TIMEOUT: Final[Timeout] = (3.0, 10.0)
PAGE_SIZE: Final = 500  # objects of a list in one answer

_WAY_THERE: Final = (  # of a configuration: which server, and how it is known to be the right one
    "verify_ssl",
    "ssl_ca_cert",
    "ca_cert_data",
    "assert_hostname",
    "tls_server_name",
    "proxy",
    "no_proxy",
    "proxy_headers",
)
_METADATA: Final = "application/json;as={kind};g=meta.k8s.io;v=v1"
_MAX_STATUS_BYTES: Final = 64 * 1024
_OK: Final = range(200, 300)
_UNAUTHORIZED: Final = 401


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole collection as it was at one resource version."""

    items: tuple[KubeObject, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    query: Query = ()
    body: object = None
    content_type: str | None = None
    accept: str = JSON
    timeout: Timeout = REQUEST_TIMEOUT

    @property
    def what(self) -> str:
        return f"{self.method} {self.path}"


class KubeClient:
    """A connection to one API server. `token` stands in for what the configuration holds."""

    def __init__(
        self, configuration: Configuration, *, program: str, token: TokenFile | None = None
    ) -> None:
        configuration.retries = False
        configuration.keep_alive = True  # a watch is silent for a minute at a time
        self._configuration = configuration
        self._api = ApiClient(configuration)
        self._program = program
        self._user_agent = f"{program}/{version('larder')}"
        self._token = token

    @classmethod
    def in_cluster(
        cls,
        program: str,
        *,
        token_path: Path = Path(SERVICE_TOKEN_FILENAME),
        ca_path: Path = Path(SERVICE_CERT_FILENAME),
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """As a pod's service account. `program` is what audit logs show as the user agent.

        Raises `KubeConfigError` outside of a pod.
        """
        configuration = Configuration()
        try:
            InClusterConfigLoader(
                str(token_path), str(ca_path), try_refresh_token=False, environ=environ
            ).load_and_set(configuration)
            token = TokenFile(token_path)
        except (ConfigException, OSError) as error:
            raise KubeConfigError(f"not in a cluster that can be used: {error}") from error
        configuration.api_key.clear()
        return cls(configuration, program=program, token=token)

    @classmethod
    def from_kubeconfig(cls, program: str, path: Path | None = None) -> Self:
        """As the current user of a kubeconfig; None: KUBECONFIG, or the one of the home directory.

        Raises `KubeConfigError` for one that is missing or wrong.
        """
        configuration = Configuration()
        try:
            load_kube_config(
                config_file=None if path is None else str(path), client_configuration=configuration
            )
        except (ConfigException, OSError, TypeError, ValueError, YAMLError) as error:
            name = "the kubeconfig" if path is None else str(path)
            raise KubeConfigError(f"{name}: cannot be used to reach an API server") from error
        return cls(configuration, program=program)

    def as_bearer(self, token: str) -> "KubeClient":
        """The same API server, asked as whoever a token stands for; the caller closes it.

        Nothing of our own credentials goes along: a client certificate would come first.
        """
        theirs = Configuration(host=self._configuration.host)
        for name in _WAY_THERE:
            setattr(theirs, name, getattr(self._configuration, name))
        theirs.api_key = {"authorization": f"Bearer {token}"}
        return KubeClient(theirs, program=self._program)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._api.close()

    def request(  # noqa: PLR0913 - the parts of an HTTP request
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str | None = None,
        query: Query = (),
        timeout: Timeout = REQUEST_TIMEOUT,
    ) -> KubeObject:
        """Send one request and read its answer, a JSON object."""
        return self._json(
            _Call(
                method,
                path,
                query,
                body,
                content_type or (None if body is None else JSON),
                JSON,
                timeout,
            )
        )

    def get(self, path: str, *, timeout: Timeout = REQUEST_TIMEOUT) -> KubeObject:
        """One object, as it is now."""
        return self.request("GET", path, timeout=timeout)

    def list(
        self,
        path: str,
        *,
        query: Query = (),
        metadata_only: bool = False,
        timeout: Timeout = REQUEST_TIMEOUT,
    ) -> Listing:
        """A whole collection, page by page, as it is now (a consistent read).

        Raises `GoneError` where its first pages grew too old before the last one was read.
        """
        items: list[KubeObject] = []
        place: list[tuple[str, str]] = []
        accept = _accept("PartialObjectMetadataList", metadata_only=metadata_only)
        while True:
            pages = [*query, ("limit", str(PAGE_SIZE)), *place]
            call = _Call("GET", path, pages, accept=accept, timeout=timeout)
            page = self._json(call)
            items += _items(page, call.what)
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(tuple(items), str(metadata["resourceVersion"]))
            place = [("continue", str(metadata["continue"]))]

    def create(self, path: str, content: KubeObject, *, query: Query = ()) -> KubeObject:
        """Make an object in a collection. Raises `AlreadyExistsError` where there is one."""
        return self.request("POST", path, body=content, query=query)

    def patch(
        self, path: str, content: object, *, content_type: str = MERGE_PATCH, query: Query = ()
    ) -> KubeObject:
        """Change an object. A `metadata.resourceVersion` in a merge patch makes it conditional."""
        return self.request("PATCH", path, body=content, content_type=content_type, query=query)

    def apply(
        self, path: str, content: KubeObject, *, field_manager: str, query: Query = ()
    ) -> KubeObject:
        """Make an object, or bring our fields of it to this: what we set before and now omit goes.

        Fields that others hold are taken over. `content` names its apiVersion, kind and name.
        """
        fields = [("fieldManager", field_manager), ("force", "true"), *query]
        return self.request("PATCH", path, body=content, content_type=APPLY_PATCH, query=fields)

    def delete(self, path: str, *, options: KubeObject | None = None) -> KubeObject:
        """Delete one object; `options` are DeleteOptions, preconditions for example."""
        return self.request("DELETE", path, body=options)

    def watch(
        self, path: str, *, query: Query, metadata_only: bool, silence_seconds: float
    ) -> Stream:
        """Open a watch; the caller closes it. The answer must begin within the usual time."""
        call = _Call(
            "GET",
            path,
            [*query, ("watch", "true")],
            accept=_accept("PartialObjectMetadata", metadata_only=metadata_only),
        )
        return Stream(self._open(call), f"watch {path}", silence_seconds)

    def _json(self, call: _Call) -> KubeObject:
        response = self._open(call)
        with translated(call.what):
            data = response.data
        try:
            answer = orjson.loads(data)
        except ValueError as error:
            raise UnavailableError(f"{call.what}: the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise UnavailableError(f"{call.what}: the answer is not a JSON object")
        return answer

    def _open(self, call: _Call) -> HTTPResponse:
        sent = self._token.token() if self._token else None
        response = self._send(call, sent)
        if response.status == _UNAUTHORIZED and self._token:
            fresh = self._token.token_read_anew()
            if fresh != sent:
                response.close()
                response = self._send(call, fresh)
        if response.status not in _OK:
            raise _refusal(call, response)
        return response

    def _send(self, call: _Call, token: str | None) -> HTTPResponse:
        headers = {"Accept": call.accept, "User-Agent": self._user_agent}
        if call.content_type:
            headers["Content-Type"] = call.content_type
        with translated(call.what):
            if authorization := self._authorization(token):
                headers["Authorization"] = authorization
            answer = self._api.call_api(
                call.method,
                self._configuration.host + call.path + _query_string(call.query),
                header_params=headers,
                body=call.body,
                _request_timeout=call.timeout,
            )
        return cast("HTTPResponse", answer.response)

    def _authorization(self, token: str | None) -> str | None:
        if token is not None:
            return f"Bearer {token}"
        try:  # a plugin of the kubeconfig may have to be asked for it
            return self._configuration.get_api_key_with_prefix("BearerToken", "authorization")
        except ConfigException as error:
            raise UnavailableError("the kubeconfig gives no credentials any more") from error


def _refusal(call: _Call, response: HTTPResponse) -> KubeError:
    with translated(call.what):
        body = response.read(_MAX_STATUS_BYTES)
        response.close()
    after = response.headers.get("Retry-After", "")
    return error_of(
        call.what,
        response.status,
        reason=_status_reason(body),
        retry_after_seconds=float(after) if after.isascii() and after.isdecimal() else None,
    )


def _status_reason(body: bytes) -> str:
    try:
        status = orjson.loads(body)
    except ValueError:
        return ""
    return str(status.get("reason", "")) if isinstance(status, dict) else ""


def _items(page: KubeObject, what: str) -> list[KubeObject]:
    """The objects of a page; lists leave out what watches say: what kind each one is."""
    try:
        said = {"apiVersion": page["apiVersion"], "kind": page["kind"].removesuffix("List")}
        items = [{**said, **item} for item in page.get("items") or []]
        is_whole = bool(page["metadata"]["resourceVersion"]) and all(map(name_of, items))
    except (AttributeError, KeyError, TypeError):
        items, is_whole = [], False
    if not is_whole:
        raise UnavailableError(f"{what}: the answer is not a list of objects")
    return items


def _accept(kind: str, *, metadata_only: bool) -> str:
    return _METADATA.format(kind=kind) if metadata_only else JSON


def _query_string(query: Query) -> str:
    return f"?{urlencode(query)}" if query else ""
