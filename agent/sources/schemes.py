"""Which source fetches what: the one place that looks at a URI's scheme."""

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from agent.sources.azure import AzureStore
from agent.sources.azure_access import AzureAccess
from agent.sources.gs import GcsAccess, GcsStore
from agent.sources.hf import HubSource
from agent.sources.https import HttpsSource
from agent.sources.interface import Source
from agent.sources.objects import ObjectSource
from agent.sources.s3 import S3Store
from agent.sources.s3_access import s3_access, verifies_tls
from agent.sources.secret import HF_TOKEN, Secret
from agent.sources.web import Web
from larder.contract import FillFailure
from larder.errors import PermanentError
from larder.storage_uri import is_tree, normalise, scheme_of
from runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Reach:
    """How a source is reached. `endpoint` is the catalog's, empty where a scheme has none."""

    endpoint: str
    secret: Secret
    clock: Clock
    web: Web


def source_of(storage_uri: str, reach: Reach) -> Source:
    """The source that fetches a URI. Raises `PermanentError` if this agent has none."""
    match scheme_of(storage_uri):
        case "hf":
            token = reach.secret.line(HF_TOKEN)
            return HubSource(reach.endpoint, token, reach.clock, reach.web)
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
            bucket_access = s3_access(bucket, reach.endpoint, reach.secret)
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
