"""`decide`: a request and what is known in, a decision out.

Eligibility, matching, rewrite, then the last look: the patch is applied to a copy, the result must
be a pod that an API server accepts, and deciding about it again must change nothing. If not, that
is a fault of Larder's (`InternalError`) unless the pod had it already, and the pod stays as it is.
"""

from dataclasses import replace

from larder.contract import MODE_LABEL, DecisionReason
from larder.matching import CatalogIndex, Match, SourceView
from larder.storage_uri import scheme_of
from webhook.mutation.eligibility import (
    Case,
    Initializer,
    Refusal,
    Served,
    foreign_pod,
    known_initializer,
    node_cannot_mount,
)
from webhook.mutation.patch import PatchError, apply_patch
from webhook.mutation.pod import Pod, read_pod
from webhook.mutation.require import placed, placed_keys
from webhook.mutation.rewrite import rewritten
from webhook.mutation.slot_volume import no_volume, slot_volume
from webhook.mutation.soundness import soundness_fault
from webhook.mutation.source import source_view
from webhook.mutation.values import AdmissionRequest, Change, Decision, UriOutcome, View


def decide(request: AdmissionRequest, view: View) -> Decision:
    """What becomes of a pod. Raises for no pod; what cannot be patched soundly is left alone."""
    decision = _first_decision(request, view)
    if not decision.operations:
        return decision
    if fault := patch_fault(request, view, decision):
        own_fault = soundness_fault(request.pod)
        reason = DecisionReason.INVALID_POD if own_fault else DecisionReason.INTERNAL_ERROR
        return Decision(reason, own_fault or fault, decision.uris)
    if _is_observing(view):
        return replace(decision, reason=DecisionReason.OBSERVING, operations=())
    return decision


def _first_decision(request: AdmissionRequest, view: View) -> Decision:
    """The decision before the last look, and whatever the mode."""
    pod = read_pod(request.pod)
    if refusal := foreign_pod(Case(request, pod, view.namespace_labels or {})):
        keys = placed_keys(pod)
        if refusal.reason is DecisionReason.NO_STORAGE_INITIALIZER and keys:
            detail = "its model was placed already"
            return Decision(DecisionReason.ALREADY_REWRITTEN, detail, keys=keys)
        return Decision(refusal.reason, refusal.detail)
    if view.index is None:
        return Decision(DecisionReason.CATALOG_NOT_LOADED, "no good catalog was loaded yet")
    defaults = view.index.catalog.defaults
    initializer = known_initializer(pod, defaults)
    if isinstance(initializer, Refusal):
        return Decision(initializer.reason, initializer.detail)
    uris = _uri_outcomes(view.index, initializer, request.namespace)
    refusal = _unserved(uris) or node_cannot_mount(pod, defaults)
    if refusal:
        return Decision(refusal.reason, refusal.detail, uris)
    change = _change(pod, initializer, uris, view)
    if isinstance(change, Refusal):
        return Decision(change.reason, change.detail, uris)
    reason = DecisionReason.CACHED if change.operations else DecisionReason.ALREADY_REWRITTEN
    detail = f"{change.served} of its {len(uris)} URIs are served"
    return Decision(reason, detail, uris, change.keys, change.operations)


def _change(
    pod: Pod, initializer: Initializer, uris: tuple[UriOutcome, ...], view: View
) -> Change | Refusal:
    """What is done to a pod of which some URIs have an entry, or why nothing is."""
    matched = [
        Served(download, uri.outcome, slot_volume(uri.outcome.entry, view))
        for download, uri in zip(initializer.downloads, uris, strict=True)
        if isinstance(uri.outcome, Match)
    ]
    served = tuple([s for s in matched if s.volume])
    if not served:
        return no_volume(view)
    if any(s.match.entry.placement == "Require" for s in matched):
        return placed(pod, initializer, served, view)
    return rewritten(pod, initializer, served, view)


def _uri_outcomes(
    index: CatalogIndex, initializer: Initializer, namespace: str
) -> tuple[UriOutcome, ...]:
    sources: dict[str, SourceView] = {}
    outcomes = []
    for download in initializer.downloads:
        uri = download.uri.replace("$$", "$")  # as the kubelet will hand it over
        scheme = scheme_of(uri)
        if scheme not in sources:
            sources[scheme] = source_view(initializer.container, scheme)
        outcome = index.match(uri, namespace, sources[scheme])
        outcomes.append(UriOutcome(download.uri, outcome))
    return tuple(outcomes)


def _unserved(uris: tuple[UriOutcome, ...]) -> Refusal | None:
    """No URI is served: the pod's reason is the first that says more than "not in the catalog"."""
    reasons = [uri.outcome for uri in uris if isinstance(uri.outcome, DecisionReason)]
    if len(reasons) < len(uris):
        return None
    not_in_catalog = DecisionReason.MODEL_NOT_IN_CATALOG
    reason = next((r for r in reasons if r is not not_in_catalog), not_in_catalog)
    return Refusal(reason, f"none of its {len(uris)} URIs is served")


def patch_fault(request: AdmissionRequest, view: View, decision: Decision) -> str | None:
    """What is wrong with the pod that a patch makes, or None."""
    try:
        patched = apply_patch(request.pod, decision.operations)
    except PatchError as error:
        return f"the patch does not apply: {error}"
    if fault := soundness_fault(patched):
        return f"the patched pod would be refused: {fault}"
    asked_again = AdmissionRequest(patched, request.namespace, request.is_pod_creation)
    again = _first_decision(asked_again, view)
    if again.reason is not DecisionReason.ALREADY_REWRITTEN:
        return f"a second application is not the same as one: {again.reason}"
    return None


def _is_observing(view: View) -> bool:
    """Whether decisions are only counted; the namespace's label overrides the catalog."""
    default = view.index.catalog.defaults.mode if view.index else None
    return (view.namespace_labels or {}).get(MODE_LABEL, default) == "Observe"
