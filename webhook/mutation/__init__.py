"""Decide what becomes of a pod, and write the patch: `decide(request, view)`.

Pure: a pod and what the webhook knows go in, a `Decision` comes out, and no pod makes it raise.

    raw.py           JSON and its typed accessors
    pod.py           a pod read once
    source.py        what the pod's initializer says about where models come from
    eligibility.py   a chain of named checks, each a reason to leave a pod alone
    model_volume.py  what about a pod's volumes and mounts forbids a rewrite
    slot_volume.py   which volume shows a slot in a namespace: hostPath, claim or none
    rewrite.py       placement Prefer: each concern as JSON Patch operations
    require.py       placement Require, in the same manner
    affinity.py      where a pod should run
    restricted.py    what a restricted namespace asks of the initializer
    patch.py         those operations, and applying them
    soundness.py     what an API server would refuse, looked for before it does
    decision.py      puts them in order
"""

from webhook.mutation.decision import decide
from webhook.mutation.patch import Operation, PatchError, apply_patch
from webhook.mutation.raw import Json
from webhook.mutation.values import AdmissionRequest, Decision, UriOutcome, View, VolumeMode

__all__ = [
    "AdmissionRequest",
    "Decision",
    "Json",
    "Operation",
    "PatchError",
    "UriOutcome",
    "View",
    "VolumeMode",
    "apply_patch",
    "decide",
]
