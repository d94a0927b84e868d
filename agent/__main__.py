"""`larder-agent`: wires the agent by hand and runs it until SIGTERM, or once."""

import gc
import sys
import threading

from prometheus_client import start_http_server

from agent.execute import Executor, Tools
from agent.fill.runner import Fills
from agent.metrics import AgentMetrics
from agent.observe import Observer, Surroundings
from agent.planning.values import Failure
from agent.reconciler import Parts, Reconciler
from agent.report import Reporter, Statuses
from agent.settings import AgentSettings
from agent.store.inventory import scan
from agent.store.root import CacheRoot
from agent.store.store import Store
from agent.world import World, standalone
from initializer.program import program
from larder.errors import CacheRootError
from larder.layout import Key
from runtime.clock import SystemClock
from runtime.logs import configure_logs, get_logger
from runtime.settings import read_settings, refuse
from runtime.stop import stop_on_signals

_PROGRAM = "larder-agent"
_MIB = 1024 * 1024
_log = get_logger()


def main() -> None:
    """Run the agent. Status 1: `--once` and not every model is Ready; 2: wrong use."""
    settings = read_settings(AgentSettings, _PROGRAM, sys.argv[1:])
    configure_logs("agent", level=settings.log_level)
    stop, wake = threading.Event(), threading.Event()

    stop_on_signals(stop, wake)
    world = _world(settings, stop, wake)
    try:
        root = CacheRoot.open(
            settings.cache_root,
            allow_any_disk=settings.allow_any_disk,
            clock=SystemClock(),
            stop=stop,
        )
    except CacheRootError as error:
        refuse(_PROGRAM, str(error))
    with root:
        sys.exit(_run(settings, world, root, stop, wake))


def _serve_metrics(settings: AgentSettings, metrics: AgentMetrics) -> None:
    host, port = settings.metrics_host, settings.metrics_port
    try:
        start_http_server(port, host, metrics.registry)
    except OSError as error:
        refuse(
            _PROGRAM, f"/metrics cannot be served on {host} port {port}: {error.strerror or error}"
        )


def _world(settings: AgentSettings, stop: threading.Event, wake: threading.Event) -> World:
    if settings.catalog is not None:
        return standalone(settings, settings.catalog)
    from agent.cluster.world import ClusterError, in_cluster  # noqa: PLC0415 - costs 40 MB

    try:
        return in_cluster(settings, stop, wake)
    except ClusterError as error:
        refuse(_PROGRAM, f"{error}; name a file with --catalog to run without a cluster")


def _run(
    settings: AgentSettings,
    world: World,
    root: CacheRoot,
    stop: threading.Event,
    wake: threading.Event,
) -> int:
    clock, metrics, store = SystemClock(), AgentMetrics(), Store(root)
    for finding in store.recover():
        _log.warning("found on disk", path=finding.path, finding=finding.sentence)
    statuses = Statuses(store, program())
    statuses.adopt(scan(root.fd))
    failures: dict[Key, Failure] = {}
    fills = Fills(
        clock=clock,
        wake=wake.set,
        stall_seconds=settings.stall_seconds,
        memory_limit_bytes=settings.fill_memory * _MIB,
    )
    around = Surroundings(
        root=root,
        catalog=world.catalog,
        fills=fills,
        pods=world.pods,
        node=world.node,
        clock=clock,
    )
    tools = Tools(store, fills, world.pods, statuses, metrics, world.secrets, clock)
    parts = Parts(
        observer=Observer(around, failures, statuses.on_disk),
        executor=Executor(str(root.path), tools, failures),
        reporter=Reporter(statuses, metrics, settings.node_name, world.tell),
        statuses=statuses,
        fills=fills,
        store=store,
        clock=clock,
    )
    reconciler = Reconciler(parts, failures, wake, stop)
    if settings.metrics_port:
        _serve_metrics(settings, metrics)
    _log.info("agent started", node=settings.node_name, cache_root=str(root.path))
    gc.collect()
    gc.freeze()
    with world.living:
        if settings.once:
            return 0 if reconciler.run_once() else 1
        reconciler.run()
    _log.info("agent stopped")
    return 1 if world.has_failed() else 0


if __name__ == "__main__":
    main()
