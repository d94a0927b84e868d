"""What the agent knows about the pods of its node. Standalone it knows them: there are none."""

from typing import Protocol

from larder.layout import Key


class Pods(Protocol):
    """The pods of this node, as a watch shows them and as a consistent list finds them."""

    def in_use(self) -> frozenset[Key] | None:
        """Keys whose slot some pod mounts; None while the pods are unknown."""

    def waiting(self) -> frozenset[Key]:
        """Keys that some pod waits for."""

    def uses(self, key: Key) -> bool:
        """Whether a consistent LIST shows a pod with this slot; True also when nobody can say."""


class NoPods:
    """A machine without a kubelet."""

    def in_use(self) -> frozenset[Key]:
        """None of the slots is mounted."""
        return frozenset()

    def waiting(self) -> frozenset[Key]:
        """Nobody waits."""
        return frozenset()

    def uses(self, key: Key) -> bool:  # noqa: ARG002 - the protocol's signature
        """No pod uses a slot."""
        return False
