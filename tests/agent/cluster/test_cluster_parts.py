"""The agent's parts of a cluster, against an API server of our own that misbehaves when told to."""

import base64
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration
from structlog.testing import capture_logs

from agent.cluster.node import ClusterNode
from agent.cluster.pods import ClusterPods
from agent.cluster.reporting import MAX_WAITING_EVENTS, ClusterReporting
from agent.cluster.secrets import ClusterSecrets
from agent.planning.node_events import ModelNews
from agent.sources.secret import HF_TOKEN, NO_SECRET
from larder.catalog import Credentials, ModelEntry
from larder.contract import EventReason, FillFailure
from larder.errors import AccessDeniedError, SourceUnavailableError, TransientError
from larder.layout import Key
from larder.node_report import DATA_KEY, ModelReport, NodeReport
from larder.status import ModelState
from runtime.clock import ManualClock
from runtime.kube.backoff import Backoff
from runtime.kube.client import KubeClient
from runtime.kube.mirror import Mirror
from runtime.kube.paths import collection_path
from tests.runtime.kube.api_server import ApiServer, refusing

NODE = "gpu-7"
KEY = Key("a" * 16)
NAME = f"model.larder.dev/{KEY}"
ROOT = PurePosixPath("/var/lib/larder")
SLOT = {"name": "m", "hostPath": {"path": f"{ROOT}/slots/{KEY}"}}
REPORT = NodeReport(NODE, 10, 5, 20, 15, (), (ModelReport(KEY, "a", ModelState.READY),))


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.stop()


