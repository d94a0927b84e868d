"""The ways to fetch a model that `bench.fill_race` compares: each run is a process of its own.

    python -m bench.fill_ways WAY URI FOLDER [--endpoint URL] [--streams N] [--files NAME …]

Its last line says what it cost: the processor's seconds, and the largest resident memory of any one
process. Larder verifies and syncs all of it; nobody else does either.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from agent.fill.job import DEFAULT_PACE, Job, Operation
from agent.fill.runner import FillResult, Fills
from agent.planning.streams import MOST_STREAMS
from agent.sources.secret import Secret
from larder.layout import Key
from runtime.clock import SystemClock
from runtime.logs import configure_logs

KEY = Key("0" * 16)
RANGE_BYTES = 16 * 1024 * 1024  # these two are the fastest that were found for obstore
RANGES_AT_ONCE = 4


def larder(asked: argparse.Namespace) -> None:
    """Resolve and fill, each in its child, up to the staging that only a rename separates."""
    configure_logs("bench", level="warning")
    folder = Path(asked.folder)
    folder.mkdir()
    pace = replace(DEFAULT_PACE, most_streams=asked.streams)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    secret = Secret({name: os.environ[name] for name in names if name in os.environ})
    ended = threading.Event()
    fills = Fills(clock=SystemClock(), wake=ended.set)
    revision = "main" if asked.uri.startswith("hf://") else ""
    for operation in Operation:
        job = Job(operation, str(folder), KEY, asked.uri, revision, asked.endpoint, secret)
        fills.start(replace(job, pace=pace), 0)
        results: tuple[FillResult, ...] = ()
        while not results:
            ended.wait(1.0)
            ended.clear()
            fills.watch()
            results = fills.take_finished()
        if results[0].error is not None:
            raise results[0].error


def kserve(asked: argparse.Namespace) -> None:
    """KServe's own download, as its storage initializer does it."""
    os.environ.update(
        HF_ENDPOINT=asked.endpoint,
        HF_HUB_DISABLE_XET="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HOME=f"{asked.folder}-home",
        AWS_ENDPOINT_URL=asked.endpoint,
    )
    from kserve_storage import Storage  # noqa: PLC0415 - reads the environment when it is imported

    Path(asked.folder).mkdir()
    Storage.download(asked.uri, asked.folder)


def snapshot(asked: argparse.Namespace) -> None:
    """The hub's own client, into a folder."""
    os.environ.update(
        HF_ENDPOINT=asked.endpoint,
        HF_HUB_DISABLE_XET="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HOME=f"{asked.folder}-home",
    )
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - as above

    snapshot_download(asked.uri.removeprefix("hf://"), local_dir=asked.folder)


def curl(asked: argparse.Namespace) -> None:
    """Up to four files at once, each by one connection."""
    Path(asked.folder).mkdir()
    command = ["curl", "--fail", "--silent", "--show-error", "--location", "--parallel"]
    command += ["--parallel-max", "4"]
    for name in asked.files:
        command += ["--output", str(Path(asked.folder, name)), _link(asked, name)]
    subprocess.run(command, check=True)  # noqa: S603 - our own


def obstore(asked: argparse.Namespace) -> None:
    """Ranges, as many as it likes at once, written to their place as they come."""
    from obstore import get_range, head  # noqa: PLC0415 - for this alone
    from obstore.store import HTTPStore, S3Store  # noqa: PLC0415 - as above

    scheme, _, rest = asked.uri.partition("://")
    options = {"allow_http": True}
    store: HTTPStore | S3Store
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        store = S3Store(bucket, prefix=prefix, endpoint=asked.endpoint, client_options=options)
    else:
        store = HTTPStore(f"{asked.endpoint}/{rest}/resolve/main", client_options=options)

    def take(name: str, fd: int, start: int, end: int) -> None:
        os.pwrite(fd, get_range(store, name, start=start, end=end), start)

    Path(asked.folder).mkdir()
    with ExitStack() as files, ThreadPoolExecutor(RANGES_AT_ONCE) as pool:
        taken = []
        for name in asked.files:
            file = files.enter_context(Path(asked.folder, name).open("wb"))
            size = head(store, name)["size"]
            for start in range(0, size, RANGE_BYTES):
                end = min(size, start + RANGE_BYTES)
                taken.append(pool.submit(take, name, file.fileno(), start, end))
        for part in taken:
            part.result()


def _link(asked: argparse.Namespace, name: str) -> str:
    """A file's own URL; of an S3 object a signed one."""
    scheme, _, rest = asked.uri.partition("://")
    if scheme != "s3":
        return f"{asked.endpoint}/{rest}/resolve/main/{name}"
    import boto3  # noqa: PLC0415 - for this alone

    bucket, _, prefix = rest.partition("/")
    client = boto3.client("s3", endpoint_url=asked.endpoint)
    place = {"Bucket": bucket, "Key": f"{prefix}/{name}"}
    link: str = client.generate_presigned_url("get_object", Params=place)
    return link


WAYS: dict[str, Callable[[argparse.Namespace], None]] = {
    "larder": larder,
    "kserve-storage": kserve,
    "snapshot_download": snapshot,
    "curl": curl,
    "obstore": obstore,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch, and say what it cost."""
    parser = argparse.ArgumentParser(prog="bench.fill_ways", description="One way to fetch.")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("uri")
    parser.add_argument("folder")
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--streams", type=int, default=MOST_STREAMS)
    parser.add_argument("--files", nargs="*", default=[])
    asked = parser.parse_args(arguments)
    WAYS[asked.way](asked)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # The process around Larder's children is not a fill's, and small: theirs is what is told.
    peaks = [s.ru_maxrss for s in (spent[1:] if asked.way == "larder" else spent)]
    cpu_seconds = sum(s.ru_utime + s.ru_stime for s in spent)
    sys.stdout.write(json.dumps({"cpu_seconds": cpu_seconds, "peak_kib": max(peaks)}) + "\n")


if __name__ == "__main__":
    main()
