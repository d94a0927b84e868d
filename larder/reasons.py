"""Every reason in words: what it says, and what cures it.

For people who may read the catalog (`larder explain`, documents): a tenant is never told
`NamespaceNotAllowed`. Codes of different lists are spelled alike (`Stalled`): a reason is looked up
by its type.
"""

from dataclasses import dataclass

from larder.contract import (
    CACHE_DISABLED,
    CACHE_OPT_OUT,
    CREDENTIALS_NAMESPACE,
    MODE_LABEL,
    VOLUME_LABEL,
    DecisionReason,
    EventReason,
    FillFailure,
    RunReason,
)

Reason = DecisionReason | RunReason | FillFailure | EventReason
_R = DecisionReason


@dataclass(frozen=True, slots=True)
class Meaning:
    """One sentence each. `cure` is empty where nothing is amiss."""

    sentence: str
    cure: str = ""


def meaning_of(reason: Reason) -> Meaning:
    """A reason in words."""
    match reason:
        case DecisionReason():
            return _of_decision(reason)
        case RunReason():
            return _of_run(reason)
        case FillFailure():
            return _of_failure(reason)
        case EventReason():
            return _of_event(reason)


def _of_decision(reason: DecisionReason) -> Meaning:  # noqa: C901, PLR0912 - one case a reason
    match reason:
        case _R.CACHED:
            return Meaning("The pod is pointed at its node's copy.")
        case _R.ALREADY_REWRITTEN:
            return Meaning("The pod is pointed at its node's copy already; nothing is left to do.")
        case _R.CATALOG_NOT_LOADED:
            return Meaning(
                "No good catalog was loaded, so that nobody knows which models are cached.",
                "Mend the catalog; larder catalog validate tells every mistake.",
            )
        case _R.NOT_A_PREDICTOR:
            return Meaning(
                "The pod belongs to no InferenceService or LLMInferenceService.",
                "Nothing, if it is no predictor of KServe's; else look why its labels are missing.",
            )
        case _R.NO_STORAGE_INITIALIZER:
            return Meaning(
                "The pod has no init container of KServe's that downloads a model.",
                "Give the InferenceService a storageUri that KServe downloads; "
                "KServe's webhook must run for the pod.",
            )
        case _R.MODEL_NOT_IN_CATALOG:
            return Meaning(
                "No entry of the catalog has the pod's URI.",
                "Add an entry with exactly the storageUri that the InferenceService says.",
            )
        case _R.NAMESPACE_NOT_ALLOWED:
            return Meaning(
                "The catalog has the model, but not for this namespace.",
                "Add the namespace to the entry's namespaces, if it may have the model.",
            )
        case _R.OPTED_OUT:
            return Meaning(
                "The pod or its namespace wants no cache.",
                f"Remove {CACHE_OPT_OUT}: {CACHE_DISABLED} where it is not meant.",
            )
        case _R.SCHEME_NOT_CACHEABLE:
            return Meaning(
                "The URI has a scheme that Larder does not cache.",
                "Keep the model where hf, s3, gs or https reaches it.",
            )
        case _R.UNRESOLVED_URI:
            return Meaning(
                "The download's arguments are no pairs of URI and path, or hold a variable or "
                "control character.",
                "Write the URI out in the InferenceService.",
            )
        case _R.PATTERNS_DIFFER:
            return Meaning(
                "The pod downloads other files of the model than the entry keeps.",
                "Make the entry's allowPatterns and ignorePatterns those of the pod, or remove "
                "STORAGE_ALLOW_PATTERNS and STORAGE_IGNORE_PATTERNS from the pod.",
            )
        case _R.ENDPOINT_DIFFERS:
            return Meaning(
                "The pod downloads from another endpoint than the entry is about.",
                "Set the entry's endpoint to the pod's, or to any if all of them serve the same.",
            )
        case _R.ENDPOINT_UNKNOWN:
            return Meaning(
                "Nobody can tell from the pod which endpoint it downloads from.",
                "Write the endpoint's full URL in the pod's variable, or set endpoint: any in the "
                "entry.",
            )
        case _R.MANAGED_BY_KSERVE_LOCAL_MODEL:
            return Meaning(
                "KServe's own local model cache serves this pod.",
                "Nothing, or remove the model from KServe's LocalModelCache.",
            )
        case _R.CONFIDENTIAL_MODEL:
            return Meaning(
                "The model is decrypted inside the pod, so that a node's copy is of no use.",
                "Nothing: such a pod starts as KServe makes it.",
            )
        case _R.CUSTOM_STORAGE_CONTAINER:
            return Meaning(
                "The pod's initializer is not KServe's as it comes, or the pod brings something "
                "under a name of Larder's.",
                "Add an initializer that behaves like KServe's to defaults.storageInitializers.",
            )
        case _R.MULTI_MODEL_AGENT:
            return Meaning(
                "KServe's agent loads models into the running pod; no download is seen.",
                "Nothing, or give the InferenceService one model of its own.",
            )
        case _R.WRITABLE_MOUNT_REQUESTED:
            return Meaning(
                "A container writes to the model's volume, or mounts a part of it.",
                "Mount the model read-only and whole; let the server write elsewhere.",
            )
        case _R.MODEL_VOLUME_NOT_EMPTY_DIR:
            return Meaning(
                "The model goes to a volume that is no emptyDir.",
                "Let KServe make the volume: name none kserve-provision-location yourself.",
            )
        case _R.HOST_PATH_FORBIDDEN:
            return Meaning(
                "The namespace does not allow hostPath volumes, or does not say so.",
                f"Label the namespace {VOLUME_LABEL}: hostPath, if its pods may have them.",
            )
        case _R.VOLUME_NOT_READY:
            return Meaning(
                "The claim through which the namespace gets the model is not bound.",
                "Wait for it, or look at the controller's log.",
            )
        case _R.NODE_CANNOT_MOUNT:
            return Meaning(
                "The pod asks for a node, or a way to run, that no model can be mounted into.",
                "Add its runtime class to defaults.runtimeClasses, if hostPath works with it.",
            )
        case _R.PLACEMENT_UNSUPPORTED:
            return Meaning(
                "An entry has placement Require, and the pod is not of the shape that it needs: "
                "one whole model, mounted by itself, on a node that nobody chose yet.",
                "Set placement: Prefer, or give the InferenceService this one model and no other.",
            )
        case _R.OBSERVING:
            return Meaning(
                "The pod would be pointed at its node's copy; decisions are only counted here.",
                f"Set defaults.mode: Enforce, or label the namespace {MODE_LABEL}: Enforce.",
            )
        case _R.INVALID_POD:
            return Meaning(
                "No API server takes the pod, whatever Larder does.",
                "Look at what the API server says about it.",
            )
        case _R.INTERNAL_ERROR:
            return Meaning(
                "Larder would have made a pod that no API server takes: a fault of Larder's.",
                "Report it with the pod.",
            )


