"""Answers `/explain`: who asks, what they may see, and the text of `larder explain` as far as that.

    token ─▶ TokenReview ─▶ SubjectAccessReviews: this pod, or pods of this namespace; the catalog
    pod   ◀── read with the token of who asks, so that the webhook needs no right to pods
    nodes ◀── likewise; their reports with the webhook's own right, which it has anyway

Who may read the catalog sees everything. Everybody else is answered as if the catalog had only the
entries that name the pod's namespace, and nothing is said of nodes: what others cache does not
show. Admissions never wait for this: it runs in a thread, a few at once and within a time, and
reads of the state only what they read.
"""

import asyncio
import io
from dataclasses import dataclass, field, replace
from typing import Final

from larder.layout import Key
from larder.matching import CatalogIndex
from larder.node_facts import NodeFacts
from larder.node_report import NodeReport, config_map_name, report_in
from runtime.clock import Clock
from runtime.kube.client import KubeClient, Timeout
from runtime.kube.errors import (
    ForbiddenError,
    KubeError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from runtime.kube.objects import KubeObject
from runtime.kube.paths import object_path
from runtime.printing import console_on
from webhook.explaining.access import READ_CATALOG, Right, caller_of, may
from webhook.explaining.answer import Answer, ExplainError, Outcome
from webhook.explaining.explanation import difference, explain_pod
from webhook.explaining.live_explanation import (
    LiveExplanation,
    LivePod,
    Surroundings,
    explain_live,
)
from webhook.explaining.question import Question, check_uris, question_in
from webhook.explaining.text import MAX_NODES, show_difference, show_explanation, show_live
from webhook.mutation import AdmissionRequest, View
from webhook.node_reports import NODE_REPORTS
from webhook.state import State

MAX_AT_ONCE: Final = 2
WITHIN_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 3.0
_TOO_SLOW: Final = "it takes too long: try again"
_HIDDEN: Final = (
    "entries for other namespaces, and nodes: told to who may read ConfigMap larder-catalog in"
    " larder-system"
)


class Explainer:
    """Answers requests with the webhook's own account and what `state` knows."""

    def __init__(
        self,
        client: KubeClient,
        state: State,
        clock: Clock,
        within_seconds: float = WITHIN_SECONDS,
    ) -> None:
        self._client = client
        self._state = state
        self._clock = clock
        self._within_seconds = within_seconds
        self._at_work: set[asyncio.Future[Answer]] = set()

    async def answer(self, token: str, body: bytes) -> Answer:
        """Answer one request. Never raises; `token` has no space and no character but ASCII's."""
        if len(self._at_work) >= MAX_AT_ONCE:
            return Answer(Outcome.BUSY, "others are asking: try again in a second")
        work = asyncio.ensure_future(asyncio.to_thread(self._answer, token, body))
        self._at_work.add(work)  # until its thread ends, even if nobody waits for it any more
        work.add_done_callback(self._at_work.discard)
        try:
            return await asyncio.wait_for(asyncio.shield(work), self._within_seconds)
        except TimeoutError:
            return Answer(Outcome.UNAVAILABLE, _TOO_SLOW)

    def _answer(self, token: str, body: bytes) -> Answer:
        namespace = ""
        try:
            question = question_in(body)
            namespace = question.namespace
            return Answer(Outcome.EXPLAINED, self._explained(token, question), namespace)
        except ExplainError as error:
            return Answer(error.outcome, str(error), namespace)
        except KubeError as error:
            return Answer(Outcome.UNAVAILABLE, str(error), namespace)
        except Exception as error:  # noqa: BLE001 - told to who asked, and logged
            said = "the explanation ended by a defect of Larder's; the webhook's log has it"
            return Answer(Outcome.FAILED, said, namespace, error)

    def _explained(self, token: str, question: Question) -> str:
        patience = _Patience(self._clock, self._clock.monotonic() + self._within_seconds)
        caller = caller_of(self._client, token, patience.left)
        if caller is None:
            raise ExplainError(Outcome.UNAUTHENTICATED, "the API server does not accept the token")
        right = _right_to(question)
        if not may(self._client, caller, right, patience.left):
            what = f"{right.verb} {right.plural}" + (f" {right.name}" if right.name else "")
            sentence = f"not allowed: it takes the right to {what} in namespace {right.namespace}"
            raise ExplainError(Outcome.FORBIDDEN, sentence)
        sees_all = may(self._client, caller, READ_CATALOG, patience.left)
        view = self._state.view_of(question.namespace)
        if not sees_all:
            view = replace(view, index=_index_of(view.index, question.namespace))
        if question.pod is not None:
            return _sent_text(question, view, sees_all=sees_all)
        theirs = self._client.as_bearer(token)
        try:
            reads = _Reads(self._client, theirs, patience)
            return self._live_text(question, view, reads, sees_all=sees_all)
        finally:
            theirs.close()

    def _live_text(self, question: Question, view: View, reads: "_Reads", *, sees_all: bool) -> str:
        pod = reads.pod(question)
        check_uris(pod)
        live = explain_live(pod, Surroundings(view, (), (), None))
        if sees_all:
            nodes = _nodes_of(live, self._state.nodes)
            around = reads.surroundings(view, nodes)
            live = explain_live(pod, around)
        else:
            live = replace(live, explanation=replace(live.explanation, detail=""), nodes=())
            reads.unknown.append(_HIDDEN)
        result = LiveExplanation(
            target=f"pod/{question.name}",
            namespace=question.namespace,
            is_served=live.is_served,
            pods=(live,),
            unknown=tuple(reads.unknown),
        )
        out = io.StringIO()
        show_live(console_on(out), result)
        return out.getvalue()


def _sent_text(question: Question, view: View, *, sees_all: bool) -> str:
    """The decision about a pod that was sent, as if it were made now."""
    request = AdmissionRequest(question.pod, question.namespace)
    explanation, decision = explain_pod(request, view, ())
    out = io.StringIO()
    console = console_on(out)
    show_explanation(console, explanation if sees_all else replace(explanation, detail=""))
    show_difference(console, difference(request.pod, decision))
    return out.getvalue()


def _right_to(question: Question) -> Right:
    """What it takes to ask: who may make a pod learns from it what is said of one."""
    if question.pod is None:
        return Right("get", "pods", question.namespace, question.name)
    return Right("create", "pods", question.namespace)


def _index_of(index: CatalogIndex | None, namespace: str) -> CatalogIndex | None:
    """The catalog as far as it names a namespace."""
    if index is None:
        return None
    entries = [entry for entry in index.catalog.models if entry.allows(namespace)]
    return CatalogIndex(index.catalog.model_copy(update={"models": entries}))


# --- the reads ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Patience:
    clock: Clock
    deadline: float

    def left(self) -> Timeout:
        """What a request may take. Raises `UnavailableError` when nothing is left."""
        seconds = self.deadline - self.clock.monotonic()
        if seconds <= 0:
            raise UnavailableError(_TOO_SLOW)
        return min(_CONNECT_SECONDS, seconds), seconds


@dataclass(slots=True)
class _Reads:
    """Reads with both accounts; `unknown` is what could not be read, a clause each."""

    ours: KubeClient
    theirs: KubeClient
    patience: _Patience
    unknown: list[str] = field(default_factory=list)

    def pod(self, question: Question) -> KubeObject:
        """The pod that is asked about. Raises `ExplainError`."""
        path = object_path("v1", "pods", question.name, namespace=question.namespace)
        try:
            return self.theirs.get(path, timeout=self.patience.left())
        except NotFoundError:
            sentence = f"pod/{question.name} is not there in namespace {question.namespace}"
            raise ExplainError(Outcome.NOT_FOUND, sentence) from None
        except UnauthorizedError:
            raise ExplainError(Outcome.UNAUTHENTICATED, "the token ended meanwhile") from None
        except ForbiddenError as error:
            raise ExplainError(Outcome.FORBIDDEN, str(error)) from None

    def surroundings(self, view: View, names: list[str]) -> Surroundings:
        """What a few nodes say, and what is known of them; what is too many is named as unknown."""
        shown, more = names[:MAX_NODES], len(names[MAX_NODES:])
        reports = tuple(r for name in shown if (r := self._report(name)))
        nodes = self._nodes(shown)
        if more:
            self.unknown.append(f"{more} more nodes that have or get the model (larder explain)")
        return Surroundings(view, (), reports, nodes)

    def _report(self, node: str) -> NodeReport | None:
        try:
            name = config_map_name(node)
        except ValueError:  # a pod names whatever it likes
            return None
        query = [*NODE_REPORTS.selectors, ("fieldSelector", f"metadata.name={name}")]
        timeout = self.patience.left()
        found = self.ours.list(NODE_REPORTS.path, query=query, timeout=timeout).items
        return next(filter(None, map(report_in, found)), None)

    def _nodes(self, names: list[str]) -> dict[str, KubeObject] | None:
        found = {}
        for name in names:
            try:
                path = object_path("v1", "nodes", name)
                found[name] = self.theirs.get(path, timeout=self.patience.left())
            except ForbiddenError:
                self.unknown.append("nodes: not allowed to read them")
                return None
            except (NotFoundError, ValueError):  # gone, or a name that somebody made up
                continue
        return found


def _nodes_of(live: LivePod, nodes: tuple[NodeFacts, ...]) -> list[str]:
    """The nodes to tell of: the pod's own, then those that have its models, then those that may."""
    keys = {*map(Key, live.explanation.keys), *(Key(u.key) for u in live.explanation.uris if u.key)}
    spoken = [node for node in nodes if keys & node.models.keys()]
    spoken.sort(key=lambda n: (not any(_has(n, key) for key in keys), n.node))
    own = [live.node] if live.node else []
    return list(dict.fromkeys([*own, *(node.node for node in spoken)]))


def _has(node: NodeFacts, key: Key) -> bool:
    return key in node.models and node.models[key].revision is not None
