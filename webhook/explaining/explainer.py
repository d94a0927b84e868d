"""Answers `/explain`: who asks, what they may see, and the text of `larder explain` as far as that.

    token ─▶ TokenReview ─▶ SubjectAccessReviews: this pod, or pods of this namespace; the catalog
    pod   ◀── read with the token of who asks, so that the webhook needs no right to pods
    nodes ◀── likewise; their reports with the webhook's own right, which it has anyway

Who may read the catalog sees everything. Everybody else is answered as if the catalog had only the
entries that name the pod's namespace, and nothing is said of nodes: what others cache does not
show. Admissions never wait for this: it runs in a thread, one at once and within a time, and reads
of the state only what they read.
"""

import asyncio
import io
from dataclasses import replace
from typing import Final

from larder.layout import Key
from larder.matching import CatalogIndex
from larder.node_facts import NodeFacts
from runtime.clock import Clock
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError
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
from webhook.explaining.reads import TOO_SLOW, Deadline, Reads
from webhook.explaining.text import show_difference, show_explanation, show_live
from webhook.mutation import AdmissionRequest, View
from webhook.state import State

MAX_AT_ONCE: Final = 1  # two would take turns with each other before an admission has its own
WITHIN_SECONDS: Final = 10.0
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
            return Answer(Outcome.UNAVAILABLE, TOO_SLOW)

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
        deadline = Deadline(self._clock, self._clock.monotonic() + self._within_seconds)
        caller = caller_of(self._client, token, deadline.left)
        if caller is None:
            raise ExplainError(Outcome.UNAUTHENTICATED, "the API server does not accept the token")
        right = _right_to(question)
        if not may(self._client, caller, right, deadline.left):
            what = f"{right.verb} {right.plural}" + (f" {right.name}" if right.name else "")
            sentence = f"not allowed: it takes the right to {what} in namespace {right.namespace}"
            raise ExplainError(Outcome.FORBIDDEN, sentence)
        sees_all = may(self._client, caller, READ_CATALOG, deadline.left)
        view = self._state.view_of(question.namespace)
        if not sees_all:
            view = replace(view, index=_index_of(view.index, question.namespace))
        if question.pod is not None:
            return _sent_text(question, view, sees_all=sees_all)
        theirs = self._client.as_bearer(token)
        try:
            reads = Reads(self._client, theirs, deadline)
            return self._live_text(question, view, reads, sees_all=sees_all)
        finally:
            theirs.close()

    def _live_text(self, question: Question, view: View, reads: Reads, *, sees_all: bool) -> str:
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


def _nodes_of(live: LivePod, nodes: tuple[NodeFacts, ...]) -> list[str]:
    """The nodes to tell of: the pod's own, then those that have its models, then those that may."""
    keys = {*map(Key, live.explanation.keys), *(Key(u.key) for u in live.explanation.uris if u.key)}
    spoken = [node for node in nodes if keys & node.models.keys()]
    spoken.sort(key=lambda n: (not any(_has(n, key) for key in keys), n.node))
    own = [live.node] if live.node else []
    return list(dict.fromkeys([*own, *(node.node for node in spoken)]))


def _has(node: NodeFacts, key: Key) -> bool:
    return key in node.models and node.models[key].revision is not None
