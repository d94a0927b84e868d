"""Every decision reason in words: what it says about a pod, and what cures it.

For people who may read the catalog (`larder explain`, documents): a tenant is never told
`NamespaceNotAllowed`.
"""

from dataclasses import dataclass

from larder.contract import CACHE_DISABLED, CACHE_OPT_OUT, MODE_LABEL, VOLUME_LABEL, DecisionReason

_R = DecisionReason


@dataclass(frozen=True, slots=True)
class Meaning:
    """One sentence each. `cure` is empty where there is nothing to cure."""

    sentence: str
    cure: str = ""


def meaning_of(reason: DecisionReason) -> Meaning:  # noqa: C901, PLR0912 - one case a reason
    """A reason in words."""
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
            )
        case _R.CUSTOM_STORAGE_CONTAINER:
            return Meaning(
                "The pod's initializer is not KServe's as it comes, or the pod brings something "
                "under a name of Larder's.",
                "Add an initializer that behaves like KServe's to defaults.storageInitializers.",
            )
        case _R.MULTI_MODEL_AGENT:
            return Meaning("KServe's agent loads models into the running pod; no download is seen.")
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
