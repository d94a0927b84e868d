"""What is known of nodes warns of a catalog that does not fit them."""

import pytest

from larder.catalog import Catalog, ModelEntry, NodeGroup
from larder.catalog_rules import catalog_notes
from larder.layout import Key
from larder.node_facts import NodeFacts, differing_revisions, facts_of, ready_keys, room_notes
from larder.node_report import ModelReport, NodeReport
from larder.status import ModelState

GIB = 2**30


def entry(name: str, revision: str = "v1", **fields: object) -> ModelEntry:
    given = {"name": name, "storageUri": f"hf://acme/{name}", "revision": revision}
    return ModelEntry.model_validate(
        given | {"namespaces": ["chat"], "retention": "Pinned"} | fields, by_name=False
    )


def key(name: str, revision: str = "v1") -> Key:
    return entry(name, revision).key


def catalog(*entries: ModelEntry, **budgets: str) -> Catalog:
    groups = [
        NodeGroup.model_validate({"name": name, "budget": budget})
        for name, budget in budgets.items()
    ]
    return Catalog(
        api_version="larder.dev/v1alpha1", kind="Catalog", node_groups=groups, models=[*entries]
    )


def model(
    name: str,
    gib: int,
    revision: str = "v1",
    *,
    state: ModelState = ModelState.READY,
    resolved: str | None = "c" * 40,
) -> ModelReport:
    key_ = key(name, revision)
    return ModelReport(key_, name, state, revision=resolved, bytes_total=gib * GIB)


def node(
    name: str, disk_gib: int, *models: ModelReport, groups: tuple[str, ...] | None = ("h100",)
) -> NodeFacts:
    return facts_of(
        NodeReport(name, 9 * GIB, disk_bytes=disk_gib * GIB, models=models, node_groups=groups)
    )


def told(where: str, holds: str, needs: str) -> tuple[str, ...]:
    return (f"{where} may hold {holds}, and the pinned models {needs}",)


A, B = entry("a", maxSize="60Gi"), entry("b", maxSize="50Gi")


@pytest.mark.parametrize(
    ("asked", "nodes", "notes"),
    [
        pytest.param(catalog(A, B, h100="110Gi"), (), (), id="it fits"),
        pytest.param(
            catalog(A, B, h100="100Gi"),
            (),
            told("node group 'h100': a node", "100 GiB", "may take up to 110 GiB: 'a', 'b'"),
            id="without nodes, the budget in bytes and maxSize say it",
        ),
        pytest.param(catalog(A, B, h100="50%"), (), (), id="a share of an unknown disk"),
        pytest.param(
            catalog(A, B, h100="50%"),
            (node("n1", 400), node("n2", 200), node("n3", 300)),
            told("node group 'h100': node 'n2'", "100 GiB", "may take up to 110 GiB: 'a', 'b'"),
            id="the tightest of the nodes",
        ),
        pytest.param(
            catalog(A, B, h100="100Gi"),
            (node("n1", 400, model("a", 10)),),
            (),
            id="a size that a node knows counts, not what it may be",
        ),
        pytest.param(
            catalog(entry("a"), entry("b"), h100="100Gi"),
            (node("n1", 400, model("a", 60)), node("n2", 400, model("b", 70))),
            told("node group 'h100': node 'n1'", "100 GiB", "take 130 GiB: 'a', 'b'"),
            id="sizes are known where any node knows them",
        ),
        pytest.param(
            catalog(entry("a"), h100="1Gi"),
            (node("n1", 400, model("a", 0, state=ModelState.QUEUED)),),
            (),
            id="a size that nobody knows counts nothing",
        ),
        pytest.param(
            catalog(entry("a", maxSize="60Gi", retention="Evictable"), h100="1Gi"),
            (node("n1", 400),),
            (),
            id="what is not pinned waits for room",
        ),
        pytest.param(
            catalog(A, h100="100Gi"),
            (node("n1", 10, groups=()),),
            told("nodes of no group: node 'n1'", "9 GiB", "may take up to 60 GiB: 'a'"),
            id="nodes of no group have the budget that they say",
        ),
        pytest.param(
            catalog(entry("a", maxSize="60Gi", nodeGroups=["big"]), h100="1Gi", big="60Gi"),
            (node("n1", 400),),
            (),
            id="what other groups keep does not count",
        ),
        pytest.param(
            catalog(A, big="100Gi", h100="50Gi"),
            (node("n1", 400, groups=("h100", "big")),),
            told("node groups 'big', 'h100': node 'n1'", "50 GiB", "may take up to 60 GiB: 'a'"),
            id="of several groups the smallest budget holds",
        ),
        pytest.param(
            catalog(A, h100="100Gi"), (node("n1", 1, groups=None),), (), id="unknown groups"
        ),
        pytest.param(
            catalog(A),
            (node("n1", 10, groups=("gone",)),),
            told("nodes of no group: node 'n1'", "8 GiB", "may take up to 60 GiB: 'a'"),
            id="a group that the catalog no longer has",
        ),
    ],
)
def test_pinned_models_that_do_not_fit_are_told(
    asked: Catalog, nodes: tuple[NodeFacts, ...], notes: tuple[str, ...]
) -> None:
    assert room_notes(asked, nodes) == notes
    assert catalog_notes(asked, standalone=False, nodes=nodes)[-len(notes) or 99 :] == notes


