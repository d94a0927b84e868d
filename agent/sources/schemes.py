"""Which source fetches what: the one place that looks at a URI's scheme."""

from dataclasses import dataclass

from agent.sources.hf import HubSource
from agent.sources.https import HttpsSource
from agent.sources.interface import Source
from agent.sources.secret import HF_TOKEN, Secret
from agent.sources.web import Web
from larder.contract import FillFailure
from larder.errors import PermanentError
from larder.storage_uri import scheme_of
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
        case "https":
            return HttpsSource(reach.endpoint, reach.secret, reach.clock, reach.web)
        case scheme:
            raise PermanentError(
                FillFailure.SOURCE_UNAVAILABLE, f"this agent has no source for {scheme}://"
            )