@pytest.fixture
def client(server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient(Configuration(host=server.host), program="larder-test")
    yield client
    client.close()


class Reported:
    """A report on its way: the node's mirror is filled by hand, as a watch would."""

    def __init__(self, server: ApiServer, client: KubeClient) -> None:
        self.server, self.clock = server, ManualClock()
        nodes = collection_path("v1", "nodes")
        client.create(nodes, {"metadata": {"name": NODE, "labels": {"gpu": "h100"}}})
        self.client, self.mirror = client, Mirror()
        node = ClusterNode(self.mirror, NODE, None)
        backoff = Backoff(lambda: 1.0)
        self.reporting = ClusterReporting(client, node, NODE, self.clock, backoff)

    def see_node(self) -> None:
        self.mirror.fill(self.client.list(collection_path("v1", "nodes")).items)

    def labels(self) -> dict[str, str]:
        return dict(self.server.world.objects["nodes", "", NODE]["metadata"]["labels"])

    def config_map(self) -> dict[str, Any] | None:
        found = self.server.world.objects.get(
            ("configmaps", "larder-system", f"larder-node-{NODE}")
        )
        return None if found is None else dict(found)

    def events(self) -> list[dict[str, Any]]:
        return [c for (plural, _, _), c in self.server.world.objects.items() if plural == "events"]

    def writes(self) -> int:
        return len([seen for seen in self.server.seen if seen.method == "PATCH"])


@pytest.fixture
def reported(server: ApiServer, client: KubeClient) -> Reported:
    return Reported(server, client)


def test_a_report_waits_for_the_node_and_is_written_once(reported: Reported) -> None:
    reported.reporting.submit(REPORT)
    assert reported.reporting.write() == 0
    assert reported.writes() == 0  # nobody could own the report yet
    reported.see_node()
    assert reported.reporting.write() == 0
    assert reported.labels() == {"gpu": "h100", NAME: "ready"}
    config_map = reported.config_map()
    assert config_map is not None
    assert config_map["data"] == {DATA_KEY: REPORT.text()}
    writes = reported.writes()
    reported.see_node()
    for _ in range(3):
        reported.reporting.submit(REPORT)
        assert reported.reporting.write() == 0
    assert reported.writes() == writes


def test_a_label_of_a_model_that_is_gone_goes(reported: Reported) -> None:
    reported.see_node()
    reported.reporting.submit(REPORT)
    reported.reporting.write()
    reported.see_node()
    reported.reporting.submit(NodeReport(NODE))
    reported.reporting.write()
    assert reported.labels() == {"gpu": "h100"}


def test_an_api_server_that_is_away_is_tried_less_and_less_and_then_told_the_newest(
    reported: Reported,
) -> None:
    reported.see_node()
    reported.reporting.submit(REPORT)
    reported.server.stop()
    assert [reported.reporting.write() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    reported.reporting.submit(NodeReport(NODE, 10, 5, 20, 15))
    reported.server.start()
    assert reported.reporting.write() == 0
    config_map = reported.config_map()
    assert config_map is not None
    assert '"models": []' in config_map["data"][DATA_KEY]


READY_NEWS = (ModelNews(EventReason.MODEL_READY, "Model is ready."),)


def test_events_follow_their_report_and_are_about_the_node(reported: Reported) -> None:
    reported.reporting.submit(REPORT, READY_NEWS)
    reported.reporting.write()
    assert reported.events() == []  # nobody knows the node's uid yet
    told_at = reported.clock.now()
    reported.clock.advance(60)
    reported.see_node()
    reported.reporting.write()
    (event,) = reported.events()
    uid = reported.server.world.objects["nodes", "", NODE]["metadata"]["uid"]
    about = {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": uid}
    assert (event["reason"], event["regarding"]) == ("ModelReady", about)
    assert event["metadata"]["namespace"] == "default"
    assert datetime.fromisoformat(event["eventTime"]).timestamp() == told_at
    assert [seen.method for seen in reported.server.seen][-3:] == ["PATCH", "PATCH", "POST"]
    reported.reporting.write()
    assert len(reported.events()) == 1


def test_events_wait_for_an_api_server_that_is_away_and_the_oldest_of_too_many_are_lost(
    reported: Reported,
) -> None:
    reported.see_node()
    reported.server.stop()
    for number in range(MAX_WAITING_EVENTS + 5):
        news = (ModelNews(EventReason.MODEL_READY, str(number)),)
        reported.reporting.submit(replace(REPORT, budget_bytes=number), news)
        reported.reporting.write()
    reported.server.start()
    reported.server.faults += [None, None, refusing(503)]  # labels, report, the first event
    assert reported.reporting.write() == 0
    assert reported.events() == []  # the others wait until there is something to write again
    assert reported.reporting.write() == 0
    assert [event["note"] for event in reported.events()][:2] == ["6", "7"]


def test_without_the_right_to_write_events_labels_and_report_are_written(
    reported: Reported,
) -> None:
    reported.see_node()
    reported.reporting.submit(REPORT, READY_NEWS)
    reported.server.faults += [None, None, refusing(403)]
    with capture_logs() as logs:
        assert reported.reporting.write() == 0
    assert reported.labels()[NAME] == "ready"
    assert reported.config_map() is not None
    assert [log["event"] for log in logs] == ["event lost"]


def test_a_writer_ends_when_it_is_told_to(reported: Reported) -> None:
    stop = threading.Event()
    writer = threading.Thread(target=reported.reporting.run, args=(stop,))
    writer.start()
    stop.set()
    reported.reporting.poke()
    writer.join(30)
    assert not writer.is_alive()


def pod(name: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "chat"},
        "spec": {"nodeName": NODE, "volumes": [SLOT]},
        **more,
    }


def test_pods_that_are_out_of_sight_are_unknown_and_not_none(client: KubeClient) -> None:
    mirror = Mirror()
    pods = ClusterPods(client, mirror, NODE, ROOT)
    assert pods.in_use() is None
    mirror.fill([pod("p", status={"phase": "Pending"})])
    assert pods.in_use() == pods.waiting() == {KEY}
    mirror.lost()
    assert pods.in_use() is None
    assert pods.waiting() == {KEY}


def test_a_list_decides_and_where_there_is_none_the_model_stays(
    server: ApiServer, client: KubeClient
) -> None:
    pods = ClusterPods(client, Mirror(), NODE, ROOT)
    assert not pods.uses(KEY)
    client.create(collection_path("v1", "pods", namespace="chat"), pod("p"))
    assert pods.uses(KEY)
    assert not pods.uses(Key("b" * 16))
    assert server.lists[-1].query["fieldSelector"] == f"spec.nodeName={NODE}"
    server.faults.append(refusing(503))
    assert pods.uses(Key("b" * 16))


def entry(secret: str | None) -> ModelEntry:
    credentials = Credentials(secret_name=secret) if secret else None
    return ModelEntry(
        name="a", storage_uri="hf://o/m", revision="v1", namespaces=["x"], credentials=credentials
    )


def add_secret(server: ApiServer, **data: str) -> None:
    metadata = {"name": "hf", "namespace": "larder-credentials"}
    with server.world.changed:
        server.world.put("secrets", {"metadata": metadata, "data": data}, "ADDED")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_token_is_read_from_its_secret(server: ApiServer, client: KubeClient) -> None:
    secrets = ClusterSecrets(client)
    assert secrets.secret_of(entry(None)) == NO_SECRET
    add_secret(server, HF_TOKEN=encoded("hf_abc\n"))
    assert secrets.secret_of(entry("hf")).line(HF_TOKEN) == "hf_abc"


def test_the_agents_own_identity_is_given_to_entries_that_ask_for_it_alone(
    server: ApiServer, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:x")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")
    bucket = entry(None).model_copy(update={"storage_uri": "s3://b/m"})
    secrets = ClusterSecrets(client)
    assert secrets.secret_of(bucket) == NO_SECRET
    asking = bucket.model_copy(update={"credentials": Credentials(workload_identity=True)})
    identity = secrets.secret_of(asking).identity or {}
    assert identity["AWS_WEB_IDENTITY_TOKEN_FILE"] == "/token"  # noqa: S105 - a file's name
    assert not server.seen


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(None, "is not there", id="a secret that is missing"),
        pytest.param({}, "has no HF_TOKEN", id="an empty one"),
        pytest.param({"token": encoded("x")}, "has no HF_TOKEN", id="one that lacks the key"),
        pytest.param({"HF_TOKEN": encoded(" \n")}, "has no HF_TOKEN", id="a blank one"),
        pytest.param({"HF_TOKEN": encoded("tökén")}, "has no HF_TOKEN", id="one of other letters"),
        pytest.param({"HF_TOKEN": "%%%"}, "has no HF_TOKEN", id="one that is not base64"),
        pytest.param({"HF_TOKEN": encoded("a\nb")}, "has no HF_TOKEN", id="two lines"),
    ],
)
def test_a_secret_without_a_token_is_said_to_have_none(
    server: ApiServer, client: KubeClient, data: dict[str, str] | None, sentence: str
) -> None:
    if data is not None:
        add_secret(server, **data)
    secrets = ClusterSecrets(client)
    with pytest.raises(TransientError, match=sentence) as caught:
        secrets.secret_of(entry("hf"))
    assert str(caught.value).startswith("model 'a': Secret larder-credentials/hf ")
    assert caught.value.reason is FillFailure.ACCESS_DENIED
    add_secret(server, HF_TOKEN=encoded("hf_mended"))
    assert secrets.secret_of(entry("hf")).line(HF_TOKEN) == "hf_mended"
    add_secret(server, HF_TOKEN=encoded("hf_rotated"))
    assert secrets.secret_of(entry("hf")).line(HF_TOKEN) == "hf_rotated"


def test_a_secret_that_may_not_be_read_is_refused_and_one_out_of_reach_is_tried_again(
    server: ApiServer, client: KubeClient
) -> None:
    add_secret(server, HF_TOKEN=encoded("hf_abc"))
    secrets = ClusterSecrets(client)
    server.faults.append(refusing(403))
    with pytest.raises(TransientError, match="may not be read"):
        secrets.secret_of(entry("hf"))
    server.faults.append(refusing(503))
    with pytest.raises(SourceUnavailableError, match="cannot be read now"):
        secrets.secret_of(entry("hf"))
    with pytest.raises(AccessDeniedError, match="has a name that no Secret can have"):
        secrets.secret_of(entry("../../kube-system/secrets/admin"))
