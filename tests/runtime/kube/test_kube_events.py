"""Events are told once, seldom enough, and never in anybody's way."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from larder.contract import EventReason
from runtime.clock import ManualClock
from runtime.kube.client import KubeClient
from runtime.kube.events import BURST, REFILL_SECONDS, Event, EventWriter, Reference
from tests.runtime.kube.api_server import ApiServer, refusing

NODE = Reference("Node", "gpu-7", "uid-7")
CATALOG = Reference("ConfigMap", "larder-catalog", "uid-1", "larder-system")


def event(number: int = 1, **fields: Any) -> Event:
    given = {"name": f"e{number}", "reason": EventReason.MODEL_READY, "regarding": NODE}
    return Event(**given | {"note": "Model is ready.", "at": 1_700_000_000.25} | fields)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def writer(client: KubeClient, clock: ManualClock) -> EventWriter:
    return EventWriter(client, clock, "larder.dev/agent", "gpu-7")


def written(server: ApiServer) -> dict[str, Any]:
    found = {name: c for (p, _, name), c in server.world.objects.items() if p == "events"}
    return dict(found)


def test_an_event_is_what_describe_looks_for(server: ApiServer, writer: EventWriter) -> None:
    assert writer.write(event())
    (request,) = server.seen
    assert request.path == "/apis/events.k8s.io/v1/namespaces/default/events"
    content = written(server)["e1"]
    del content["metadata"]
    assert content == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "eventTime": "2023-11-14T22:13:20.250000Z",
        "reportingController": "larder.dev/agent",
        "reportingInstance": "gpu-7",
        "action": "ModelReady",
        "reason": "ModelReady",
        "type": "Normal",
        "note": "Model is ready.",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": "gpu-7", "uid": "uid-7"},
    }


def test_an_event_about_what_is_in_a_namespace_is_there_too_and_a_fault_is_a_warning(
    server: ApiServer, writer: EventWriter
) -> None:
    writer.write(event(regarding=CATALOG, reason=EventReason.CATALOG_INVALID))
    content = written(server)["e1"]
    assert content["metadata"]["namespace"] == "larder-system"
    assert content["regarding"]["namespace"] == "larder-system"
    assert content["type"] == "Warning"


def test_what_the_api_would_refuse_for_its_length_is_cut(
    server: ApiServer, client: KubeClient, clock: ManualClock
) -> None:
    EventWriter(client, clock, "larder.dev/agent", "n" * 241).write(event(note="ä" * 1000))
    content = written(server)["e1"]
    assert content["note"] == "ä" * 512
    assert len(content["reportingInstance"]) == 128


def test_an_event_that_another_replica_wrote_is_written(
    server: ApiServer, writer: EventWriter
) -> None:
    with capture_logs() as logs:
        assert writer.write(event())
        assert writer.write(event())
    assert len(written(server)) == 1
    assert logs == []


def test_what_flaps_writes_no_storm(
    server: ApiServer, writer: EventWriter, clock: ManualClock
) -> None:
    for number in range(100):
        assert writer.write(event(number))
    assert len(server.seen) == BURST
    clock.advance(REFILL_SECONDS)
    for number in range(100, 110):
        writer.write(event(number))
    assert sorted(written(server))[:2] == ["e0", "e1"]
    assert len(server.seen) == BURST + 1
    clock.advance(1e9)
    for number in range(200, 300):
        writer.write(event(number))
    assert len(server.seen) == 2 * BURST + 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_a_refused_event_is_lost_and_the_refusal_said_once(
    server: ApiServer, writer: EventWriter, code: int
) -> None:
    server.faults += [refusing(code)] * 3
    with capture_logs() as logs:
        assert all(writer.write(event(number)) for number in range(3))
    assert [log["log_level"] for log in logs] == ["warning", "debug", "debug"]
    assert len(server.seen) == 3  # none was tried again
    assert "secret" not in str(logs)


def test_a_server_that_is_away_is_told_of_and_the_next_fault_is_news_again(
    server: ApiServer, writer: EventWriter
) -> None:
    server.faults += [refusing(503), None, refusing(503)]
    with capture_logs() as logs:
        assert [writer.write(event(number)) for number in range(3)] == [False, True, False]
        server.stop()
        assert not writer.write(event(4))
        server.start()
    assert [log["log_level"] for log in logs] == ["warning"] * 3