def _of_run(reason: RunReason) -> Meaning:  # noqa: C901, PLR0912 - one case a reason
    match reason:
        case RunReason.HIT:
            return Meaning("The model was on the node, and the pod got links to it.")
        case RunReason.JOINED:
            return Meaning("The pod waited for the node's fill, then got links to the model.")
        case RunReason.NOT_CACHED:
            return Meaning(
                "The node does not keep the model, or nothing of it stands at the pod's path.",
                "Look whether the entry's nodeGroups choose this node, and whether the path below "
                "its URI exists.",
            )
        case RunReason.NO_SLOT:
            return Meaning(
                "No slot is mounted where the pod was told to look.",
                "Look whether something took the volume out of the pod after Larder.",
            )
        case RunReason.NO_STATUS:
            return Meaning(
                "The slot says nothing: no agent keeps models on this node, or not this one.",
                "Look whether a larder-agent runs on the node, and whether the entry's nodeGroups "
                "choose it.",
            )
        case RunReason.STALLED:
            return Meaning(
                "The fill made no progress for a minute.",
                "Look at the agent's log on the node: its source is slow, or the agent is gone.",
            )
        case RunReason.ETA_TOO_LONG:
            return Meaning(
                "The fill would take longer than the pod may wait.",
                "Raise defaults.joinTimeout, or fill the nodes before the pods come.",
            )
        case RunReason.QUEUED:
            return Meaning(
                "The model's fill waits for others, and nobody knows for how long.",
                "Raise the entry's priority, or look which fills are ahead of it on the node.",
            )
        case RunReason.AGENT_GONE:
            return Meaning(
                "The agent said that it would be back, and was not.",
                "Look at the larder-agent of the node and its log.",
            )
        case RunReason.FAILED:
            return Meaning(
                "The model could not be filled; the log gives the reason of the failure.",
                "See that reason among the failures of fills.",
            )
        case RunReason.QUARANTINED:
            return Meaning(
                "The node's copy is not as it was verified, and no pod may use it.",
                "Look at the node's disk and at larder verify on it.",
            )
        case RunReason.EVICTING:
            return Meaning(
                "The node was giving the model up as the pod came.",
                "Nothing, or set the entry's retention: Pinned, or a larger budget.",
            )
        case RunReason.UNREADABLE:
            return Meaning(
                "The files could not be read or linked, or are not those of the manifest.",
                "Look at the pod's log for the file; on SELinux, label the cache root "
                "container_file_t:s0.",
            )
        case RunReason.CONTRACT_UNKNOWN:
            return Meaning(
                "Pod and slot are of versions of Larder that do not know each other.",
                "Upgrade webhook and agents to versions next to each other.",
            )


