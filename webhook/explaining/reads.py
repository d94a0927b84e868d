"""What an explanation reads of a cluster: the pod and its nodes as who asks, reports as ourselves.

All of it within a time that the requests share, and of nodes no more than are shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from larder.node_report import NodeReport, config_map_name, report_in
from runtime.clock import Clock
from runtime.kube.client import KubeClient, Timeout
from runtime.kube.errors import (
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from runtime.kube.objects import KubeObject
from runtime.kube.paths import object_path
from webhook.explaining.answer import ExplainError, Outcome
from webhook.explaining.live_explanation import Surroundings
from webhook.explaining.question import Question
from webhook.explaining.text import MAX_NODES
from webhook.mutation import View
from webhook.node_reports import NODE_REPORTS

TOO_SLOW: Final = "it takes too long: try again"
_CONNECT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """When all requests of one answer have to be over, in the clock's monotonic seconds."""

    clock: Clock
    at: float

    def left(self) -> Timeout:
        """What a request may take. Raises `UnavailableError` when nothing is left."""
        seconds = self.at - self.clock.monotonic()
        if seconds <= 0:
            raise UnavailableError(TOO_SLOW)
        return min(_CONNECT_SECONDS, seconds), seconds


@dataclass(slots=True)
class Reads:
    """Reads with both accounts; `unknown` is what could not be read, a clause each."""

    ours: KubeClient
    theirs: KubeClient
    deadline: Deadline
    unknown: list[str] = field(default_factory=list)

    def pod(self, question: Question) -> KubeObject:
        """The pod that is asked about. Raises `ExplainError`."""
        path = object_path("v1", "pods", question.name, namespace=question.namespace)
        try:
            return self.theirs.get(path, timeout=self.deadline.left())
        except NotFoundError:
            sentence = f"pod/{question.name} is not there in namespace {question.namespace}"
            raise ExplainError(Outcome.NOT_FOUND, sentence) from None
        except UnauthorizedError:
            raise ExplainError(Outcome.UNAUTHENTICATED, "the token ended meanwhile") from None
        except ForbiddenError as error:
            raise ExplainError(Outcome.FORBIDDEN, str(error)) from None

    def surroundings(self, view: View, names: Sequence[str]) -> Surroundings:
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
        timeout = self.deadline.left()
        found = self.ours.list(NODE_REPORTS.path, query=query, timeout=timeout).items
        return next(filter(None, map(report_in, found)), None)

    def _nodes(self, names: Sequence[str]) -> dict[str, KubeObject] | None:
        found = {}
        for name in names:
            try:
                path = object_path("v1", "nodes", name)
                found[name] = self.theirs.get(path, timeout=self.deadline.left())
            except ForbiddenError:
                self.unknown.append("nodes: not allowed to read them")
                return None
            except (NotFoundError, ValueError):  # gone, or a name that somebody made up
                continue
        return found
