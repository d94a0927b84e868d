"""Watches, turn by turn: time stands still and waits are recorded, so nothing here is slow."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client.configuration import Configuration

from runtime.clock import ManualClock
from runtime.kube.client import KubeClient
from runtime.kube.mirror import Snapshot
from runtime.kube.watch import STEADY_SECONDS, Surroundings, Watch
from runtime.kube.watch_protocol import Target
from tests.runtime.kube.api_server import (
    ApiServer,
    Handler,
    answering,
    dropping,
    hanging,
    line,
    refusing,
    status,
    streaming,
)

MAPS = "/api/v1/namespaces/models/configmaps"


class CountingClient(KubeClient):
    """Counts what a watch tries, whether or not anybody answers."""

    tries = 0

    def _open(self, call):
        self.tries += 1
        return super()._open(call)


@dataclass
class Stage:
    """A watch in this thread: it stops at the wait number `waits`, before it waits."""

    server: ApiServer
    client: CountingClient
    clock: ManualClock = field(default_factory=ManualClock)
    stop: threading.Event = field(default_factory=threading.Event)
    waited: list[float] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    at_wait: dict[int, Callable[[], object]] = field(default_factory=dict)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    waits: int = 1
    jitter: float = 1.0
    is_slow: bool = False  # time passes with every event

    def __post_init__(self) -> None:
        self.target = Target(MAPS)

    @property
    def around(self) -> Surroundings:
        return Surroundings(
            client=self.client,
            clock=self.clock,
            stop=self.stop,
            on_failure=lambda name, error: self.failures.append((name, error)),
            random=lambda: self.jitter,
            wait=self.wait,
        )

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.snapshots.append(self.watch.mirror.snapshot)
        if action := self.at_wait.get(len(self.waited)):
            action()
        if len(self.waited) >= self.waits:
            self.stop.set()

    def run(self, *, waits: int = 1, **options: float) -> Watch:
        self.waits = waits
        self.watch = Watch(self.target, self.around, self.on_change, **options)
        self.watch.run()
        return self.watch

    def on_change(self) -> None:
        if self.is_slow and self.watch.mirror.snapshot.version > 1:
            self.clock.advance(STEADY_SECONDS)

    @property
    def names(self) -> list[str]:
        return names(self.watch.mirror.snapshot)


def names(snapshot: Snapshot) -> list[str]:
    return sorted(name for _, name in snapshot.objects)


@pytest.fixture
def stage(server: ApiServer) -> Iterator[Stage]:
    client = CountingClient(Configuration(host=server.host), program="larder-test")
    yield Stage(server, client)
    client.close()


def content(name: str, version: int, **fields: object) -> dict:
    metadata = {"name": name, "namespace": "models", "resourceVersion": str(version), "uid": name}
    return {"kind": "ConfigMap", "metadata": metadata, **fields}


def added(name: str, version: int, **fields: object) -> bytes:
    return line("ADDED", content(name, version, **fields))


# --- coming back ---------------------------------------------------------------------------------


def test_a_server_that_is_away_is_tried_ever_more_rarely_from_the_first_failure_on(
    stage: Stage,
) -> None:
    stage.server.stop()
    stage.run(waits=8)
    assert stage.waited == [1, 2, 4, 8, 16, 30, 30, 30]
    assert stage.client.tries == 8, "one try a wait"
    stage.server.start()


def test_delays_are_jittered_down_to_nothing(stage: Stage) -> None:
    stage.jitter = 0.25
    stage.server.stop()
    stage.run(waits=4)
    assert stage.waited == [0.25, 0.5, 1, 2]
    stage.server.start()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(dropping, id="connections dropped"),
        pytest.param(refusing(500), id="a defect"),
        pytest.param(refusing(401), id="credentials refused"),
        pytest.param(refusing(403), id="no permission"),
        pytest.param(refusing(404), id="no such resource"),
        pytest.param(answering(b"<html>"), id="a portal's page"),
        pytest.param(refusing(410), id="lists that are always too old"),
    ],
)
def test_no_failure_of_a_list_makes_a_hot_loop(
    stage: Stage, fault: Callable[[Handler], None]
) -> None:
    stage.server.faults += [fault] * 20
    stage.run(waits=5)
    assert stage.waited == [1, 2, 4, 8, 16]
    assert stage.client.tries <= 6


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(streaming(), id="ends at once"),
        pytest.param(streaming(added("a", 101)), id="ends after an event"),
        pytest.param(streaming(broken=True), id="breaks at once"),
        pytest.param(streaming(b"garbage\n"), id="is garbage"),
        pytest.param(streaming(b"[]\n"), id="is no event"),
        pytest.param(streaming(line("ADDED", {"metadata": {}})), id="has no version"),
        pytest.param(streaming(line("ERROR", status(500, "InternalError"))), id="tells an error"),
        pytest.param(streaming(line("ERROR", {})), id="tells an error without a code"),
        pytest.param(refusing(500), id="is a defect"),
        pytest.param(answering({}), id="is an object"),
        pytest.param(answering(b""), id="is empty"),
    ],
)
def test_no_failure_of_a_stream_makes_a_hot_loop(
    stage: Stage, fault: Callable[[Handler], None]
) -> None:
    def fail_watches(handler: Handler) -> None:
        stage.server.faults.append(fail_watches)
        if handler.query.get("watch"):
            fault(handler)
        else:
            handler.answer(
                200,
                {
                    "kind": "ConfigMapList",
                    "apiVersion": "v1",
                    "metadata": {"resourceVersion": "100"},
                    "items": [],
                },
            )

    stage.server.faults.append(fail_watches)
    stage.run(waits=5)
    assert stage.waited == [1, 2, 4, 8, 16]
    assert len(stage.server.watches) == 5


def test_what_an_overloaded_server_asks_for_is_added_to_the_delay(stage: Stage) -> None:
    stage.server.faults += [
        refusing(429, Retry_After="7"),
        refusing(503, Retry_After="9999"),
        refusing(429),
    ]
    stage.run(waits=3)
    assert stage.waited == [7 + 1, 120 + 2, 4]


def test_a_stream_that_lasted_ends_earlier_failures(stage: Stage) -> None:
    stream = streaming(added("a", 101), broken=True)
    stage.is_slow = True
    stage.server.faults += [dropping, dropping, None, stream, dropping]
    stage.run(waits=4)
    assert stage.waited == [1, 2, 1, 2]


def test_a_stream_that_ends_in_good_order_goes_on_at_once_from_where_it_was(stage: Stage) -> None:
    stage.server.faults += [
        None,
        streaming(added("a", 117)),
        streaming(added("b", 118)),
        dropping,
    ]
    stage.is_slow = True
    stage.run()
    assert len(stage.server.lists) == 1
    assert [w.query["resourceVersion"] for w in stage.server.watches] == ["100", "117", "118"]


def test_a_broken_stream_goes_on_from_the_last_event_without_a_list(stage: Stage) -> None:
    bookmark = line("BOOKMARK", {"metadata": {"resourceVersion": "130"}})
    stage.server.faults += [
        None,
        streaming(added("a", 117), broken=True),
        streaming(bookmark, broken=True),
        dropping,
    ]
    stage.run(waits=3)
    assert [w.query["resourceVersion"] for w in stage.server.watches] == ["100", "117", "130"]
    assert len(stage.server.lists) == 1
    assert all(w.query["allowWatchBookmarks"] == "true" for w in stage.server.watches)
    assert stage.names == ["a"]


@pytest.mark.parametrize(
    "expired",
    [
        pytest.param(refusing(410, "Expired"), id="as a status"),
        pytest.param(streaming(line("ERROR", status(410, "Expired"))), id="as an event"),
    ],
)
def test_a_version_that_is_too_old_lists_again_at_once(
    stage: Stage, expired: Callable[[Handler], None]
) -> None:
    stage.server.add("a")
    stage.server.faults += [None, expired]
    stage.server.faults += [None, streaming(broken=True)]
    stage.run()
    assert len(stage.server.lists) == 2
    assert stage.waited == [1], "only the stream that broke, at the end, waits"


def test_a_version_that_is_too_old_again_and_again_waits(stage: Stage) -> None:
    stage.server.faults += [None, refusing(410)] * 6
    stage.run(waits=5)
    assert stage.waited == [1, 2, 4, 8, 16]
    assert len(stage.server.lists) == 6


def test_a_stream_that_lasted_makes_the_next_expiry_routine_again(stage: Stage) -> None:
    stream = streaming(added("a", 101))
    stage.is_slow = True
    stage.server.faults += [None, refusing(410), None, stream, refusing(410), None, dropping]
    stage.run()
    assert len(stage.server.lists) == 3
    assert stage.waited == [1]


def test_while_it_lists_again_the_mirror_is_out_of_touch(stage: Stage) -> None:
    synced: list[bool] = []

    def look(handler: Handler) -> None:
        synced.append(stage.watch.mirror.snapshot.is_synced)
        handler.refuse(500)

    stage.server.faults += [None, refusing(410), look]
    stage.run()
    assert synced == [False]


def test_a_restarted_server_is_routine(stage: Stage) -> None:
    """Away for a while, then without a memory of our version: one list, nothing lost."""
    server = stage.server
    server.add("stays")
    server.add("goes")
    stage.at_wait = {3: lambda: restart(server)}

    def stop_at_once(handler: Handler) -> None:
        handler.begin_stream()
        handler.close_connection = True
        threading.Thread(target=server.stop).start()

    server.faults += [None, stop_at_once]

    def restart(server: ApiServer) -> None:
        server.remove("goes")
        server.add("comes")
        server.restart()
        server.faults += [None, None, dropping]

    stage.run(waits=4)
    assert names(stage.snapshots[2]) == ["goes", "stays"], "kept while away"
    assert stage.names == ["comes", "stays"]
    assert stage.waited[:3] == [1, 2, 4]


def test_silence_is_a_dead_peer_and_the_list_tells_what_was_missed(stage: Stage) -> None:
    until = threading.Event()
    stage.server.faults += [None, hanging(until, is_open=True), None, dropping]
    stage.at_wait = {1: lambda: stage.server.add("missed")}
    stage.run(waits=2, silence_seconds=0.05)
    until.set()
    assert len(stage.server.lists) == 2
    assert stage.names == ["missed"]


# --- what it holds -------------------------------------------------------------------------------


def test_several_events_in_a_chunk_are_one_change_and_half_lines_wait(stage: Stage) -> None:
    whole = added("a", 101) + added("b", 102)
    first, second = added("c", 103)[:20], added("c", 103)[20:]
    stage.server.faults += [None, streaming(whole, first, second + b"\n", broken=True)]
    seen: list[tuple[int, list[str]]] = []
    stage.waits = 1
    watch = stage.watch = Watch(
        stage.target,
        stage.around,
        lambda: seen.append((watch.mirror.snapshot.version, names(watch.mirror.snapshot))),
    )
    watch.run()
    assert seen == [(1, []), (2, ["a", "b"]), (3, ["a", "b", "c"])]


def test_half_a_line_at_the_end_is_told_again_by_the_next_stream(stage: Stage) -> None:
    stage.server.faults += [
        None,
        streaming(added("a", 101), added("b", 102)[:30], broken=True),
        streaming(added("b", 102), broken=True),
    ]
    stage.run(waits=2)
    assert stage.server.watches[1].query["resourceVersion"] == "101"
    assert stage.names == ["a", "b"]


def test_events_before_an_error_count(stage: Stage) -> None:
    chunk = added("a", 105) + line("ERROR", status(500, "InternalError"))
    stage.server.faults += [None, streaming(chunk), dropping]
    stage.run(waits=2)
    assert stage.names == ["a"]
    assert stage.server.watches[1].query["resourceVersion"] == "105"


def test_changes_and_deletions_are_followed(stage: Stage) -> None:
    chunk = (
        added("a", 101)
        + added("b", 102)
        + line("MODIFIED", content("a", 103, data={"x": "2"}))
        + line("DELETED", content("b", 104))
        + line("FUTURE", content("c", 105))
    )
    stage.server.faults += [None, streaming(chunk, broken=True)]
    stage.run()
    snapshot = stage.watch.mirror.snapshot
    assert stage.names == ["a"]
    assert snapshot.objects["models", "a"]["data"] == {"x": "2"}
    with pytest.raises(TypeError):
        snapshot.objects["models", "b"] = {}


def test_a_deletion_while_away_is_seen_by_the_next_list(stage: Stage) -> None:
    stage.server.add("a")
    stage.server.add("b")
    stage.server.faults += [None, dropping]
    stage.at_wait = {
        1: lambda: (
            stage.server.remove("a"),
            stage.server.faults.extend([refusing(410), None, dropping]),
        )
    }
    stage.run(waits=2)
    assert stage.names == ["b"]


def test_the_same_objects_listed_again_are_no_change(stage: Stage) -> None:
    stage.server.add("a")
    stage.server.faults += [None, refusing(410), None, dropping]
    stage.run()
    assert len(stage.server.lists) == 2
    assert stage.watch.mirror.snapshot.version == 1


def test_an_object_made_anew_under_the_same_name_is_a_change(stage: Stage) -> None:
    stage.server.add("a")
    stage.server.faults += [None, dropping]
    stage.at_wait = {
        1: lambda: (
            stage.server.remove("a"),
            stage.server.add("a", data={"new": "1"}),
            stage.server.faults.extend([refusing(410), None, dropping]),
        )
    }
    stage.run(waits=2)
    assert stage.watch.mirror.snapshot.version == 2
    assert stage.watch.mirror.snapshot.objects["models", "a"]["data"] == {"new": "1"}


def test_before_the_first_list_the_objects_are_unknown_which_is_not_none(stage: Stage) -> None:
    stage.server.faults += [dropping, None, dropping]
    stage.run(waits=2)
    unknown, empty = stage.snapshots
    assert not unknown.is_known
    assert empty.is_known
    assert not empty.objects


def test_the_mirror_says_when_it_is_out_of_touch_and_keeps_what_it_knows(stage: Stage) -> None:
    stage.server.add("a")
    synced: list[bool] = []
    stage.server.faults += [
        None,
        streaming(then=lambda: synced.append(stage.watch.mirror.snapshot.is_synced), broken=True),
        streaming(added("b", 120), broken=True),
    ]
    stage.run(waits=2)
    assert synced == [True]
    assert [s.is_synced for s in stage.snapshots] == [False, False]
    assert names(stage.snapshots[0]) == ["a"]
    assert names(stage.snapshots[1]) == ["a", "b"]


def test_managed_fields_are_left_out(stage: Stage) -> None:
    stage.server.add("a")
    event = content("b", 150)
    event["metadata"]["managedFields"] = [{}]
    stage.server.faults += [None, streaming(line("ADDED", event), broken=True)]
    stage.run()
    objects = stage.watch.mirror.snapshot.objects
    assert [("managedFields" in o["metadata"]) for o in objects.values()] == [False, False]


def test_a_selection_is_asked_for_in_list_and_stream(stage: Stage) -> None:
    stage.target = Target(
        "/api/v1/pods",
        field_selector="spec.nodeName=n1",
        label_selector="larder.dev/x",
        metadata_only=True,
    )
    stage.server.add("a", "pods", spec={"nodeName": "n1"})
    stage.server.faults += [None, dropping]
    stage.run()
    for seen in stage.server.seen:
        assert seen.query["fieldSelector"] == "spec.nodeName=n1"
        assert seen.query["labelSelector"] == "larder.dev/x"
    accepts = [seen.headers["accept"] for seen in stage.server.seen]
    assert accepts == [
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    ]
    assert stage.watch.name == (
        "watch of /api/v1/pods fieldSelector=spec.nodeName=n1 labelSelector=larder.dev/x"
    )


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abc")),
            st.tuples(st.just("remove"), st.sampled_from("abc")),
            st.just(("break", "")),
            st.just(("forget", "")),
        ),
        max_size=12,
    )
)
@settings(max_examples=60)
def test_whatever_happens_while_away_the_mirror_ends_like_the_server(
    steps: list[tuple[str, str]],
) -> None:
    server = ApiServer()
    server.is_brief = True
    client = CountingClient(Configuration(host=server.host), program="larder-test")
    stage = Stage(server, client)

    def happen(batch: list[tuple[str, str]]) -> None:
        for action, name in batch:
            is_there = ("configmaps", "models", name) in server.world.objects
            match action:
                case "add":
                    server.add(name)
                case "remove" if is_there:
                    server.remove(name)
                case "forget":
                    server.world.version += 1
                    server.world.oldest = server.world.version

    batches: list[list[tuple[str, str]]] = [[]]
    for step in steps:
        if step[0] == "break":
            batches.append([])
        batches[-1].append(step)
    try:
        for number, batch in enumerate(batches, start=1):
            stage.at_wait[number] = partial(happen, batch)
        stage.run(waits=len(batches) + 3)
        objects = {(ns, name): o for (_, ns, name), o in server.world.objects.items()}
        assert seen_versions(stage.watch.mirror.snapshot.objects) == seen_versions(objects)
    finally:
        client.close()
        server.stop()


def seen_versions(objects: Mapping) -> dict:
    return {name: o["metadata"]["resourceVersion"] for name, o in objects.items()}


# --- the thread ----------------------------------------------------------------------------------


def test_a_defect_is_told_to_the_program_and_the_mirror_is_out_of_touch(stage: Stage) -> None:
    def defect() -> None:
        raise RuntimeError("a defect")

    watch = Watch(stage.target, stage.around, defect)
    watch.start()
    watch._thread.join(10)
    assert [(name, str(error)) for name, error in stage.failures] == [(watch.name, "a defect")]
    assert watch.mirror.snapshot.is_known
    assert not watch.mirror.snapshot.is_synced


def test_closing_interrupts_a_silent_stream(stage: Stage) -> None:
    is_open = threading.Event()
    stage.server.faults += [None, None]
    watch = stage.watch = Watch(stage.target, stage.around)
    watch.mirror.heard = is_open.set  # the stream is open
    watch.start()
    assert is_open.wait(10)
    assert watch.close()
    assert stage.waited == []
    assert stage.failures == []


def test_closing_before_the_start_is_no_error(stage: Stage) -> None:
    assert Watch(stage.target, stage.around).close()


def test_a_stop_between_opening_and_reading_is_not_missed(stage: Stage) -> None:
    until = threading.Event()

    def hang_and_stop(handler: Handler) -> None:
        stage.stop.set()
        handler.begin_stream()
        until.wait(10)

    stage.server.faults += [None, hang_and_stop]
    stage.run()
    until.set()
    assert stage.waited == []


def test_an_outage_is_logged_once_and_its_end_too(stage: Stage) -> None:
    with structlog.testing.capture_logs() as logs:
        stage.server.faults += [refusing(500)] * 3 + [None, streaming(broken=True)]
        stage.run(waits=4)
    told = [(log["event"], log["log_level"]) for log in logs]
    assert told == [
        ("watch interrupted", "warning"),
        ("watch interrupted", "debug"),
        ("watch interrupted", "debug"),
        ("watch resumed", "info"),
        ("watch interrupted", "warning"),
    ]
    assert "secret-token" not in json.dumps(logs)
