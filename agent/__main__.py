"""`larder-agent`: wires the agent by hand and runs it until SIGTERM, or once."""

import gc
import signal
import sys
import threading
from types import FrameType

from prometheus_client import start_http_server

from agent.execute import Executor, Tools
from agent.fill.runner import Fills
from agent.metrics import AgentMetrics
from agent.observe import Observer, Surroundings
from agent.planning.values import Failure
from agent.planning.wishes import Node
from agent.pods import NoPods
from agent.reconciler import Parts, Reconciler
from agent.report import Reporter, Statuses
from agent.settings import AgentSettings
from agent.store.inventory import scan
from agent.store.root import CacheRoot
from agent.store.store import Store
from initializer.program import program
from larder.errors import CacheRootError
from larder.layout import Key
from runtime.catalog_file import CatalogFile
from runtime.clock import SystemClock
from runtime.logs import configure_logs, get_logger
from runtime.settings import read_settings, refuse

_PROGRAM = "larder-agent"
_MIB = 1024 * 1024
_log = get_logger()


def main() -> None:
    """Run the agent. Status 1: `--once` and not every model is Ready; 2: wrong use."""
    settings = read_settings(AgentSettings, _PROGRAM, sys.argv[1:])
    configure_logs("agent", level=settings.log_level)
    stop, wake = threading.Event(), threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        wake.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
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
        sys.exit(_run(settings, root, stop, wake))


def _run(
    settings: AgentSettings, root: CacheRoot, stop: threading.Event, wake: threading.Event
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
    pods = NoPods()
    around = Surroundings(
        root=root,
        catalog=CatalogFile(settings.catalog),
        fills=fills,
        pods=pods,
        node=Node(settings.node_name, settings.labels, settings.budget),
        clock=clock,
    )
    parts = Parts(
        observer=Observer(around, failures, statuses.on_disk),
        executor=Executor(
            str(root.path), Tools(store, fills, pods, statuses, metrics, clock), failures
        ),
        reporter=Reporter(statuses, metrics),
        statuses=statuses,
        fills=fills,
        store=store,
        clock=clock,
    )
    reconciler = Reconciler(parts, failures, wake, stop)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
    _log.info("agent started", node=settings.node_name, cache_root=str(root.path))
    gc.collect()
    gc.freeze()
    if settings.once:
        return 0 if reconciler.run_once() else 1
    reconciler.run()
    _log.info("agent stopped")
    return 0


if __name__ == "__main__":
    main()
