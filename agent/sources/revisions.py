"""The immutable revision of what no commit names: a digest over the listing itself.

`sha256:` and the SHA-256 of a line a file, sorted by path: path, size, ETag and version as the
source gave them. So two nodes that listed the same bytes say the same, and whatever the source
changes gives another revision.
"""

import hashlib
import json
from collections.abc import Iterable

from agent.planning.values import RemoteFile


def listing_revision(files: Iterable[RemoteFile]) -> str:
    """The revision of these files."""
    lines = sorted(json.dumps([f.path, f.size_bytes, f.etag, f.version]) for f in files)
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()
