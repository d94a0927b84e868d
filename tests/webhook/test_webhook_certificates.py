"""Whose certificate is shown, and what happens when there is a new one, a bad one or none."""

import asyncio
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from structlog.testing import capture_logs

from certs.authority import write_material
from certs.serving import ServingCertificate
from runtime.kube.errors import UnavailableError
from tests.certs.certs_cases import NOW
from tests.certs.certs_memory import Memory, MemoryClient
from tests.certs.certs_world import MUTATING, VALIDATING, configuration
from webhook.certificate_files import LOOK_SECONDS, CertificateFiles
from webhook.certificates import ENDPOINTS, SECRET, TURN_SECONDS, OwnCertificates, rotation_of
from webhook.metrics import Metrics
from webhook.mutation import VolumeMode
from webhook.state import State
from webhook.turns import take_turns


class Kept:
    """A replica's own certificates, over objects in memory."""

    def __init__(self, *, is_shown: bool = True) -> None:
        self.memory = Memory()
        names = list(ENDPOINTS)
        self.memory.put(MUTATING, configuration("MutatingWebhookConfiguration", *names[:2]))
        self.memory.put(VALIDATING, configuration("ValidatingWebhookConfiguration", *names[2:]))
        self.certificate = ServingCertificate()
        self.metrics = Metrics()
        self.behind_seconds = 0.0
        self.told: list[tuple[str, str]] = []
        self.state = State(PurePosixPath("/r"), VolumeMode.BY_NAMESPACE, admission_path=None)
        self.own = self.replica(self.certificate if is_shown else None)

    def replica(self, certificate: ServingCertificate | None) -> OwnCertificates:
        return OwnCertificates(
            rotation_of(MemoryClient(self.memory), self),
            certificate,
            self.state,
            self.metrics,
            lambda secret, sentence: self.told.append((secret, sentence)),
        )

    def now(self) -> float:
        return NOW.timestamp() - self.behind_seconds

    def monotonic(self) -> float:
        return 0.0

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"larder_webhook_certificate{name}", labels)

    async def turn(self) -> float:
        return await self.own._take_turn()


async def test_the_first_turn_shows_publishes_and_opens_the_admission_path() -> None:
    kept = Kept()
    assert await kept.turn() == TURN_SECONDS
    assert kept.certificate._current is not None
    service = kept.memory.objects[MUTATING]["webhooks"][1]["clientConfig"]["service"]
    assert service["path"] == f"/{kept.state.admission_path}/mutate-pods"
    assert kept.metric("s_healthy") == 1
    assert kept.metric("_steps_total", reason="NothingStored") == 1
    assert (kept.metric("_expires_timestamp_seconds") or 0) > kept.now()


async def test_a_clock_that_falls_behind_is_told_once_each_time() -> None:
    kept = Kept()
    await kept.turn()
    for _ in range(2):
        kept.behind_seconds = 7200.0
        for _ in range(3):
            assert await kept.turn() == TURN_SECONDS
        kept.behind_seconds = 0.0
        await kept.turn()
    assert [secret for secret, _ in kept.told] == [SECRET] * 2
    assert all(sentence.startswith("the clock says ") for _, sentence in kept.told)
    assert kept.metric("_steps_total", reason="ClockBehind") == 6


async def test_where_files_are_shown_the_path_alone_is_taken() -> None:
    kept = Kept(is_shown=False)
    await kept.turn()
    assert kept.state.admission_path
    assert kept.metric("_expires_timestamp_seconds") == 0


async def test_an_api_server_that_is_away_changes_nothing_and_is_told_once() -> None:
    kept = Kept()
    await kept.turn()
    path = kept.state.admission_path

    def fail() -> None:
        raise UnavailableError("GET /x: no answer in time", retry_after_seconds=7.0)

    kept.memory.before_call = fail
    with capture_logs() as lines:
        delays = [await kept.turn() for _ in range(3)]
    assert [line["event"] for line in lines] == ["certificates not looked after"]
    assert all(7 <= delay <= 7 + 4 for delay in delays)
    assert (kept.metric("s_healthy"), kept.state.admission_path) == (0, path)
    kept.memory.before_call = lambda: None
    assert await kept.turn() == TURN_SECONDS
    assert kept.metric("s_healthy") == 1


async def test_a_clock_that_is_behind_shows_in_a_metric_and_what_is_there_is_served() -> None:
    kept = Kept()
    await kept.turn()
    kept.behind_seconds = 86_400.0
    kept.certificate = ServingCertificate()
    await kept.replica(kept.certificate)._take_turn()
    assert kept.certificate._current is not None
    assert kept.metric("s_healthy") == 0
    assert kept.metric("_steps_total", reason="ClockBehind") == 1


async def test_turns_are_taken_until_asked_to_stop() -> None:
    stop, taken = asyncio.Event(), []

    async def turn() -> float:
        taken.append(len(taken))
        if len(taken) == 3:
            stop.set()
        return 0.001

    await take_turns(turn, stop)
    assert taken == [0, 1, 2]


@pytest.fixture
def another_pair() -> tuple[bytes, bytes]:
    """Another certificate and its key."""
    data = write_material(Kept().own._rotation.take_turn().material)
    return data["tls.crt"], data["tls.key"]


@pytest.fixture
def files(identity: Any, tmp_path: Path) -> tuple[Path, Path]:
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"
    for copy, original in zip(pair, (identity.certificate, identity.key), strict=True):
        copy.write_bytes(original.read_bytes())
    return pair


async def test_files_that_change_are_shown_and_a_pair_half_replaced_is_told_once(
    files: tuple[Path, Path], another_pair: tuple[bytes, bytes]
) -> None:
    shown = ServingCertificate()
    certificate = CertificateFiles(shown, *files)
    certificate.load()
    first = shown._current
    files[0].write_bytes(another_pair[0])
    with capture_logs() as lines:
        assert await certificate._look() == await certificate._look() == LOOK_SECONDS
    assert [line["log_level"] for line in lines] == ["error"]
    assert shown._current is first
    files[1].write_bytes(another_pair[1])
    with capture_logs() as lines:
        await certificate._look()
        await certificate._look()
    assert [line["event"] for line in lines] == ["certificate loaded"]
    assert shown._current is not first


async def test_files_that_go_leave_what_is_shown(files: tuple[Path, Path]) -> None:
    shown = ServingCertificate()
    certificate = CertificateFiles(shown, *files)
    certificate.load()
    files[0].unlink()
    with capture_logs() as lines:
        await certificate._look()
    assert lines[0]["error"].endswith("tls.crt cannot be read: No such file or directory")
    assert shown._current is not None
