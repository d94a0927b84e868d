"""What can be amiss with nodes, models, catalog, claims and namespaces: each is found."""

import datetime as dt

import pytest
from doctor_world import (
    CATALOG,
    COMMIT,
    LLAMA,
    NOW,
    SYSTEM,
    VAST,
    Expected,
    Install,
    Spoil,
    check_found,
    ready,
)

from larder.claims import LABELS, RETIRING_ANNOTATION, Claim
from larder.node_report import ModelReport, NodeReport
from larder.status import ModelState

# --- nodes ----------------------------------------------------------------------------------------


def told(*models: ModelReport, minutes: int = 0, problems: tuple[str, ...] = ()) -> Spoil:
    """What the second node says, the one that has both models otherwise."""
    report = NodeReport("gpu-2", 2**30, 1, 2**30, 2**30, problems, models)
    return lambda install: install.report(report, NOW - dt.timedelta(minutes=minutes))


BOTH = (ready(LLAMA, "llama"), ready(VAST, "vast"))
DENIED = ModelReport(VAST, "vast", ModelState.FAILED, "AccessDenied", "the store answered 403")
DAMAGED = ModelReport(VAST, "vast", ModelState.QUARANTINED)
FILLING = ModelReport(VAST, "vast", ModelState.DOWNLOADING, bytes_done=1, bytes_total=9)


def unlabelled(install: Install) -> None:
    install.the("nodes", "gpu-2", "")["metadata"]["labels"] = {"kserve/localmodel": "worker"}
    told(ready(LLAMA, "llama"))(install)


def spoken_for(install: Install) -> None:
    install.report(NodeReport("gpu-1"), name="larder-node-gpu-3")


NODES = [
    pytest.param(
        lambda i: i.remove("pods", "larder-agent-gpu-1"),
        [("nodes", "warning", "no agent runs on gpu-1, labelled kserve/localmodel=worker")],
        id="a node without agent",
    ),
    pytest.param(
        lambda i: i.remove("configmaps", "larder-node-gpu-1"),
        [("agents", "warning", "the agents of gpu-1 are ready and have written no report")],
        id="an agent without report",
    ),
    pytest.param(
        lambda i: (i.remove("configmaps", "larder-node-gpu-1"), i.agent("gpu-1", is_ready=False)),
        [],
        id="an agent that is only starting",
    ),
    pytest.param(
        spoken_for,
        [("reports", "warning", "larder-node-gpu-3 holds no report that can be read")],
        id="a report that is none",
    ),
    pytest.param(told(*BOTH, minutes=9999), [], id="an old report of a quiet node"),
    pytest.param(
        told(ready(LLAMA, "llama"), FILLING),
        [("models", "warning", "no node has model vast yet; it is being filled")],
        id="a model that is coming",
    ),
    pytest.param(
        told(ready(LLAMA, "llama"), FILLING, minutes=6),
        [
            ("reports", "warning", "gpu-2 told of a fill, and nothing for 300 s since"),
            ("models", "warning", "no node has model vast yet; it is being filled"),
        ],
        id="a fill of which nobody hears",
    ),
    pytest.param(
        told(*BOTH, problems=("bad",)),
        [("reports", "warning", "the last good catalog is in force on gpu-2")],
        id="an agent that refuses the catalog",
    ),
    pytest.param(
        told(ready(LLAMA, "llama"), DENIED),
        [
            ("slots", "warning", "model vast on gpu-2: AccessDenied: the store answered 403"),
            ("models", "broken", "no node has model vast, and none fills it"),
        ],
        id="a model that failed everywhere",
    ),
    pytest.param(
        told(ready(LLAMA, "llama"), DAMAGED),
        [
            ("slots", "warning", "model vast on gpu-2: Quarantined"),
            ("models", "broken", "no node has model vast, and none fills it"),
        ],
        id="a damaged slot",
    ),
    pytest.param(
        unlabelled,
        [("models", "warning", "no node is chosen for model vast")],
        id="a model for which there is no node",
    ),
    pytest.param(
        told(ready(LLAMA, "llama", "d" * 40), ready(VAST, "vast")),
        [("revisions", "warning", f"nodes have model llama at different revisions: {COMMIT}, d")],
        id="revisions that differ",
    ),
]


@pytest.mark.parametrize(("spoil", "expected"), NODES)
def test_a_fault_of_a_node_is_found_with_a_cure(
    install: Install, spoil: Spoil, expected: Expected
) -> None:
    check_found(install, spoil, expected)


# --- catalog --------------------------------------------------------------------------------------


def retiring(install: Install) -> None:
    install.namespace("search", **{"larder.dev/volume": "hostPath"})
    marks = {RETIRING_ANNOTATION: "2026-01-01T00:00:00Z"}
    install.claim(Claim("search", VAST), annotations=marks, deletionTimestamp="2026")


