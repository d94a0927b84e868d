"""What the agent is at its cloud, for entries whose credentials say `workloadIdentity: true`.

    s3://   IRSA                a token of the kubelet's, for which STS lends keys of a role
            EKS Pod Identity    the same, for which an agent of EKS on the node does
    gs://   GKE                 the node's metadata server lends a token
    Azure   Workload Identity   a token of the kubelet's, for which the login lends another

Found by the variables that the clouds' own libraries read (`secret.IDENTITIES`). The kubelet
replaces its token's file long before the token's end, so that it is read whenever it is shown.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agent.sources.ranges import PLAIN
from agent.sources.s3_access import Keys
from agent.sources.tokens import (
    ANSWER_MAX_BYTES,
    USUAL_SECONDS,
    Loan,
    read_answer,
    read_token,
    refuse,
)
from agent.sources.web import Web
from agent.sources.xml_page import read_page
from larder.errors import AccessDeniedError, SourceUnavailableError
from larder.storage_uri import endpoint_fault
from runtime.clock import Clock

_TOKEN_MAX_BYTES: Final = 64 * 1024
_METADATA_HOST: Final = "metadata.google.internal"
_METADATA_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/token"
_READ_ONLY: Final = "https://www.googleapis.com/auth/devstorage.read_only"
_BY_JWT: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_KEYS: Final = ("AccessKeyId", "SecretAccessKey", "SessionToken")


def aws_keys(identity: Mapping[str, str], web: Web, clock: Clock) -> Loan[Keys]:
    """Keys of the agent's role."""
    ask = _keys_of_role if identity.get("AWS_ROLE_ARN") else _keys_of_pod
    return Loan(lambda: ask(identity, web, clock), clock)


def google_token(identity: Mapping[str, str], web: Web, clock: Clock) -> Loan[str]:
    """A token of the account that the agent's Kubernetes account, or its machine, is at Google."""
    host = identity.get("GCE_METADATA_HOST") or _METADATA_HOST
    url = _checked(f"http://{host}{_METADATA_PATH}", "GCE_METADATA_HOST") + f"?scopes={_READ_ONLY}"

    def ask() -> tuple[str, float]:
        with web.get(url, {**PLAIN, "Metadata-Flavor": "Google"}) as answer:
            return read_token(answer, clock)

    return Loan(ask, clock)


def azure_assertion(identity: Mapping[str, str]) -> Callable[[], Mapping[str, str]]:
    """What a login is shown in place of a client's password."""
    path = identity["AZURE_FEDERATED_TOKEN_FILE"]
    return lambda: {"client_assertion_type": _BY_JWT, "client_assertion": _token_of(path)}


def _keys_of_role(identity: Mapping[str, str], web: Web, clock: Clock) -> tuple[Keys, float]:
    region = identity.get("AWS_REGION") or identity.get("AWS_DEFAULT_REGION")
    place = identity.get("AWS_ENDPOINT_URL_STS") or (
        f"https://sts.{region}.amazonaws.com" if region else "https://sts.amazonaws.com"
    )
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": identity["AWS_ROLE_ARN"],
        "RoleSessionName": "larder-agent",
        "DurationSeconds": str(USUAL_SECONDS),  # every role allows that
        "WebIdentityToken": _token_of(identity["AWS_WEB_IDENTITY_TOKEN_FILE"]),
    }
    with web.post(_checked(place, "AWS_ENDPOINT_URL_STS").rstrip("/") + "/", form) as answer:
        refuse(answer, clock)
        host = answer.origin.host
        page = read_page(answer.text(ANSWER_MAX_BYTES), host, f"{form['Action']}Response")
    return _keys([page.findtext(f".//{name}") for name in _KEYS], host), USUAL_SECONDS


def _keys_of_pod(identity: Mapping[str, str], web: Web, clock: Clock) -> tuple[Keys, float]:
    variable = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
    url = _checked(identity[variable], variable)
    token = _token_of(identity["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
    with web.get(url, PLAIN, {"Authorization": token}) as answer:
        said, host = read_answer(answer, clock), answer.origin.host
    keys = _keys([said.get(name) for name in (*_KEYS[:2], "Token")], host)
    try:
        ends_at = dt.datetime.fromisoformat(str(said.get("Expiration"))).timestamp()
    except ValueError:
        return keys, USUAL_SECONDS
    return keys, ends_at - clock.now()


def _keys(texts: list[object], host: str) -> Keys:
    access_key, secret_key, session_token = (
        text if isinstance(text, str) and text.isascii() and text.isprintable() else ""
        for text in texts
    )
    if not (access_key and secret_key and session_token):
        raise SourceUnavailableError(f"{host} answers what are no keys")
    return Keys(access_key, secret_key, session_token)


def _token_of(path: str) -> str:
    """What the kubelet wrote for us. Raises `AccessDeniedError`."""
    try:
        with Path(path).open("rb") as file:
            token = file.read(_TOKEN_MAX_BYTES).decode("ascii").strip()
    except (OSError, ValueError):
        token = ""
    if not token or not token.isprintable():
        raise AccessDeniedError(f"file {path!r}, named by the agent's variables, holds no token")
    return token


def _checked(url: str, variable: str) -> str:
    if endpoint_fault(url):
        raise AccessDeniedError(f"the agent's variable {variable} names no host")
    return url
