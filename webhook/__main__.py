"""`larder-webhook`: builds everything by hand, serves until asked to stop.

The tasks: the server; what keeps state and certificate in step with the world (files, or a
cluster); and the one that stops them. A task that ends before it was asked to is an error that ends
the process, so that it is started anew.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import uvloop

from certs.serving import ServingCertificate
from runtime.catalog_file import CatalogFile
from runtime.clock import SystemClock
from runtime.logs import configure_logs, get_logger
from runtime.settings import read_settings, refuse
from webhook.app import Explain, create_app
from webhook.catalog_watch import CatalogWatch
from webhook.certificate_files import CertificateFiles
from webhook.metrics import Metrics
from webhook.serving import Server, ServingError, open_listener, server_config
from webhook.settings import PROGRAM, Settings
from webhook.state import State

if TYPE_CHECKING:  # it costs 20 MB, and is not for one machine
    from runtime.kube.client import KubeClient

_log = get_logger()


class Follower(Protocol):
    """Keeps something in step with the world."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until asked to stop."""


class TaskEndedError(RuntimeError):
    """A task of the program ended although nobody asked it to."""


def main() -> None:
    """The program."""
    settings = read_settings(Settings, PROGRAM, sys.argv[1:])
    configure_logs("webhook", level=settings.log_level)
    state = State(settings.cache_root, settings.volume_mode)
    metrics = Metrics()
    certificate = ServingCertificate()
    source = CatalogFile(settings.catalog) if settings.catalog else _client(settings.kubeconfig)
    app = create_app(state, metrics, SystemClock(), _explain(source, state))
    try:
        followers = _followers(settings, source, certificate, state, metrics)
        listener = open_listener(settings.host, settings.port)
    except ServingError as error:
        refuse(PROGRAM, str(error))
    port = listener.getsockname()[1]
    config = server_config(app, certificate.context)
    server = Server(config, lambda: _log.info("ready to serve", host=settings.host, port=port))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(settings, listener, server, followers, state))
        except Exception:  # noqa: BLE001 - the end of the program, whatever it was
            _log.exception("stopped by a failure")
            raise SystemExit(1) from None


def _client(kubeconfig: Path | None) -> "KubeClient":
    from webhook.cluster import ClusterError, cluster_client  # noqa: PLC0415 - costs 20 MB

    try:
        return cluster_client(kubeconfig)
    except ClusterError as error:
        refuse(PROGRAM, f"{error}; name a file with --catalog to run without a cluster")


def _explain(source: "CatalogFile | KubeClient", state: State) -> Explain | None:
    """What answers `/explain`: in a cluster alone, which says who asks."""
    if isinstance(source, CatalogFile):
        return None
    from webhook.explaining.explainer import Explainer  # noqa: PLC0415 - see above

    return Explainer(source, state, SystemClock()).answer


def _followers(
    settings: Settings,
    source: "CatalogFile | KubeClient",
    certificate: ServingCertificate,
    state: State,
    metrics: Metrics,
) -> dict[str, Follower]:
    """What follows the world, by name. Raises `ServingError` for an unfit certificate."""
    followers: dict[str, Follower] = {}
    if settings.tls_cert and settings.tls_key:
        files = CertificateFiles(certificate, settings.tls_cert, settings.tls_key)
        files.load()
        followers["certificate files"] = files
    if isinstance(source, CatalogFile):
        watch = CatalogWatch(source, state, metrics)
        watch.look()  # ready from the first request, if the catalog is good
        return followers | {"catalog": watch}
    from webhook.certificates import OwnCertificates, rotation_of  # noqa: PLC0415 - see above
    from webhook.cluster import Cluster  # noqa: PLC0415

    own = None if followers else certificate
    cluster, rotation = Cluster(source, state, metrics), rotation_of(source, SystemClock())
    told = cluster.events.clock_behind
    return followers | {
        "cluster": cluster,
        "certificates": OwnCertificates(rotation, own, state, metrics, told),
    }


async def _serve(
    settings: Settings,
    listener: socket.socket,
    server: Server,
    followers: Mapping[str, Follower],
    state: State,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = {
        **{name: follower.run(stop) for name, follower in followers.items()},
        "server": server.serve(sockets=[listener]),
        "stop": _stop_when_asked(stop, settings.stop_delay, server, state),
    }
    await supervise([asyncio.create_task(w, name=name) for name, w in work.items()], stop)


async def supervise(tasks: Sequence[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Wait for all tasks; when one ends, the others are asked to, so that all is closed in order.

    Raises what a task raised, or `TaskEndedError` for one that ended without being asked to.
    """
    ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    was_asked = stop.is_set()
    stop.set()
    await asyncio.wait(tasks)
    for task in tasks:
        task.result()
    if not was_asked:
        names = ", ".join(sorted(task.get_name() for task in ended))
        raise TaskEndedError(f"ended without being asked to: {names}")


async def _stop_when_asked(
    stop: asyncio.Event, delay_seconds: float, server: Server, state: State
) -> None:
    await stop.wait()
    state.is_stopping = True
    _log.info("stopping", delay_seconds=delay_seconds)
    await asyncio.sleep(delay_seconds)
    server.should_exit = True


if __name__ == "__main__":
    main()
