"""What crosses from one program to another: names, reason codes, `LARDER_SLOTS`, the pod's command.

Webhook, agent, initializer, command line and tests meet here and nowhere else. Everything in this
module is a promise to the *other* version of Larder: names are never reused with another meaning,
old versions of `LARDER_SLOTS` are read for ever, unknown ones mean "fall back".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CONTRACT_VERSION: Final = "1"

# --- names in Kubernetes ------------------------------------------------------------------------

SYSTEM_NAMESPACE: Final = "larder-system"  # Larder's programs, the catalog, the nodes' reports
CREDENTIALS_NAMESPACE: Final = "larder-credentials"  # the Secrets of entries, and nothing else
CATALOG_CONFIG_MAP: Final = "larder-catalog"
CATALOG_DATA_KEY: Final = "catalog.yaml"

STORAGE_INITIALIZER: Final = "storage-initializer"  # the container KServe adds (fact T4)
CACHE_OPT_OUT: Final = "larder.dev/cache"  # label or annotation; the value below opts out
CACHE_DISABLED: Final = "disabled"
DECISION_ANNOTATION: Final = "larder.dev/decision"
KEYS_ANNOTATION: Final = "larder.dev/keys"
MODE_LABEL: Final = "larder.dev/mode"
VOLUME_LABEL: Final = "larder.dev/volume"
MODEL_LABEL_PREFIX: Final = "model.larder.dev/"
SOURCE_URI_ANNOTATION: Final = "larder.dev/storage-initializer-sourceuri"  # KServe's, kept aside
AGENT_NODE_LABEL: Final = ("kserve/localmodel", "worker")  # of the nodes that agents run on

# --- names in the pod ---------------------------------------------------------------------------

SLOTS_MOUNT_ROOT: Final = "/larder"  # not below /mnt (fact T15)
SLOTS_VARIABLE: Final = "LARDER_SLOTS"
FALLBACK_VARIABLE: Final = "LARDER_FALLBACK"
TERMINATION_LOG_VARIABLE: Final = "LARDER_TERMINATION_LOG"
KSERVE_ENTRYPOINT: Final = "/storage-initializer/scripts/initializer-entrypoint"  # since v0.11

INITIALIZER_END: Final = "# end of the initializer"  # its last line

# One line of POSIX shell. The first initializer that can be read to its last line runs: a failing
# disk, or a file that lost its end, must not stop a pod (Python runs an empty file and is content).
# Without one, or without python3, KServe's own entrypoint runs with the same arguments. None of
# `$(` and `$$` may occur: the kubelet would expand them.
INITIALIZER_SCRIPT: Final = (
    f"for i in {SLOTS_MOUNT_ROOT}/*/initializer; do "
    f'if grep -qx "{INITIALIZER_END}" "$i" 2>/dev/null && command -v python3 >/dev/null 2>&1; '
    'then exec python3 -I -S "$i" "$@"; fi; done; '
    f'exec "${{{FALLBACK_VARIABLE}:-{KSERVE_ENTRYPOINT}}}" "$@"'
)
INITIALIZER_COMMAND: Final[tuple[str, ...]] = (
    "/bin/sh",
    "-c",
    INITIALIZER_SCRIPT,
    STORAGE_INITIALIZER,  # $0; the container's args follow as "$@"
)


def slot_mount_path(key: str) -> str:
    """Where a slot appears in a container."""
    return f"{SLOTS_MOUNT_ROOT}/{key}"


# --- reasons ------------------------------------------------------------------------------------


class DecisionReason(StrEnum):
    """Every answer the webhook can give, one a pod. Closed: a label of metrics and logs."""

    CACHED = "Cached"
    ALREADY_REWRITTEN = "AlreadyRewritten"
    CATALOG_NOT_LOADED = "CatalogNotLoaded"
    NOT_A_PREDICTOR = "NotAPredictor"
    NO_STORAGE_INITIALIZER = "NoStorageInitializer"
    MODEL_NOT_IN_CATALOG = "ModelNotInCatalog"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    OPTED_OUT = "OptedOut"
    SCHEME_NOT_CACHEABLE = "SchemeNotCacheable"
    UNRESOLVED_URI = "UnresolvedUri"
    PATTERNS_DIFFER = "PatternsDiffer"
    ENDPOINT_DIFFERS = "EndpointDiffers"
    ENDPOINT_UNKNOWN = "EndpointUnknown"
    MANAGED_BY_KSERVE_LOCAL_MODEL = "ManagedByKServeLocalModel"
    CONFIDENTIAL_MODEL = "ConfidentialModel"
    CUSTOM_STORAGE_CONTAINER = "CustomStorageContainer"
    MULTI_MODEL_AGENT = "MultiModelAgent"
    WRITABLE_MOUNT_REQUESTED = "WritableMountRequested"
    MODEL_VOLUME_NOT_EMPTY_DIR = "ModelVolumeNotEmptyDir"
    HOST_PATH_FORBIDDEN = "HostPathForbidden"
    VOLUME_NOT_READY = "VolumeNotReady"
    NODE_CANNOT_MOUNT = "NodeCannotMount"
    PLACEMENT_UNSUPPORTED = "PlacementUnsupported"
    OBSERVING = "Observing"
    INVALID_POD = "InvalidPod"
    INTERNAL_ERROR = "InternalError"


class RunReason(StrEnum):
    """What the initializer did on the node: two successes, then why it fell back."""

    HIT = "Hit"
    JOINED = "Joined"
    NOT_CACHED = "NotCached"
    NO_SLOT = "NoSlot"
    NO_STATUS = "NoStatus"
    STALLED = "Stalled"
    ETA_TOO_LONG = "EtaTooLong"
    QUEUED = "Queued"
    AGENT_GONE = "AgentGone"
    FAILED = "Failed"
    QUARANTINED = "Quarantined"
    EVICTING = "Evicting"
    UNREADABLE = "Unreadable"
    CONTRACT_UNKNOWN = "ContractUnknown"


class FillFailure(StrEnum):
    """Why a fill ended without a model."""

    BUDGET_EXCEEDED = "BudgetExceeded"
    DISK_FULL = "DiskFull"
    ACCESS_DENIED = "AccessDenied"
    MODEL_NOT_FOUND = "ModelNotFound"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_DRIFTED = "SourceDrifted"
    INTEGRITY_MISMATCH = "IntegrityMismatch"
    STALLED = "Stalled"
    SIZE_UNKNOWN = "SizeUnknown"


class EventReason(StrEnum):
    """What Kubernetes' Events tell: of a node's models, the catalog, a replica's clock, claims."""

    MODEL_READY = "ModelReady"
    FILL_FAILED = "FillFailed"
    VERIFICATION_FAILED = "VerificationFailed"
    BUDGET_EXCEEDED = "BudgetExceeded"
    SOURCE_DRIFTED = "SourceDrifted"
    MODEL_EVICTED = "ModelEvicted"
    CATALOG_INVALID = "CatalogInvalid"
    CLOCK_BEHIND = "ClockBehind"
    CLAIM_REFUSED = "ClaimRefused"
    POLICIES_NOT_IN_FORCE = "PoliciesNotInForce"


