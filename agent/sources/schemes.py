"""Which source fetches what: the one place that looks at a URI's scheme, and a table of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from agent.planning.values import Algorithm
from agent.sources.azure import AzureStore
from agent.sources.azure_access import AzureAccess
from agent.sources.gs import KEY_FILE, GcsAccess, GcsStore
from agent.sources.hf import HubSource
from agent.sources.https import HttpsSource
from agent.sources.interface import Source
from agent.sources.objects import ObjectSource
from agent.sources.s3 import S3Store
from agent.sources.s3_access import s3_access, verifies_tls
from agent.sources.secret import HF_TOKEN, HTTPS_HEADERS, HTTPS_HOST, Secret
from agent.sources.web import Web
from agent.sources.workload_identity import aws_keys
from agent.sources.xet import Xet, XetSource
from larder.contract import FillFailure
from larder.errors import PermanentError
from larder.storage_uri import is_tree, normalise, scheme_of
from runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Scheme:
    """One kind of source, as docs/sources.md tells of it.

    `digests` are those that a listing may know, by their names in it.
    """

    uri: str
    digests: Mapping[str, str]
    revision: str
    keys: tuple[str, ...]
    note: str
    resumes: bool = True
    is_parallel: bool = True


SCHEMES: Final = (
    Scheme(
        "hf://OWNER/MODEL",
        {"sha256": "SHA-256 (LFS)", Algorithm.GIT_BLOB: "git blob id"},
        "the commit",
        (HF_TOKEN,),
        "The hub's library resolves and lists, the engine's own GETs move the bytes; or hf-xet in a"
        " process of its own, where the catalog gives it memory (`fills.xetMemory`) and the hub"
        " lists a Xet hash: the bytes are compared all the same. A model is listed once; a signed"
        " link serves the ranges of its file until it ends; small files are asked for {burst} at"
        " once, then {rate:g} a second, by a node's fills. `fetchFrom` names a mirror. Tried"
        " against the demo's hub; hf-xet against a store of the tests' own that it had filled.",
    ),
    Scheme(
        "s3://BUCKET/PREFIX",
        {
            "sha256": "SHA-256",
            Algorithm.CRC64NVME: "CRC-64/NVME",
            Algorithm.MD5: "MD5 (the ETag of one part)",
            Algorithm.SHA1: "SHA-1",
            Algorithm.CRC32C: "CRC-32C",
            Algorithm.CRC32: "CRC-32, each of the whole object, or over those of equal parts",
        },
        "over ETags",
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        "Annotations `serving.kserve.io/` `s3-endpoint`, `s3-usehttps`, `s3-region`,"
        " `s3-useanoncredential`, `s3-usevirtualbucket` and `s3-verifyssl` have effect; `fetchFrom`"
        " and `endpoint` go before the Secret's. AWS's region of a bucket is found by itself."
        " The {described} largest objects are asked for their digest. S3 itself makes a CRC-64/NVME"
        " of what is uploaded without a checksum. boto3 and the AWS CLI send a CRC-32, and of a"
        " large object one of each part: a checksum over those (`COMPOSITE`) is compared where all"
        " parts but the last have one size, as theirs have; for that, one or two parts are asked"
        " for (HEAD with `partNumber`, which needs no other permission). Of other parts, or where"
        " the store does not tell, the first fill is the reference;"
        " `ExtraArgs={{'ChecksumType': 'FULL_OBJECT'}}` has boto3 send a CRC-32 of the whole. Tried"
        " against versitygw and moto, not against AWS.",
    ),
    Scheme(
        "gs://BUCKET/PREFIX",
        {Algorithm.MD5: "MD5", Algorithm.CRC32C: "CRC-32C (composed objects)"},
        "over generations",
        (KEY_FILE,),
        "A service account's key file, or anonymous. An object that is stored compressed is"
        " refused. Tried against fake-gcs-server, which asks for no token, not against Google.",
    ),
    Scheme(
        "https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX",
        {Algorithm.MD5: "MD5 (Content-MD5, where given)"},
        "over ETags",
        ("AZURE_STORAGE_ACCESS_KEY", "AZ_TENANT_ID", "AZ_CLIENT_ID", "AZ_CLIENT_SECRET"),
        "An account key, or a service principal. Tried against azurite with a key, not against"
        " Azure.",
    ),
    Scheme(
        "https://HOST/PATH",
        {},
        "over the ETag, else the date",
        (HTTPS_HOST, HTTPS_HEADERS),
        "A single file, by the URL's last part. The headers (a JSON object) go to the host that"
        " the Secret names and follow no redirect. A web page in place of the file is refused."
        " One whose size nobody says is taken if it comes in chunks and its entry has `maxSize`,"
        " whole or not at all. `fetchFrom` replaces scheme and host. Tried against a server of the"
        " tests' own.",
    ),
)


@dataclass(frozen=True, slots=True)
class Reach:
    """How a source is reached. `endpoint` is the catalog's, empty where a scheme has none.

    `fills` of the node share what it may ask; `xet` is there where the catalog turns it on.
    """

    endpoint: str
    secret: Secret
    clock: Clock
    web: Web
    fills: int = 1
    xet: Xet | None = None


def source_of(storage_uri: str, reach: Reach) -> Source:
    """The source that fetches a URI. Raises `PermanentError` if this agent has none."""
    match scheme_of(storage_uri):
        case "hf":
            token = reach.secret.line(HF_TOKEN)
            hub = HubSource(reach.endpoint, token, reach.clock, reach.web, reach.fills)
            return XetSource(hub, reach.xet) if reach.xet else hub
        case "https" if is_tree(storage_uri):
            parts = urlsplit(normalise(storage_uri))
            container, _, prefix = parts.path.removeprefix("/").partition("/")
            account = (parts.hostname or "").partition(".")[0]
            place = reach.endpoint.rstrip("/") or f"https://{parts.netloc}"
            azure = AzureAccess(account, reach.secret, reach.clock, reach.web)
            store = AzureStore(f"{place}/{container}", prefix.strip("/"), azure, reach.web)
            return ObjectSource(store)
        case "https":
            return HttpsSource(reach.endpoint, reach.secret, reach.clock, reach.web)
        case "s3":
            web = reach.web
            web.network = replace(web.network, verifies=verifies_tls(reach.secret))
            bucket, _, prefix = normalise(storage_uri).removeprefix("s3://").partition("/")
            identity = reach.secret.identity
            lent = aws_keys(identity, web, reach.clock) if identity is not None else None
            bucket_access = s3_access(bucket, reach.endpoint, reach.secret, lent)
            return ObjectSource(S3Store(bucket_access, prefix, reach.clock, web))
        case "gs":
            bucket, _, prefix = normalise(storage_uri).removeprefix("gs://").partition("/")
            url = f"{reach.endpoint.rstrip('/')}/storage/v1/b/{bucket}"
            access = GcsAccess(reach.secret, reach.clock, reach.web)
            return ObjectSource(GcsStore(url, prefix, access, reach.web))
        case scheme:
            raise PermanentError(
                FillFailure.SOURCE_UNAVAILABLE, f"this agent has no source for {scheme}://"
            )
