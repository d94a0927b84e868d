"""Whether an API server is new enough for the admission policies that narrow what Larder may write.

ValidatingAdmissionPolicies of version v1, and bound tokens that say their node, came with 1.30.
"""

import re
from typing import Final

from larder.errors import LarderError
from runtime.kube.client import KubeClient
from runtime.kube.errors import ForbiddenError, NotFoundError

OLDEST: Final = (1, 30)
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)")


class OldClusterError(LarderError):
    """Nothing would narrow what this program's token may write."""


def is_too_old(git_version: str) -> bool:
    """Whether a version like `v1.29.4-eks-1` is too old; one that cannot be read is not."""
    found = _VERSION.match(git_version)
    return bool(found and (int(found[1]), int(found[2])) < OLDEST)


def refuse_old_cluster(client: KubeClient) -> None:
    """Raise `OldClusterError` where the API server is too old, as far as it says.

    A `KubeError` it raises says that nobody knows yet.
    """
    try:
        version = str(client.get("/version").get("gitVersion", ""))
    except (ForbiddenError, NotFoundError):
        return
    if is_too_old(version):
        raise OldClusterError(
            f"Kubernetes {version} is older than 1.30: no policy would narrow what is written"
        )