# --- the waiting table: how long an initializer waits for an agent, in seconds --------------------

STATUS_APPEARS_SECONDS: Final = 3.0  # a slot without any status after that: NoStatus
QUEUED_WITHOUT_ETA_SECONDS: Final = 5.0  # Queued and nobody can say for how long
STALLED_SECONDS: Final = 60.0  # the status' sequence did not move: Stalled
RESTARTING_SECONDS: Final = 120.0  # an agent that said it would come back did not: AgentGone
DEFAULT_JOIN_TIMEOUT_SECONDS: Final = 1800.0  # a status that does not say

# --- LARDER_SLOTS -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlotMount:
    """One row of `LARDER_SLOTS`: which mounted slot answers for a URI of the pod's arguments.

    `uri` stands exactly as in the container's args. `subpath` is relative to the slot's `content`
    and may be empty. `fallback_uri` is what KServe's entrypoint is given instead of `uri`.
    """

    uri: str
    mount_path: str
    subpath: str
    fallback_uri: str


def format_slots(mounts: Sequence[SlotMount]) -> str:
    """The value of `LARDER_SLOTS`: the version, then a line a URI, fields separated by tabs.

    No field may hold a tab or newline (such URIs are `UnresolvedUri` long before). Rows are written
    as given: the caller has written `$$` for a `$` of its own, since the kubelet unescapes it.
    """
    lines = [CONTRACT_VERSION]
    for m in mounts:
        fields = (m.uri, m.mount_path, m.subpath, m.fallback_uri)
        if any(c in field for field in fields for c in "\t\n\r"):
            raise ValueError(f"a field of LARDER_SLOTS holds a tab or newline: {fields!r}")
        lines.append("\t".join(fields))
    return "\n".join(lines) + "\n"


def parse_slots(text: str) -> tuple[SlotMount, ...] | None:
    """Read `LARDER_SLOTS`; None if its version is unknown or a row is malformed (fall back)."""
    version, *rows = text.removesuffix("\n").split("\n")
    if version != CONTRACT_VERSION:
        return None
    mounts = []
    for row in rows:
        fields = row.split("\t")
        if len(fields) != len(SlotMount.__slots__):
            return None
        mounts.append(SlotMount(*fields))
    return tuple(mounts)
