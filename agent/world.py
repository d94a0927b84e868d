"""What stands around the agent's loop: files and flags here, a cluster in `agent.cluster`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from agent.credentials import LocalSecrets, Secrets
from agent.planning.wishes import Node
from agent.pods import NoPods, Pods
from agent.report import Tell
from agent.settings import AgentSettings
from runtime.catalog_file import CatalogFile
from runtime.catalog_source import CatalogSource


@dataclass(frozen=True, slots=True)
class World:
    """What the loop looks at and talks to. Entering `living` starts it, leaving it ends it.

    `node` is None while it is unknown; `has_failed` says, in the end, whether a part of it did.
    """

    catalog: CatalogSource
    node: Callable[[], Node | None]
    pods: Pods
    secrets: Secrets
    tell: Tell | None = None
    living: AbstractContextManager[object] = field(default_factory=nullcontext)
    has_failed: Callable[[], bool] = bool


def standalone(settings: AgentSettings, catalog: Path) -> World:
    """A machine by itself."""
    node = Node(settings.node_name, settings.labels, settings.budget)
    return World(CatalogFile(catalog), lambda: node, NoPods(), LocalSecrets())
