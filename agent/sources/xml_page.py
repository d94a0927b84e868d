"""A page of an object store's listing: XML from outside, read without its dangers.

A document type could define entities that grow without end; object stores send none, so that a page
with one is refused before it is parsed.
"""

import xml.etree.ElementTree as ET
from typing import Final

from larder.errors import SourceUnavailableError

MAX_BYTES: Final = 6 * 1024 * 1024  # 1,000 objects; in memory, XML becomes 40 times as much


def read_page(text: str, host: str, tag: str) -> ET.Element:
    """The root of a page, which has to be that tag; tags without namespaces.

    Raises `SourceUnavailableError`.
    """
    if "<!" in text:
        raise SourceUnavailableError(f"{host} lists with a document type or comment; refused")
    try:
        root = ET.fromstring(text)  # noqa: S314 - as above
    except (ET.ParseError, ValueError) as error:
        raise SourceUnavailableError(f"{host} answers what is no listing") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root.tag != tag:
        raise SourceUnavailableError(f"{host} answers what is no listing")
    return root