def of_claim(phase: str, **metadata: object) -> Spoil:
    return lambda install: install.claim(Claim("search", VAST), phase, **metadata)


def somebody_elses(install: Install) -> None:
    """A tenant's claim of our name and label, bound to no volume of ours."""
    metadata = {"name": Claim("chat", LLAMA).name, "namespace": "chat", "labels": dict(LABELS)}
    content = {"metadata": metadata, "spec": {}, "status": {"phase": "Lost"}}
    install.put("PersistentVolumeClaim", content)


NO_CLAIM = "pods of search cannot mount vast: no hostPath, no Bound claim"


def public_model(install: Install) -> None:
    """For everyone, and asked for in a namespace that can mount nothing."""
    install.catalog(CATALOG.replace("[search]", "['*']"))
    install.namespace("other")
    metadata = {"name": "x", "namespace": "other"}
    spec = {"predictor": {"model": {"storageUri": "s3://models/vast"}}}
    install.put("InferenceService", {"metadata": metadata, "spec": spec})


def hostpath_everywhere(install: Install) -> None:
    install.remove("persistentvolumeclaims", Claim("search", VAST).name, "search")
    install.namespace("search")
    install.run_with("deployments", "larder-webhook", "--volumes=HostPath")


GOOD = "no node has model"
CATALOGS = [
    pytest.param(
        lambda i: i.catalog(CATALOG.replace("namespaces: [chat]", "namespace: [chat]")),
        [
            ("catalog", "broken", "line 7: models[0] lacks the required key 'namespaces'"),
            ("catalog", "broken", "line 10: models[0].namespace is an unknown key"),
        ],
        id="mistakes",
    ),
    pytest.param(
        lambda i: i.remove("configmaps", "larder-catalog"),
        [("catalog", "broken", "there is no ConfigMap larder-catalog")],
        id="no catalog",
    ),
    pytest.param(
        lambda i: i.put(
            "ConfigMap", {"metadata": {"name": "larder-catalog", "namespace": SYSTEM}, "data": {}}
        ),
        [("catalog", "broken", "has no key 'catalog.yaml'")],
        id="a catalog without its key",
    ),
    pytest.param(
        lambda i: i.catalog(
            CATALOG.replace("nodeGroups: [big]", "nodeGroups: [big], fill: OnDemand")
        ),
        [("catalog", "warning", "model 'vast': fill OnDemand has no effect yet")],
        id="a note",
    ),
    pytest.param(
        lambda i: i.catalog(CATALOG.replace("[big]}", "[big], retention: Pinned, maxSize: 2Gi}")),
        [("catalog", "warning", "the pinned models may take up to 2 GiB: 'vast'")],
        id="pinned models that do not fit",
    ),
    pytest.param(
        lambda i: i.remove("secrets", "hf-token", "larder-credentials"),
        [("credentials", "broken", "Secret hf-token of model llama is not there")],
        id="a Secret that nobody made",
    ),
    pytest.param(
        of_claim("Pending"),
        [
            ("claims", "warning", f"claims are Pending: search/larder-{VAST}"),
            ("volumes", "warning", NO_CLAIM),
        ],
        id="a claim that is not bound",
    ),
    pytest.param(
        of_claim("Lost"),
        [
            ("claims", "broken", f"claims are Lost: search/larder-{VAST}"),
            ("volumes", "warning", NO_CLAIM),
        ],
        id="a claim that is lost",
    ),
    pytest.param(
        of_claim("Bound", deletionTimestamp="2026-01-01T00:00:00Z"),
        [
            ("claims", "warning", f"claims are Terminating: search/larder-{VAST}"),
            ("volumes", "warning", NO_CLAIM),
        ],
        id="a claim that is going",
    ),
    pytest.param(retiring, [], id="a claim that is retired on purpose"),
    pytest.param(
        of_claim("Pending", labels={}),
        [("volumes", "warning", NO_CLAIM)],
        id="a claim that lost its label",
    ),
    pytest.param(somebody_elses, [], id="a claim of somebody else's"),
    pytest.param(
        lambda i: i.remove("namespaces", "chat", ""),
        [("namespaces", "warning", "model llama is for chat, which is not there")],
        id="a namespace that is not there",
    ),
    pytest.param(
        public_model,
        [("volumes", "warning", "pods of other cannot mount vast: no hostPath, no Bound claim")],
        id="a namespace that may have what everybody may",
    ),
    pytest.param(hostpath_everywhere, [], id="an install that allows hostPath"),
]


@pytest.mark.parametrize(("spoil", "expected"), CATALOGS)
def test_a_fault_of_catalog_claims_or_namespaces_is_found_with_a_cure(
    install: Install, spoil: Spoil, expected: Expected
) -> None:
    check_found(install, spoil, expected)
