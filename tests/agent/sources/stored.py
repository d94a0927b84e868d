"""What a source makes of a store of objects: its listing, and the bytes of all of it."""

from contextlib import closing

from agent.planning.values import Listing
from agent.sources.interface import SourceRequest
from agent.sources.objects import ObjectSource, Store


def listed(store: Store, **patterns: tuple[str, ...]) -> Listing:
    with closing(ObjectSource(store)) as source:
        return source.list(SourceRequest("s3://b/m", **patterns))  # type: ignore[arg-type]  # patterns


def fetched(store: Store, listing: Listing) -> dict[str, bytes]:
    contents, buffer = {}, memoryview(bytearray(1024))
    with closing(ObjectSource(store)) as source:
        for file in listing.files:
            with source.fetch(listing, file) as body:
                contents[file.path] = bytes(buffer[: body.readinto(buffer)])
    return contents
