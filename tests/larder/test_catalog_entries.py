"""What a catalog's values answer: node groups, namespaces, endpoints, keys."""

from collections.abc import Mapping

import pytest

from larder.catalog import LabelSelector, MatchExpression, ModelEntry, NodeGroup, read_catalog

HEAD = "apiVersion: larder.dev/v1alpha1\nkind: Catalog\n"


@pytest.mark.parametrize(
    ("operator", "values", "chosen"),
    [
        ("In", ["a", "b"], ["a"]),
        ("NotIn", ["a", "b"], ["c", None]),
        ("Exists", [], ["a", "c"]),
        ("DoesNotExist", [], [None]),
    ],
)
def test_a_selector_reads_labels_as_kubernetes_does(
    operator: str, values: list[str], chosen: list[str | None]
) -> None:
    raw = {"key": "k", "operator": operator, "values": values}
    selector = LabelSelector(match_expressions=[MatchExpression.model_validate(raw)])
    nodes: dict[str | None, Mapping[str, str]] = {
        "a": {"k": "a"},
        "c": {"k": "c"},
        None: {"x": "a"},
    }

    assert [name for name, labels in nodes.items() if selector.matches(labels)] == chosen


def test_a_selector_wants_all_of_its_requirements() -> None:
    exists = MatchExpression(key="k", operator="Exists")
    selector = LabelSelector(match_labels={"a": "1", "b": "2"}, match_expressions=[exists])

    assert selector.matches({"a": "1", "b": "2", "k": ""})
    assert not selector.matches({"a": "1", "b": "2"})
    assert not selector.matches({"a": "1", "b": "3", "k": ""})
    assert NodeGroup(name="every-node").node_selector.matches({})


def test_a_node_keeps_the_entries_of_its_groups_and_those_of_every_node() -> None:
    text = HEAD + (
        "nodeGroups:\n- {name: h100, nodeSelector: {matchLabels: {gpu: h100}}}\n"
        "- {name: spot, nodeSelector: {matchLabels: {spot: 'true'}}}\n"
        "models:\n"
        "- {name: everywhere, storageUri: s3://b/1, namespaces: [n]}\n"
        "- {name: on-h100, storageUri: s3://b/2, namespaces: [n], nodeGroups: [h100]}\n"
        "- {name: on-both, storageUri: s3://b/3, namespaces: [n], nodeGroups: [spot, h100]}\n"
    )
    catalog = read_catalog(text.encode(), standalone=True)

    def kept(labels: Mapping[str, str]) -> list[str]:
        return [m.name for m in catalog.models_of(labels)]

    assert kept({}) == ["everywhere"]
    assert kept({"gpu": "h100"}) == ["everywhere", "on-h100", "on-both"]
    assert kept({"spot": "true"}) == ["everywhere", "on-both"]
    assert [g.name for g in catalog.groups_of({"gpu": "h100", "spot": "true"})] == ["h100", "spot"]


def model(
    uri: str = "hf://o/m", endpoint: str | None = None, mirror: str | None = None
) -> ModelEntry:
    return ModelEntry(
        name="m", storage_uri=uri, namespaces=["n"], endpoint=endpoint, fetch_from=mirror
    )


@pytest.mark.parametrize(
    ("entry", "endpoint"),
    [
        pytest.param(model(), "https://huggingface.co", id="the scheme's default"),
        pytest.param(model(endpoint="any"), "https://huggingface.co", id="any says nothing"),
        pytest.param(model(endpoint="http://hub/"), "http://hub", id="the endpoint"),
        pytest.param(model(endpoint="http://hub", mirror="http://m"), "http://m", id="the mirror"),
        pytest.param(model("https://h/m"), "", id="a scheme without endpoints"),
    ],
)
def test_the_agent_downloads_from_the_mirror_or_the_endpoint(
    entry: ModelEntry, endpoint: str
) -> None:
    assert entry.fetch_endpoint == endpoint


def test_a_mirror_and_any_endpoint_leave_the_key_alone() -> None:
    assert len({model().key, model(endpoint="any").key, model(mirror="http://m").key}) == 1
    assert model(endpoint="http://hub").key != model().key


def test_having_asked_for_the_key_changes_no_comparison() -> None:
    entry = model()
    assert entry.key

    assert entry == model()


def test_namespaces_are_named_or_all() -> None:
    entry = model()

    assert (entry.allows("n"), entry.allows("m"), entry.allows("*")) == (True, False, False)
