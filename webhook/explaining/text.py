"""What is told of pods, as lines and tables: the same at a terminal and from the webhook."""

from collections.abc import Iterable
from typing import Final

from rich.console import Console

from larder.contract import DECISION_ANNOTATION, KEYS_ANNOTATION, DecisionReason
from larder.status import ModelState
from runtime.printing import counted, in_bytes, say, show_table, styled
from webhook.explaining.explanation import Explanation, UriExplanation
from webhook.explaining.live_explanation import LiveExplanation, LivePod, NodeView, distinct

MAX_NODES: Final = 12  # rows of nodes that a table still has
_MAX_STRANGERS: Final = 10  # entries with other URIs that a table still names
_DIFF_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}
_STYLES: Final = {ModelState.READY: "green", ModelState.FAILED: "red"}


def show_explanation(out: Console, explanation: Explanation) -> None:
    """Print a decision: reason, cure, and each URI with the entries that were considered."""
    style = "bold green" if explanation.is_served else "bold yellow"
    say(out, styled(explanation.reason, style))
    say(out, explanation.sentence)
    if explanation.detail:
        say(out, f"detail: {explanation.detail}")
    if explanation.cure:
        say(out, f"cure: {explanation.cure}")
    for problem in explanation.catalog_problems:
        say(out, styled(f"catalog: {problem}", "red"))
    for uri in explanation.uris:
        _show_uri(out, uri)


def show_difference(out: Console, difference: Iterable[str]) -> None:
    """Print the lines of the difference that a decision makes."""
    lines = tuple(difference)
    if lines:
        say(out)
    for line in lines:
        say(out, styled(line, _DIFF_STYLES.get(line[:1], "")))


def _show_uri(out: Console, uri: UriExplanation) -> None:
    say(out)
    say(out, f"{uri.uri}: {uri.reason or 'Matched'}: {uri.sentence}")
    strangers = [c for c in uri.considered if c.because == "its URI is another"]
    hidden = set(map(id, strangers[_MAX_STRANGERS:]))
    rows = (
        ("  " + c.name, c.key, c.storage_uri, "yes" if c.is_chosen else "no", c.because)
        for c in uri.considered
        if id(c) not in hidden
    )
    show_table(out, ("  ENTRY", "KEY", "URI", "CHOSEN", "BECAUSE"), rows)
    if hidden:
        say(out, f"  and {len(hidden)} more entries with other URIs (--output json names them)")


# --- a pod of a cluster ---------------------------------------------------------------------------


def show_live(out: Console, result: LiveExplanation) -> None:
    """Print what became of pods, each decision once, and the nodes that have their models."""
    if not result.pods:
        say(out, styled(f"{result.target} has no pod in namespace {result.namespace}", "yellow"))
    for explanation in distinct(result.pods):
        show_explanation(out, explanation)
        if explanation.reason is DecisionReason.CACHED:
            keys = ",".join(explanation.keys)
            would = f"{DECISION_ANNOTATION}: {explanation.reason}, {KEYS_ANNOTATION}: {keys}"
            say(out, f"annotations that it would get: {would}")
        say(out)
    headers = ("POD", "NODE", "REASON", DECISION_ANNOTATION, KEYS_ANNOTATION, "INITIALIZER")
    show_table(out, headers, map(_pod_row, result.pods))
    _show_nodes(out, result.pods)
    for clause in result.unknown:
        say(out, styled(f"unknown: {clause}", "yellow"))


def _pod_row(pod: LivePod) -> tuple[str, ...]:
    said = (pod.annotations.get(name, "") for name in (DECISION_ANNOTATION, KEYS_ANNOTATION))
    reason: str = pod.explanation.reason
    if pod.explanation.reason is DecisionReason.CACHED:
        reason = f"{reason}, if made now"
    return (pod.name, pod.node or "", reason, *said, pod.initializer.sentence)


def _show_nodes(out: Console, pods: Iterable[LivePod]) -> None:
    views = tuple(dict.fromkeys(view for pod in pods for view in pod.nodes))
    if not views:
        return
    say(out)
    own = {pod.node for pod in pods}
    rows = (
        (
            view.node,
            view.key,
            styled(_state(view), _STYLES.get(view.state or ModelState.ABSENT, "")),
            "a pod is here" if view.node in own else _verdict(view),
        )
        for view in views[:MAX_NODES]
    )
    show_table(out, ("NODE", "KEY", "STATE", "COULD TAKE THE POD"), rows)
    if hidden := len(views[MAX_NODES:]):
        say(out, f"and {counted(hidden, 'more row')} (--output json has them)")


def _state(view: NodeView) -> str:
    match view.state:
        case None:
            return "nothing is reported of it"
        case ModelState.DOWNLOADING | ModelState.VERIFYING | ModelState.QUEUED:
            left = "" if view.eta_seconds is None else f", {view.eta_seconds} s left"
            total = f" of {in_bytes(view.bytes_total)}" if view.bytes_total else ""
            return f"{view.state} {in_bytes(view.bytes_done)}{total}{left}"
        case state:
            return ": ".join(filter(None, (state, view.reason, view.message)))


def _verdict(view: NodeView) -> str:
    match view.can_take_pod:
        case None:
            return f"unknown: {view.because}"
        case True:
            return "yes"
        case False:
            return f"no: {view.because}"
