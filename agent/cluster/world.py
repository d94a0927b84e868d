"""The cluster as the loop's world: started with it, and its failure ends the agent."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final

from agent.cluster.wiring import Cluster
from agent.settings import AgentSettings
from agent.world import World
from larder.errors import LarderError
from larder.node_report import config_map_name
from runtime.clock import SystemClock
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeConfigError
from runtime.kube.watch import Surroundings
from runtime.logs import get_logger

_PROGRAM: Final = "larder-agent"
_log = get_logger()


class ClusterError(LarderError):
    """There is no cluster that this agent could be one of."""


def in_cluster(settings: AgentSettings, stop: threading.Event, wake: threading.Event) -> World:
    """The cluster that the pod's service account, or a kubeconfig, leads to.

    Raises `ClusterError`. A part that ends by a defect sets `stop`: the agent is started anew.
    """
    failed = threading.Event()

    def on_failure(part: str, error: Exception) -> None:
        _log.error("a part of the agent ended, and so does the agent", part=part, error=repr(error))
        failed.set()
        stop.set()
        wake.set()

    around = Surroundings(_client(settings), SystemClock(), stop, on_failure)
    cluster = Cluster(around, settings.node_name, settings.budget, wake.set)

    @contextmanager
    def living() -> Generator[None]:
        cluster.start()
        try:
            yield
        finally:
            cluster.close()

    return World(
        catalog=cluster.catalog,
        node=cluster.node.node,
        pods=cluster.pods(PurePosixPath(settings.cache_root)),
        secrets=cluster.secrets,
        tell=cluster.reporting.submit,
        living=living(),
        has_failed=failed.is_set,
    )


def _client(settings: AgentSettings) -> KubeClient:
    try:
        config_map_name(settings.node_name)
        if settings.kubeconfig:
            return KubeClient.from_kubeconfig(_PROGRAM, settings.kubeconfig)
        return KubeClient.in_cluster(_PROGRAM)
    except (KubeConfigError, ValueError) as error:
        raise ClusterError(str(error).rstrip(".")) from error