BOTH = (
    "node group 'h100': node 'n1' may hold 100 GiB,"
    " too little for the old and the new model 'a' side by side"
)


@pytest.mark.parametrize(
    ("on_node", "notes"),
    [
        pytest.param([model("a", 60, "v0")], (BOTH,), id="twice as much"),
        pytest.param([model("a", 40, "v0")], (), id="both fit"),
        pytest.param([model("a", 40, "v0"), model("b", 30)], (BOTH,), id="others are there, too"),
        pytest.param([model("a", 60, "v0"), model("a", 60)], (), id="the new one is there"),
        pytest.param([model("b", 90)], (), id="no old one"),
    ],
)
def test_a_new_revision_that_does_not_fit_beside_the_old_one_is_told(
    on_node: list[ModelReport], notes: tuple[str, ...]
) -> None:
    asked = catalog(entry("a", retention="Evictable"), h100="100Gi")
    assert room_notes(asked, (node("n1", 400, *on_node),)) == notes


def test_the_size_of_a_new_revision_counts_where_a_node_knows_it() -> None:
    asked = catalog(entry("a", retention="Evictable"), h100="100Gi")
    knows = node("n2", 400, model("a", 30), groups=None)
    assert room_notes(asked, (node("n1", 400, model("a", 60, "v0")), knows)) == ()


def test_nodes_that_froze_a_branch_differently_are_flagged() -> None:
    def frozen(name: str, resolved: str | None, **more: ModelState) -> NodeFacts:
        return node(name, 1, model("a", 1, "main", resolved=resolved, **more), model("b", 1))

    old, new = frozen("n1", "1" * 40), frozen("n2", "2" * 40)
    assert differing_revisions((new, old, old)) == {key("a", "main"): ("1" * 40, "2" * 40)}
    on_its_way = frozen("n3", "2" * 40, state=ModelState.DOWNLOADING)
    assert differing_revisions((old, on_its_way, frozen("n4", None))) == {}


def test_progress_changes_no_fact() -> None:
    moving = ModelReport(key("a"), None, ModelState.DOWNLOADING, bytes_done=1, bytes_total=9)
    moved = ModelReport(key("a"), None, ModelState.VERIFYING, bytes_done=9, bytes_total=9)
    one, other = (NodeReport("n", used_bytes=m.bytes_done, models=(m,)) for m in (moving, moved))
    assert facts_of(one) == facts_of(other)


def test_a_model_is_ready_where_some_node_has_it_whole() -> None:
    filling = model("b", 1, state=ModelState.DOWNLOADING)
    nodes = [node("one", 9, model("a", 1), filling), node("two", 9, filling), node("three", 9)]

    assert ready_keys(nodes) == {key("a")}
    assert ready_keys([]) == frozenset()
