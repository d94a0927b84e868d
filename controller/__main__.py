"""`larder-controller`: wires the controller by hand and runs it until SIGTERM.

Threads: the loop (this one), the Lease, a watch each, the probes. A part that ends by a defect ends
the program, so that it is started anew. The last thing a leader does is to give up its Lease.
"""

import gc
import sys
import threading
import uuid
from typing import Final

from controller.cluster import Cluster
from controller.execute import Executor, Tools
from controller.lease import Leadership
from controller.metrics import Metrics
from controller.observe import Observer, Settled
from controller.policies import Policies
from controller.probes import Probes
from controller.reconciler import RECHECK_SECONDS, Reconciler
from controller.report import Reporter
from controller.settings import PROGRAM, Settings
from runtime.clock import SystemClock
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeConfigError
from runtime.kube.watch import Surroundings
from runtime.logs import configure_logs, get_logger
from runtime.settings import read_settings, refuse
from runtime.stop import stop_on_signals

DEAD_SECONDS: Final = 10 * RECHECK_SECONDS  # without a turn: longer than the largest plan takes
_log = get_logger()


class _Failure:
    """Ends the program when a part of it ended by a defect."""

    def __init__(self, stop: threading.Event, wake: threading.Event) -> None:
        self._stop, self._wake = stop, wake
        self.has_come = False

    def __call__(self, part: str, error: Exception) -> None:
        _log.error("a part ended, and so does the controller", part=part, error=repr(error))
        self.has_come = True
        self._stop.set()
        self._wake.set()


def main() -> None:
    """The program."""
    settings = read_settings(Settings, PROGRAM, sys.argv[1:])
    configure_logs("controller", level=settings.log_level)
    stop, wake = threading.Event(), threading.Event()
    stop_on_signals(stop, wake)
    failure = _Failure(stop, wake)
    try:  # watches hold connections of their own
        watching, asking = _client(settings), _client(settings)
    except KubeConfigError as error:
        refuse(PROGRAM, str(error).rstrip("."))
    clock, metrics = SystemClock(), Metrics()
    cluster = Cluster(Surroundings(watching, clock, stop, failure), asking, wake.set)
    me = f"{settings.instance}-{uuid.uuid4().hex[:8]}"  # a restart is another one
    leadership = Leadership(asking, clock, me, wake.set)
    metrics.is_leader.set_function(leadership.is_leader)
    reconciler = _reconciler(settings, cluster, asking, leadership, metrics)
    probes = _probes(settings, cluster, reconciler, metrics)
    _log.info("controller started", instance=me, port=probes.port)
    cluster.start()
    lease = threading.Thread(
        target=_supervised, args=(leadership, stop, failure), name="lease", daemon=True
    )
    lease.start()
    gc.collect()
    gc.freeze()
    try:
        reconciler.run(stop, wake)
    except Exception as error:  # noqa: BLE001 - the end of the program, whatever it was
        failure("loop", error)
    finally:
        stop.set()
        lease.join()
        leadership.give_up()
        cluster.close()
        probes.close()
        for client in (watching, asking):
            client.close()
    _log.info("controller stopped")
    sys.exit(1 if failure.has_come else 0)


def _client(settings: Settings) -> KubeClient:
    if settings.kubeconfig:
        return KubeClient.from_kubeconfig(PROGRAM, settings.kubeconfig)
    return KubeClient.in_cluster(PROGRAM)


def _reconciler(
    settings: Settings,
    cluster: Cluster,
    client: KubeClient,
    leadership: Leadership,
    metrics: Metrics,
) -> Reconciler:
    clock = SystemClock()
    told = Settled(settings.cache_root, settings.retire_after)
    policies = Policies(client, clock, settings.cache_root)
    observer = Observer(cluster, client, policies, clock, told)
    reporter = Reporter(client, clock, settings.instance, metrics)
    tools = Tools(
        client=client,
        cache_root=settings.cache_root,
        writers=settings.writers,
        may_write=leadership.is_leader,
        versions=observer.versions,
        refusals=observer.refusals,
        expectations=observer.expectations,
        metrics=metrics,
        on_refusal=reporter.refused,
    )
    return Reconciler(observer, Executor(tools), reporter, clock, leadership.is_leader)


def _probes(
    settings: Settings, cluster: Cluster, reconciler: Reconciler, metrics: Metrics
) -> Probes:
    clock = SystemClock()

    def dead() -> str | None:
        is_late = clock.monotonic() > reconciler.last_turn_at + DEAD_SECONDS
        return "the loop does not turn" if is_late else None

    def unready() -> str | None:
        return None if cluster.is_known else "the cluster was not read yet"

    try:
        probes = Probes(settings.host, settings.port, metrics.registry, unready=unready, dead=dead)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        refuse(PROGRAM, f"probes cannot be served on {where}: {error.strerror or error}")
    probes.start()
    return probes


def _supervised(leadership: Leadership, stop: threading.Event, failure: _Failure) -> None:
    try:
        leadership.run(stop)
    except Exception as error:  # noqa: BLE001 - whatever it was, the program must know
        failure("lease", error)


if __name__ == "__main__":
    main()
