"""The agent's own Node: whose labels choose node groups, and who owns the report."""

from agent.planning.wishes import Node
from larder.quantities import Share
from runtime.kube.mirror import Mirror


class ClusterNode:
    """The Node as a watch shows it."""

    def __init__(self, mirror: Mirror, name: str, budget: Share | None) -> None:
        self._mirror = mirror
        self._name = name
        self._budget = budget

    def node(self) -> Node | None:
        """Name, labels and the budget given on the command line; None while it is unknown."""
        content = self._mirror.snapshot.objects.get(("", self._name))
        if content is None:
            return None
        return Node(self._name, content["metadata"].get("labels") or {}, self._budget)

    @property
    def version(self) -> int:
        """Grows with every change of the Node that was seen."""
        return self._mirror.snapshot.version

    def uid(self) -> str | None:
        """What an owner reference needs."""
        content = self._mirror.snapshot.objects.get(("", self._name))
        return None if content is None else str(content["metadata"]["uid"])
