"""What replicas see alike they tell once."""

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from runtime.clock import ManualClock
from runtime.kube.client import KubeClient
from tests.runtime.kube.api_server import ApiServer
from webhook.events import WebhookEvents

CATALOG = {"metadata": {"name": "larder-catalog", "uid": "u-1", "resourceVersion": "17"}}
PROBLEMS = ("line 3: models[0].fill is not accepted", "line 4: models[0].name is not a name")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.stop()


@pytest.fixture
def replicas(server: ApiServer) -> Iterator[list[WebhookEvents]]:
    client = KubeClient(Configuration(host=server.host), program="larder-test")
    yield [WebhookEvents(client, ManualClock(), name) for name in ("Webhook-a", "webhook-b")]
    client.close()


def events(server: ApiServer) -> dict[str, Any]:
    found = server.world.objects.items()
    return {name: c for (plural, space, name), c in found if (plural, space) == EVENTS}


EVENTS = ("events", "larder-system")


def test_a_bad_version_of_the_catalog_is_one_event_whatever_the_number_of_replicas(
    server: ApiServer, replicas: list[WebhookEvents]
) -> None:
    for replica in replicas:
        replica.catalog_invalid(CATALOG, PROBLEMS)
    (event,) = events(server).values()
    assert (event["type"], event["reason"]) == ("Warning", "CatalogInvalid")
    assert event["regarding"] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "larder-catalog",
        "namespace": "larder-system",
        "uid": "u-1",
    }
    assert event["note"].splitlines() == ["the catalog cannot be used: 2 problems", *PROBLEMS]
    replicas[0].catalog_invalid({"metadata": {"resourceVersion": "18"}}, PROBLEMS)
    assert len(events(server)) == 2


def test_a_catalog_that_is_gone_is_one_event(
    server: ApiServer, replicas: list[WebhookEvents]
) -> None:
    for replica in replicas:
        replica.catalog_invalid(None, ["is not there"])
    assert list(events(server)) == ["larder-catalog.gone"]


def test_each_replica_tells_of_its_own_clock_once(
    server: ApiServer, replicas: list[WebhookEvents]
) -> None:
    for replica in [*replicas, *replicas]:
        replica.clock_behind("certificates", "the clock is 1h behind")
    assert sorted(events(server)) == ["certificates.webhook-a", "certificates.webhook-b"]
    assert {event["reason"] for event in events(server).values()} == {"ClockBehind"}


def test_a_server_that_is_away_is_in_nobodys_way(
    server: ApiServer, replicas: list[WebhookEvents]
) -> None:
    server.stop()
    replicas[0].catalog_invalid(CATALOG, PROBLEMS)
    server.start()
