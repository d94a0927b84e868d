"""The agent as one whole: a real hub, real children, a temporary root, and time moved by hand."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.credentials import LocalSecrets
from agent.execute import Executor, Tools
from agent.fill.job import Job
from agent.fill.runner import Fills
from agent.metrics import AgentMetrics
from agent.observe import Observer, Surroundings
from agent.planning.node_events import ModelNews
from agent.planning.values import Failure, Listing, RemoteFile
from agent.planning.wishes import Node
from agent.reconciler import Parts, Reconciler
from agent.report import Reporter, Statuses
from agent.store.inventory import scan
from agent.store.root import CacheRoot
from agent.store.store import Store
from demo.hub import Fault, FlipBit, Hub, Repo, Stall, Status
from larder.contract import FillFailure
from larder.errors import CacheRootError, DiskFullError, LarderError
from larder.identity import identity_of
from larder.layout import Digest, Key
from larder.node_report import NodeReport
from larder.quantities import Share
from runtime.catalog_file import CatalogFile
from runtime.clock import ManualClock
from tests.fakes.file_server import FileServer

FILES = {"config.json": b'{"a": 1}', "weights/model.safetensors": b"w" * 50_000, "empty": b""}
OTHER = {"model.safetensors": b"o" * 60_000}
TINY = b"one file"
TINY_DIGEST = f"sha256:{hashlib.sha256(TINY).hexdigest()}"
TURNS = 200
DAY = 86400.0


class FakePods:
    """Pods as a watch would show them (`seen`), and as a consistent list would find them."""

    def __init__(self) -> None:
        self.seen: frozenset[Key] | None = frozenset()
        self.listed: set[Key] = set()
        self.fault: Exception | None = None

    def in_use(self) -> frozenset[Key] | None:
        return self.seen

    def waiting(self) -> frozenset[Key]:
        return frozenset()

    def uses(self, key: Key) -> bool:
        if self.fault:
            raise self.fault
        return key in self.listed


class WrongClock(ManualClock):
    """One that people set."""

    def set_back(self, seconds: float) -> None:
        self._now -= seconds


class Agent:
    """One agent on one root; `turn` reconciles until nothing more happens."""

    def __init__(self, root: CacheRoot, catalog: Path, budget: Share | None = None) -> None:
        self.root = root
        self.clock = WrongClock(now=root.path.stat().st_mtime + 3600)  # files are old
        self.wake, self.stop = threading.Event(), threading.Event()
        self.pods, self.metrics, self.store = FakePods(), AgentMetrics(), Store(root)
        self.failures: dict[Key, Failure] = {}
        self.told: list[NodeReport] = []
        self.news: list[str] = []
        self.store.recover()
        self.statuses = Statuses(self.store, b"the initializer")
        self.statuses.adopt(scan(root.fd))
        self.fills = Fills(clock=self.clock, wake=self.wake.set)
        around = Surroundings(
            root,
            CatalogFile(catalog),
            self.fills,
            self.pods,
            lambda: Node("node-1", {}, budget),
            self.clock,
        )
        tools = Tools(
            self.store,
            self.fills,
            self.pods,
            self.statuses,
            self.metrics,
            LocalSecrets(),
            self.clock,
        )
        self.observer = Observer(around, self.failures, self.statuses.on_disk)
        self.executor = Executor(str(root.path), tools, self.failures)
        parts = Parts(
            self.observer,
            self.executor,
            Reporter(self.statuses, self.metrics, "node-1", self.tell),
            self.statuses,
            self.fills,
            self.store,
            self.clock,
        )
        self.reconciler = Reconciler(parts, self.failures, self.wake, self.stop)

    def tell(self, report: NodeReport, news: tuple[ModelNews, ...]) -> None:
        self.told.append(report)
        self.news += [str(item.reason) for item in news]

    def settle(self) -> None:
        """Reconcile until nothing is in flight and nothing is left to do."""
        for _ in range(TURNS):
            seen, plan = self.reconciler.reconcile()
            if not plan.actions and not seen.in_flight:
                return
            self.wake.wait(10)
            self.wake.clear()
        raise AssertionError("the agent does not come to rest")

    def turn_until_stalled(self, hub: Hub) -> None:
        """Reconcile until the hub holds back the rest of a file."""
        for _ in range(TURNS):
            self.reconciler.reconcile()
            if hub.stalled.wait(0.1):
                return
        raise AssertionError("no fill came as far as the stall")

    def status(self, key: Key) -> dict[str, object]:
        text = (self.root.path / "slots" / key / "status.json").read_text()
        return dict(json.loads(text))

    def content(self, key: Key) -> dict[str, bytes]:
        top = self.root.path / "slots" / key / "content"
        files = [p for p in top.rglob("*") if p.is_file()]
        return {str(p.relative_to(top)): p.read_bytes() for p in files}

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"larder_agent_{name}", labels) or 0.0


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({"acme/a": Repo(dict(FILES)), "acme/b": Repo(dict(OTHER))}) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Iterator[CacheRoot]:
    with CacheRoot.open(
        tmp_path / "root", allow_any_disk=True, clock=ManualClock(), stop=threading.Event()
    ) as opened:
        yield opened


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalog.yaml"


@pytest.fixture
def agent(root: CacheRoot, catalog: Path) -> Iterator[Agent]:
    agent = Agent(root, catalog)
    yield agent
    agent.reconciler.shut_down()


def commit(hub: Hub, name: str) -> str:
    return hub.repos[f"acme/{name}"].branches["main"]


def key(hub: Hub, name: str, revision: str | None = None) -> Key:
    return identity_of(f"hf://acme/{name}", revision=revision or commit(hub, name)).key


def write_catalog(path: Path, hub: Hub, *entries: str, defaults: str = "{}") -> None:
    lines = ["apiVersion: larder.dev/v1alpha1", "kind: Catalog", f"defaults: {defaults}", "models:"]
    for entry in entries:
        name, _, more = entry.partition(" ")
        revision = "" if "revision:" in more else f"revision: '{commit(hub, name)}', "
        lines.append(
            f"  - {{name: {name}, storageUri: 'hf://acme/{name}', {revision}"
            f"namespaces: [chat], fetchFrom: '{hub.url}'{', ' + more if more else ''}}}"
        )
    path.write_text("\n".join(lines) + ("\n" if entries else " []\n"))


def test_what_the_catalog_lists_becomes_ready_with_the_hubs_bytes(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a", "b")
    agent.settle()
    a, b = key(hub, "a"), key(hub, "b")
    assert agent.content(a) == FILES
    assert agent.content(b) == OTHER
    status = agent.status(a)
    assert (status["state"], status["revision"]) == ("Ready", commit(hub, "a"))
    assert status["unprovenFiles"] == 0
    assert (agent.root.path / "slots" / a / "initializer").read_bytes() == b"the initializer"
    assert agent.metric("models", state="Ready") == 2
    assert agent.metric("fills_total", result="Success") == 2
    assert agent.metric("fill_seconds_count") == 2
    size_bytes = sum(map(len, [*FILES.values(), *OTHER.values()]))
    assert agent.metric("used_bytes", place="slots") == size_bytes
    assert agent.metric("fetched_bytes_total") == size_bytes
    last = agent.told[-1]
    assert (last.node, last.used_bytes, last.catalog_problems) == ("node-1", size_bytes, ())
    assert {m.name: m.state for m in last.models} == {"a": "Ready", "b": "Ready"}
    assert agent.news == ["ModelReady", "ModelReady"]


@pytest.mark.parametrize(("digest", "unproven_files"), [("", 1), (TINY_DIGEST, 0)])
def test_a_ready_model_says_whether_only_its_first_fill_vouches_for_it(
    agent: Agent, catalog: Path, digest: str, unproven_files: int
) -> None:
    pin = f", digest: '{digest}'" if digest else ""
    uri = "https://models.example/tiny.gguf"
    with FileServer({"/tiny.gguf": TINY}) as server:
        catalog.write_text(
            "apiVersion: larder.dev/v1alpha1\nkind: Catalog\nmodels:\n"
            f"  - {{name: tiny, storageUri: '{uri}', namespaces: [chat],"
            f" fetchFrom: '{server.url}'{pin}}}\n"
        )
        agent.settle()
    status = agent.status(identity_of(uri).key)
    assert (status["state"], status["unprovenFiles"]) == ("Ready", unproven_files)


def test_a_fill_knows_how_many_share_what_its_node_may_ask_of_a_hub_and_hf_xet_s_memory(
    agent: Agent, hub: Hub, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Job] = []
    start = agent.fills.start

    def noted(job: Job, reserved_bytes: int) -> None:
        started.append(job)
        start(job, reserved_bytes)

    monkeypatch.setattr(agent.fills, "start", noted)
    write_catalog(catalog, hub, "a", defaults="{fills: {maxConcurrent: 5, xetMemory: 1Mi}}")
    agent.settle()
    assert [job.fills for job in started] == [5, 5]  # resolve, fill
    assert [job.xet_memory_bytes for job in started] == [2**20, 2**20]


def test_an_idle_agent_asks_the_hub_nothing_and_writes_nothing(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a")
    agent.settle()
    before = {p: p.lstat().st_mtime_ns for p in agent.root.path.rglob("*")}
    requests = len(hub.requests)
    agent.clock.advance(DAY)
    agent.settle()
    assert {p: p.lstat().st_mtime_ns for p in agent.root.path.rglob("*")} == before
    assert len(hub.requests) == requests


def test_a_branch_is_frozen_at_its_first_fill(agent: Agent, hub: Hub, catalog: Path) -> None:
    write_catalog(catalog, hub, "a revision: main")
    agent.settle()
    first = commit(hub, "a")
    hub.repos["acme/a"].commit({"config.json": b"{}"})
    agent.clock.advance(DAY)
    agent.settle()
    main = key(hub, "a", "main")
    assert agent.content(main) == FILES
    assert agent.status(main)["revision"] == first


def test_patterns_choose_files(agent: Agent, hub: Hub, catalog: Path) -> None:
    write_catalog(
        catalog, hub, "a allowPatterns: ['*.json', 'weights/*'], ignorePatterns: ['*.json']"
    )
    agent.settle()
    slots = [p.name for p in (agent.root.path / "slots").iterdir()]
    assert [agent.content(Key(slot)) for slot in slots] == [
        {"weights/model.safetensors": FILES["weights/model.safetensors"]}
    ]


@pytest.mark.parametrize("place", ["tokenEnv: LARDER_TEST_TOKEN", "tokenFile: {file}"])
def test_a_token_from_a_file_or_variable_opens_a_private_model(
    root: CacheRoot, catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "token").write_text("hf_secret\n")
    monkeypatch.setenv("LARDER_TEST_TOKEN", "hf_secret")
    place = place.format(file=tmp_path / "token")
    with Hub({"acme/a": Repo(dict(FILES), private=True, tokens=("hf_secret",))}) as hub:
        agent = Agent(root, catalog)
        write_catalog(catalog, hub, "a")
        agent.settle()
        assert agent.status(key(hub, "a"))["reason"] == "ModelNotFound"  # as the Hub says it
        write_catalog(catalog, hub, f"a credentials: {{{place}}}")
        agent.settle()  # the edit is the cure: no waiting for the retry
        assert agent.content(key(hub, "a")) == FILES
    written = [p.read_bytes() for p in root.path.rglob("*") if p.is_file()]
    assert not any(b"hf_secret" in data for data in written)


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param("tokenEnv: LARDER_NO_SUCH_VARIABLE", id="a variable that is not there"),
        pytest.param("tokenFile: /nonexistent/token", id="a file that is not there"),
        pytest.param("tokenFile: {empty}", id="an empty file"),
    ],
)
def test_credentials_that_hold_no_token_are_said_to(
    agent: Agent, hub: Hub, catalog: Path, tmp_path: Path, credentials: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    text = credentials.format(empty=tmp_path / "empty")
    write_catalog(catalog, hub, f"a credentials: {{{text}}}")
    agent.settle()
    assert agent.status(key(hub, "a"))["reason"] == "AccessDenied"
    assert "holds no token" in agent.failures[key(hub, "a")].message
    assert not hub.requests


@pytest.mark.parametrize("gated", [True, False], ids=["a gated model", "a private one"])
def test_a_refused_token_is_tried_again_once_it_is_another_one_and_not_before(
    root: CacheRoot, catalog: Path, tmp_path: Path, gated: bool
) -> None:
    (tmp_path / "token").write_text("hf_wrong")
    repo = Repo(dict(FILES), gated=gated, private=not gated, tokens=("hf_right",))
    with Hub({"acme/a": repo}) as hub:
        agent = Agent(root, catalog)
        write_catalog(catalog, hub, f"a credentials: {{tokenFile: {tmp_path / 'token'}}}")
        agent.settle()
        later = agent.clock.now() + 3000
        failure = replace(agent.failures[key(hub, "a")], retry_at=later)
        agent.failures[key(hub, "a")], asked = failure, len(hub.requests)
        agent.clock.advance(61)
        agent.settle()
        (tmp_path / "token").unlink()  # as when a Secret is replaced
        agent.clock.advance(61)
        agent.settle()
        assert agent.failures[key(hub, "a")] is failure
        assert len(hub.requests) == asked
        (tmp_path / "token").write_text("hf_right")
        agent.clock.advance(61)
        agent.settle()
        assert agent.content(key(hub, "a")) == FILES


def test_a_failed_fill_is_tried_again_when_its_time_has_come(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    hub.faults.append(Fault(Status(401, error_code="GatedRepo"), kind="api", times=1))
    write_catalog(catalog, hub, "a")
    agent.settle()
    a = key(hub, "a")
    assert (agent.status(a)["state"], agent.status(a)["reason"]) == ("Failed", "AccessDenied")
    assert agent.metric("fills_total", result="AccessDenied") == 1
    assert agent.metric("models", state="Failed") == 1
    agent.clock.advance(3600)
    agent.settle()
    assert agent.content(a) == FILES


def test_a_model_that_left_the_catalog_stays_for_its_time_and_then_goes(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a", "b")
    agent.settle()
    write_catalog(catalog, hub, "b")
    agent.settle()
    agent.clock.advance(DAY - 1)
    agent.settle()
    a = key(hub, "a")
    assert agent.content(a) == FILES
    agent.clock.advance(2)
    agent.settle()
    assert not (agent.root.path / "slots" / a).exists()
    assert agent.content(key(hub, "b")) == OTHER
    assert agent.metric("evictions_total", reason="Unlisted") == 1
    blobs = [p for p in (agent.root.path / "blobs").rglob("*") if p.is_file()]
    assert len(blobs) == len(OTHER)


def test_a_model_that_never_had_a_fill_goes_with_its_entry(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a credentials: {tokenEnv: NOBODY_SET_IT}")
    agent.settle()
    assert agent.status(key(hub, "a"))["state"] == "Failed"
    write_catalog(catalog, hub, defaults="{unlistedTTL: 0s}")
    agent.settle()  # its time begins
    agent.settle()
    assert not list((agent.root.path / "slots").iterdir())
    assert agent.told[-1].models == ()


def test_nothing_is_remembered_of_a_secret_whose_model_is_gone(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a", "b")
    agent.settle()
    write_catalog(catalog, hub, "b", defaults="{unlistedTTL: 0s}")
    agent.settle()  # its time begins
    agent.settle()
    assert agent.executor._shown.keys() == {key(hub, "b")}


def test_the_fill_of_a_model_that_comes_back_takes_no_longer_for_the_time_it_was_gone(
    root: CacheRoot, hub: Hub, catalog: Path
) -> None:
    agent, at_once = Agent(root, catalog, Share(size_bytes=100_000)), "{unlistedTTL: 0s}"
    write_catalog(catalog, hub, "a", "b priority: 1", defaults=at_once)
    agent.settle()
    assert agent.status(key(hub, "a"))["reason"] == "BudgetExceeded"  # it is resolved
    write_catalog(catalog, hub, "b priority: 1", defaults=at_once)
    agent.settle()
    agent.settle()
    agent.clock.advance(DAY)
    write_catalog(catalog, hub, "a", defaults=at_once)
    agent.settle()
    assert agent.content(key(hub, "a")) == FILES
    assert agent.metric("fill_seconds_sum") == 0  # this clock stands still in fills


def test_the_time_since_a_model_left_survives_a_restart(
    root: CacheRoot, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a", "b")
    first = Agent(root, catalog)
    first.settle()
    write_catalog(catalog, hub, "b")
    first.settle()
    first.reconciler.shut_down()
    second = Agent(root, catalog)
    second.clock.advance(DAY + 1)
    second.settle()
    assert not (root.path / "slots" / key(hub, "a")).exists()
    assert second.news == ["ModelEvicted"]  # what is Ready still is no news


def test_a_clock_that_is_ten_minutes_off_moves_an_eviction_by_no_more(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a")
    agent.settle()
    write_catalog(catalog, hub)
    agent.clock.set_back(600)
    agent.settle()
    a = key(hub, "a")
    assert agent.content(a) == FILES
    agent.clock.advance(600)  # somebody sets it
    agent.settle()
    agent.clock.advance(DAY - 601)
    agent.settle()
    assert agent.content(a) == FILES
    agent.clock.advance(2)
    agent.settle()
    assert not (agent.root.path / "slots" / a).exists()


def test_a_clock_that_is_set_back_delays_no_retry(agent: Agent, hub: Hub, catalog: Path) -> None:
    hub.faults.append(Fault(Status(503), kind="api", times=1))
    write_catalog(catalog, hub, "a")
    agent.settle()
    assert agent.status(key(hub, "a"))["state"] == "Failed"
    agent.clock.set_back(600)
    agent.settle()
    assert agent.content(key(hub, "a")) == FILES


def test_a_model_in_use_stays_whatever_the_catalog_says(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a", defaults="{unlistedTTL: 0s}")
    agent.settle()
    write_catalog(catalog, hub, defaults="{unlistedTTL: 0s}")
    a = key(hub, "a")
    agent.pods.seen = None
    agent.settle()
    assert agent.content(a) == FILES
    agent.pods.seen = frozenset({a})
    agent.settle()
    assert agent.content(a) == FILES


def test_an_eviction_that_finds_a_pod_after_all_is_taken_back(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a", defaults="{unlistedTTL: 0s}")
    agent.settle()
    write_catalog(catalog, hub, defaults="{unlistedTTL: 0s}")
    a = key(hub, "a")
    agent.pods.listed = {a}  # a pod that the watch has not shown yet
    for _ in range(3):
        agent.reconciler.reconcile()
    assert agent.content(a) == FILES
    assert agent.status(a)["state"] == "Ready"
    assert agent.metric("evictions_total", reason="Unlisted") == 0
    assert agent.news == ["ModelReady"]


def test_an_eviction_that_breaks_off_puts_the_model_back(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a", defaults="{unlistedTTL: 0s}")
    agent.settle()
    write_catalog(catalog, hub, defaults="{unlistedTTL: 0s}")
    agent.reconciler.reconcile()
    agent.pods.fault = LarderError("the API server is away")
    with pytest.raises(LarderError):
        agent.reconciler.reconcile()
    assert agent.content(key(hub, "a")) == FILES


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="the file is gone"),
        pytest.param("kind: Nonsense", id="it is another document"),
        pytest.param("[" * 30_000, id="it is thirty thousand brackets"),
    ],
)
def test_an_unknown_catalog_changes_nothing(
    agent: Agent, hub: Hub, catalog: Path, text: str | None
) -> None:
    write_catalog(catalog, hub, "a", defaults="{unlistedTTL: 0s}")
    agent.settle()
    before = {p: p.lstat().st_mtime_ns for p in agent.root.path.rglob("*")}
    if text is None:
        catalog.unlink()
    else:
        catalog.write_text(text)
    agent.clock.advance(10 * DAY)
    agent.settle()
    assert {p: p.lstat().st_mtime_ns for p in agent.root.path.rglob("*")} == before
    assert agent.metric("catalog_problems") > 0
    assert (agent.root.path / "catalog.yaml").exists()


def test_the_budget_holds_and_the_one_that_does_not_fit_says_so(
    root: CacheRoot, hub: Hub, catalog: Path
) -> None:
    agent = Agent(root, catalog, Share(size_bytes=100_000))
    one_by_one = "{fills: {maxConcurrent: 1}, eviction: {minAge: 0s}}"
    write_catalog(catalog, hub, "a", "b priority: 1", defaults=one_by_one)
    agent.settle()
    assert agent.content(key(hub, "b")) == OTHER
    status = agent.status(key(hub, "a"))
    assert (status["state"], status["reason"]) == ("Failed", "BudgetExceeded")
    write_catalog(catalog, hub, "a priority: 2", "b priority: 1", defaults=one_by_one)
    agent.settle()
    assert agent.content(key(hub, "a")) == FILES
    assert agent.status(key(hub, "b"))["reason"] == "BudgetExceeded"
    assert agent.metric("evictions_total", reason="RoomNeeded") == 1
    ready_b, a_too_large, *rest = agent.news
    assert {ready_b, a_too_large} == {"ModelReady", "BudgetExceeded"}
    assert sorted(rest) == ["BudgetExceeded", "ModelEvicted", "ModelReady"]


def test_a_fill_that_nobody_wants_any_more_ends(agent: Agent, hub: Hub, catalog: Path) -> None:
    hub.faults.append(Fault(Stall(after_bytes=10), kind="get"))
    write_catalog(catalog, hub, "a")
    agent.turn_until_stalled(hub)
    assert agent.fills.in_flight()
    write_catalog(catalog, hub)
    agent.settle()
    assert not agent.fills.in_flight()
    assert not (agent.root.path / "slots" / key(hub, "a") / "content").exists()


def test_a_fill_without_progress_is_killed_and_waiting_pods_learn_it(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    hub.faults.append(Fault(Stall(after_bytes=10), kind="get", times=1))
    write_catalog(catalog, hub, "b")
    agent.turn_until_stalled(hub)
    agent.clock.advance(61)
    agent.reconciler.reconcile()
    agent.settle()
    b = key(hub, "b")
    assert agent.status(b)["reason"] == "Stalled"
    agent.clock.advance(600)
    agent.settle()
    assert agent.content(b) == OTHER


def test_a_stopped_agent_says_that_it_comes_back_and_its_successor_goes_on(
    root: CacheRoot, hub: Hub, catalog: Path
) -> None:
    hub.faults.append(Fault(Stall(after_bytes=10), kind="get", times=1))
    write_catalog(catalog, hub, "b")
    first = Agent(root, catalog)
    first.turn_until_stalled(hub)
    first.reconciler.reconcile()
    first.reconciler.shut_down()
    before = first.status(key(hub, "b"))
    assert (before["state"], before["restarting"]) == ("Downloading", True)
    second = Agent(root, catalog)
    second.settle()
    after = second.status(key(hub, "b"))
    assert (after["state"], after["restarting"]) == ("Ready", False)
    assert int(str(after["sequence"])) > int(str(before["sequence"]))


def test_a_damaged_model_is_quarantined_and_fetched_again(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a")
    agent.settle()
    a = key(hub, "a")
    weights = agent.root.path / "slots" / a / "content/weights/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"short")
    second = Agent(agent.root, catalog)
    second.settle()
    assert second.content(a) == FILES
    assert second.metric("evictions_total", reason="Quarantined") == 1


def test_an_empty_content_planted_in_a_slot_is_moved_away_and_the_model_is_filled(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    a = key(hub, "a")
    (agent.root.path / "slots" / a / "content").mkdir(parents=True)
    findings = agent.store.recover()
    assert any(a in finding.path or a in finding.sentence for finding in findings)
    write_catalog(catalog, hub, "a")
    agent.settle()
    assert agent.content(a) == FILES


def test_a_new_revision_links_what_the_evicted_one_held_instead_of_fetching_it_again(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    defaults = "{eviction: {minAge: 0s, highThresholdPercent: 51, lowThresholdPercent: 1}}"
    agent = Agent(agent.root, catalog, Share(size_bytes=100_000))
    write_catalog(catalog, hub, "a", defaults=defaults)
    agent.settle()
    before = key(hub, "a")
    newer = {**FILES, "new.json": b"n" * 2000}
    hub.repos["acme/a"].commit(newer)
    write_catalog(catalog, hub, "a", defaults=defaults)
    requests = len(hub.requests)
    agent.settle()
    assert agent.content(key(hub, "a")) == newer
    assert not (agent.root.path / "slots" / before).exists()
    assert not any("safetensors" in request.path for request in hub.requests[requests:])


def refuse(error: LarderError) -> Callable[..., Any]:
    """A method of the store for which the disk has nothing but this error."""

    def refused(*_: object, **__: object) -> None:
        raise error

    return refused


def test_a_full_disk_keeps_no_model_from_being_evicted(
    agent: Agent, hub: Hub, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalog(catalog, hub, "a", defaults="{unlistedTTL: 0s}")
    agent.settle()
    write_catalog(catalog, hub, defaults="{unlistedTTL: 0s}")
    agent.reconciler.reconcile()
    monkeypatch.setattr(agent.store, "write_status", refuse(DiskFullError("no room")))
    agent.reconciler.reconcile()
    assert not (agent.root.path / "slots" / key(hub, "a")).exists()


def test_a_catalog_that_cannot_be_kept_on_the_disk_is_in_force_all_the_same(
    agent: Agent, hub: Hub, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.store, "save_catalog", refuse(DiskFullError("no room")))
    write_catalog(catalog, hub, "a")
    agent.settle()
    assert agent.content(key(hub, "a")) == FILES


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(DiskFullError("no room"), id="the disk is full"),
        pytest.param(CacheRootError("Input/output error"), id="the disk fails"),
    ],
)
def test_a_model_that_cannot_be_published_is_tried_again_when_its_time_has_come(
    agent: Agent, hub: Hub, catalog: Path, monkeypatch: pytest.MonkeyPatch, error: LarderError
) -> None:
    write_catalog(catalog, hub, "a")
    with monkeypatch.context() as patch:
        patch.setattr(agent.store, "publish", refuse(error))
        agent.settle()
    a = key(hub, "a")
    assert agent.failures[a].attempts == 1
    assert agent.status(a)["state"] == "Failed"
    requests = len(hub.requests)
    agent.clock.advance(600)
    agent.settle()
    assert agent.content(a) == FILES
    assert len(hub.requests) == requests


def test_a_slot_that_was_taken_away_during_its_fill_is_made_again(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    write_catalog(catalog, hub, "a")
    a = key(hub, "a")
    while not (agent.root.path / "staging" / a / "manifest").exists():
        agent.reconciler.reconcile()
        agent.wake.wait(0.1)
        agent.wake.clear()
    shutil.rmtree(agent.root.path / "slots" / a)
    agent.settle()
    assert agent.content(a) == FILES
    assert agent.status(a)["state"] == "Ready"


def test_a_model_that_cannot_be_evicted_holds_up_no_other(
    agent: Agent, hub: Hub, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalog(catalog, hub, "a", defaults="{unlistedTTL: 0s}")
    agent.settle()
    write_catalog(catalog, hub, "b", defaults="{unlistedTTL: 0s}")
    with monkeypatch.context() as patch:
        patch.setattr(agent.store, "take_aside", refuse(CacheRootError("Input/output error")))
        agent.settle()
    assert agent.content(key(hub, "b")) == OTHER
    assert agent.content(key(hub, "a")) == FILES
    assert agent.status(key(hub, "a"))["state"] == "Ready"
    agent.clock.advance(600)
    agent.settle()
    assert not (agent.root.path / "slots" / key(hub, "a")).exists()


def test_a_slot_that_cannot_be_made_keeps_no_other_status_from_being_written(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    a, b = sorted([key(hub, "a"), key(hub, "b")])
    (agent.root.path / "slots").mkdir(exist_ok=True)
    (agent.root.path / "slots" / a).write_text("no directory")
    write_catalog(catalog, hub, "a", "b")
    while not (agent.root.path / "slots" / b / "content").exists():
        with pytest.raises(CacheRootError):
            agent.reconciler.reconcile()
        agent.wake.wait(0.1)
        agent.wake.clear()
    assert agent.status(b)["state"] == "Ready"


def test_a_stopping_agent_tells_all_pods_that_it_can_tell(
    agent: Agent, hub: Hub, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalog(catalog, hub, "a")
    agent.reconciler.reconcile()
    monkeypatch.setattr(agent.store, "write_status", refuse(DiskFullError("no room")))
    agent.reconciler.shut_down()  # nothing is raised


def test_a_retry_whose_time_has_passed_does_not_keep_the_agent_awake(
    agent: Agent, hub: Hub, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(agent.root, catalog, Share(size_bytes=1))
    write_catalog(catalog, hub, "a")
    agent.settle()  # it does not fit
    agent.failures[key(hub, "a")] = Failure(FillFailure.STALLED, "", agent.clock.now() - 1)
    monkeypatch.setattr("agent.reconciler.TICK_SECONDS", 0.001)
    observed, ticks = [], threading.Semaphore(0)
    observe, poll = agent.observer.observe, agent.observer.poll_catalog
    monkeypatch.setattr(agent.observer, "observe", lambda: observed.append(1) or observe())
    monkeypatch.setattr(agent.observer, "poll_catalog", lambda: ticks.release() or poll())
    running = threading.Thread(target=agent.reconciler.run)
    running.start()
    for _ in range(20):
        assert ticks.acquire(timeout=10)
    agent.stop.set()
    running.join()
    assert len(observed) == 1


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        pytest.param(
            RemoteFile("weights/model.safetensors", 50_000, Digest("0" * 64)),
            "IntegrityMismatch",
            id="another content",
        ),
        pytest.param(RemoteFile("no", 1, Digest("0" * 64)), "SourceDrifted", id="another file"),
    ],
)
def test_a_listing_that_the_source_does_not_keep_is_asked_for_again(
    agent: Agent, hub: Hub, catalog: Path, file: RemoteFile, reason: str
) -> None:
    a = key(hub, "a")
    staging = agent.root.path / "staging" / a
    staging.mkdir(parents=True)
    lie = Listing("hf://acme/a", commit(hub, "a"), (file,))
    (staging / "listing.json").write_text(lie.text())
    write_catalog(catalog, hub, "a")
    agent.settle()
    assert agent.status(a)["reason"] == reason
    agent.clock.advance(3600)
    agent.settle()
    assert agent.content(a) == FILES


def test_a_file_that_stays_wrong_is_tried_later_each_time(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    hub.faults.append(Fault(FlipBit(offset=5), path="weights/model.safetensors"))
    write_catalog(catalog, hub, "a")
    for attempts in range(1, 4):
        agent.settle()
        assert agent.failures[key(hub, "a")].attempts == attempts
        agent.clock.advance(3600)


def test_a_source_that_is_away_is_told_in_no_event_until_it_lasts(
    agent: Agent, hub: Hub, catalog: Path
) -> None:
    away = Fault(Status(503), kind="api")
    hub.faults.append(away)
    write_catalog(catalog, hub, "a")
    for expected in ([], [], ["FillFailed"], ["FillFailed"] * 2):
        agent.settle()
        assert agent.status(key(hub, "a"))["state"] == "Failed"
        assert agent.news == expected
        agent.clock.advance(3600)
    hub.faults.remove(away)
    agent.settle()
    assert agent.news == ["FillFailed", "FillFailed", "ModelReady"]


def test_once_on_a_disk_that_fails_ends_without_success_and_without_a_traceback(
    agent: Agent, hub: Hub, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalog(catalog, hub, "a")
    monkeypatch.setattr(agent.store, "write_status", refuse(CacheRootError("it is read-only")))
    assert agent.reconciler.run_once() is False
    assert not agent.fills.in_flight()