def _of_failure(reason: FillFailure) -> Meaning:
    match reason:
        case FillFailure.BUDGET_EXCEEDED:
            return Meaning(
                "The model is larger than its maxSize, or than what is left of the node's budget.",
                "Raise maxSize or the node group's budget, or take entries off the node.",
            )
        case FillFailure.DISK_FULL:
            return Meaning(
                "The node's disk has no room: others write there, too.",
                "Free the disk, or lower the node group's budget to what is Larder's alone.",
            )
        case FillFailure.ACCESS_DENIED:
            return Meaning(
                "The source refuses the credentials, or wants some.",
                f"Name a Secret of {CREDENTIALS_NAMESPACE} in the entry's credentials, with a "
                "token that may read the model.",
            )
        case FillFailure.MODEL_NOT_FOUND:
            return Meaning(
                "The source knows no such model, revision or file.",
                "Mend the entry's storageUri, revision or patterns.",
            )
        case FillFailure.SOURCE_UNAVAILABLE:
            return Meaning(
                "The source did not answer, or this agent has none for the URI's scheme.",
                "Look whether the node reaches the source; it is tried again.",
            )
        case FillFailure.SOURCE_DRIFTED:
            return Meaning(
                "What the source serves is not what it listed, or cannot be kept safely.",
                "Name the revision that is meant, and look who changed the model.",
            )
        case FillFailure.INTEGRITY_MISMATCH:
            return Meaning(
                "Bytes that came differ from the digest or size that the source gave.",
                "It is tried again; if it stays, look at proxies and mirrors on the way.",
            )
        case FillFailure.STALLED:
            return Meaning(
                "No byte came for longer than a fill may be silent.",
                "It is tried again; if it stays, look at the way to the source.",
            )
        case FillFailure.SIZE_UNKNOWN:
            return Meaning(
                "Nobody says how much an archive or file holds, so that no room can be reserved.",
                "Give the entry maxSize, or serve the model from a place that gives sizes.",
            )


def _of_event(reason: EventReason) -> Meaning:  # noqa: C901 - one case a reason
    match reason:
        case EventReason.MODEL_READY:
            return Meaning("A model is on the node, verified, and pods may use it.")
        case EventReason.MODEL_EVICTED:
            return Meaning(
                "A node gave a model up; the note says why.",
                "Nothing, or set the entry's retention: Pinned, or a larger budget.",
            )
        case EventReason.FILL_FAILED:
            return Meaning(
                "A model could not be filled; the note has the reason.",
                "See that reason among the failures of fills; a source that is away is told of from"
                " the third time in a row on.",
            )
        case EventReason.VERIFICATION_FAILED:
            return Meaning(
                "Bytes that came are not what the source said, or a copy is not as it was.",
                "Look at the node's report and at its disk; no pod uses such bytes.",
            )
        case EventReason.BUDGET_EXCEEDED:
            return Meaning(
                "A model does not fit the node's budget or its own maxSize.",
                "Raise maxSize or the node group's budget, or take entries off the node.",
            )
        case EventReason.SOURCE_DRIFTED:
            return Meaning(
                "A source no longer serves what it listed.",
                "Name the revision that is meant, and look who changed the model.",
            )
        case EventReason.CATALOG_INVALID:
            return Meaning(
                "The catalog has mistakes or is gone; the last good one is in force.",
                "Mend the catalog; the note and larder catalog validate tell the mistakes.",
            )
        case EventReason.CLOCK_BEHIND:
            return Meaning(
                "A webhook's clock is behind its certificates, which it does not touch then.",
                "Set the clock of the node that this replica runs on.",
            )
        case EventReason.CLAIM_REFUSED:
            return Meaning(
                "A volume or claim for a namespace was refused by the API server.",
                "Look for a quota, limit range or object of that name; it is tried again.",
            )
        case EventReason.POLICIES_NOT_IN_FORCE:
            return Meaning(
                "Admission policies that claims rely on are missing or other than shipped.",
                "Apply the install again; no claim is made until they are in force.",
            )
