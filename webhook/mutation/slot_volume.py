"""Which volume shows a slot in a pod's namespace: the host's path, or a claim, or none.

Only on positive evidence, since a pod that is refused is worse than one that downloads: a hostPath
where the namespace, or the install and not the namespace's profile against it, allows such; else
a claim that is known to be Bound and to stay. A slot's directory is made where it is missing, so
that pods on nodes without an agent fall back; of a model that is required, the files themselves
are mounted, and a pod waits until they are there.
"""

from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from larder.catalog import ModelEntry
from larder.claims import Claim
from larder.contract import VOLUME_LABEL, DecisionReason
from larder.layout import Key
from webhook.mutation.eligibility import Refusal
from webhook.mutation.raw import Json
from webhook.mutation.restricted import POD_SECURITY_LABEL
from webhook.mutation.values import View, VolumeMode

_HOST_PATH: Final = "hostPath"


def slot_volume_name(key: Key) -> str:
    """The name of a slot's volume in a pod."""
    return f"larder-{key}"


def slot_volume(entry: ModelEntry, view: View) -> Json | None:
    """The volume of an entry's slot, None where there can be none now."""
    name, is_content = slot_volume_name(entry.key), entry.placement == "Require"
    if _allows_host_path(view):
        kind = "Directory" if is_content else "DirectoryOrCreate"
        path = _host_path(view.cache_root, entry.key, is_content)
        return {"name": name, _HOST_PATH: {"path": path, "type": kind}}
    claim = Claim("any", entry.key, is_content).name  # the same in all namespaces
    if claim in (view.claims or ()):
        source: Json = {"claimName": claim, "readOnly": True}
        return {"name": name, "persistentVolumeClaim": source}
    return None


def no_volume(view: View) -> Refusal:
    """Why no slot of a pod has a volume."""
    if view.claims is None:
        detail = "the namespace's labels do not allow hostPath volumes, or are not known"
        return Refusal(DecisionReason.HOST_PATH_FORBIDDEN, detail)
    detail = "no claim of the pod's models is known to be bound and to stay in its namespace"
    return Refusal(DecisionReason.VOLUME_NOT_READY, detail)


@lru_cache(maxsize=4096)  # joining paths was a seventh of a decision
def _host_path(cache_root: PurePosixPath, key: Key, is_content: bool) -> str:  # noqa: FBT001 - as the claim has it
    return str(Claim("any", key, is_content).path(cache_root))


def _allows_host_path(view: View) -> bool:
    labels = view.namespace_labels or {}
    profile = labels.get(POD_SECURITY_LABEL)
    is_allowed = profile is None and view.volumes is VolumeMode.HOST_PATH
    return is_allowed or profile == "privileged" or labels.get(VOLUME_LABEL) == _HOST_PATH
