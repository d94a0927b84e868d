"""Flags and variables: what is accepted, and what a wrong one is told."""

import gc
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from fastapi import FastAPI

from certs.serving import ServingCertificate
from larder.contract import DecisionReason
from runtime.settings import read_settings
from webhook.certificate_files import CertificateFiles
from webhook.metrics import Metrics
from webhook.mutation import VolumeMode
from webhook.serving import BoundedHttp, Server, ServingError, open_listener, server_config
from webhook.settings import PROGRAM, Settings

NEEDED = ("--catalog", "c.yaml", "--tls-cert", "t.crt", "--tls-key", "t.key")


def test_the_defaults_are_those_of_a_standalone_webhook() -> None:
    settings = read_settings(Settings, PROGRAM, NEEDED)
    assert settings.catalog == Path("c.yaml")
    assert settings.cache_root == PurePosixPath("/var/lib/larder")
    assert settings.volume_mode is VolumeMode.HOST_PATH
    assert (settings.port, settings.stop_delay, settings.log_level) == (9443, 0.0, "info")


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        pytest.param((), VolumeMode.BY_NAMESPACE, id="a cluster's namespaces say so themselves"),
        pytest.param(
            ("--volumes", "HostPath"), VolumeMode.HOST_PATH, id="a cluster's install does"
        ),
        pytest.param(
            ("--catalog", "c.yaml", "--volumes", "ByNamespace"),
            VolumeMode.BY_NAMESPACE,
            id="a standalone webhook is told to ask",
        ),
    ],
)
def test_without_a_catalogs_file_volumes_need_evidence(
    flags: tuple[str, ...], mode: VolumeMode
) -> None:
    settings = read_settings(Settings, PROGRAM, (*flags, *NEEDED[2:]))
    assert settings.volume_mode is mode


def test_a_flag_goes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LARDER_WEBHOOK_PORT", "1234")
    monkeypatch.setenv("LARDER_WEBHOOK_VOLUMES", "ByNamespace")
    settings = read_settings(Settings, PROGRAM, (*NEEDED, "--port", "4321"))
    assert (settings.port, settings.volume_mode) == (4321, VolumeMode.BY_NAMESPACE)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        pytest.param(
            ("--catalog", "c.yaml"),
            "a certificate is missing; accepted: --tls-cert and --tls-key, or neither of them for"
            " one of a cluster",
            id="no certificate without a cluster",
        ),
        pytest.param(NEEDED[2:4], "a certificate is missing", id="a certificate without its key"),
        pytest.param((*NEEDED, "--bogus"), "unrecognized arguments: --bogus", id="an unknown flag"),
        pytest.param((*NEEDED, "--port"), "argument --port: expected one", id="a flag alone"),
        pytest.param((*NEEDED, "--port", "x"), "--port should be a valid integer", id="a word"),
        pytest.param((*NEEDED, "--port", "65536"), "--port should be less than", id="a high port"),
        pytest.param((*NEEDED, "--cata", "x"), "unrecognized arguments", id="a shortened flag"),
        pytest.param(
            (*NEEDED, "--volumes", "Any"),
            "--volumes should be 'HostPath' or 'ByNamespace'",
            id="an unknown volume mode",
        ),
        pytest.param(
            (*NEEDED, "--cache-root", "larder"),
            "--cache-root 'larder' is not accepted; accepted: an absolute path without '..'",
            id="a relative root",
        ),
        pytest.param(
            (*NEEDED, "--cache-root", "/a/../b"),
            "--cache-root '/a/../b' is not accepted",
            id="a root that climbs",
        ),
    ],
)
def test_wrong_use_gets_one_sentence_and_status_2(
    flags: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(Settings, PROGRAM, flags)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"larder-webhook: {sentence}")
    assert error.count("\n") == 1


def test_help_names_every_setting_and_version_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for flag, text in (("--help", "--cache-root"), ("--version", "larder-webhook ")):
        with pytest.raises(SystemExit) as ended:
            read_settings(Settings, PROGRAM, [flag])
        assert ended.value.code == 0
        assert text in capsys.readouterr().out


def test_a_certificate_that_cannot_serve_is_refused(tmp_path: Path, identity: Any) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_text("x")
    shown = ServingCertificate()
    with pytest.raises(ServingError, match=r"none cannot be read: No such file"):
        CertificateFiles(shown, tmp_path / "none", identity.key).load()
    with pytest.raises(ServingError, match="are no certificate and its key"):
        CertificateFiles(shown, garbage, identity.key).load()
    with pytest.raises(ServingError, match="are no certificate and its key"):
        CertificateFiles(shown, identity.certificate, garbage).load()
    assert shown._current is None


def test_a_taken_port_is_refused() -> None:
    with open_listener("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ServingError, match=f"cannot listen on 127.0.0.1 port {port}: "):
            open_listener("127.0.0.1", port)


def test_requests_are_parsed_by_httptools_on_uvloop() -> None:
    config = server_config(lambda: None, ServingCertificate().context)  # type: ignore[arg-type] - never called
    config.load()
    assert config.http_protocol_class is BoundedHttp
    factory = config.get_loop_factory()
    assert factory
    assert factory.__module__.startswith("uvloop")


async def test_a_thread_that_computes_gives_way_to_requests_within_a_millisecond() -> None:
    seconds, seen = sys.getswitchinterval(), []

    def ready() -> None:
        seen.append(sys.getswitchinterval())
        server.should_exit = True

    server = Server(server_config(FastAPI(), ServingCertificate().context), ready)
    try:
        with open_listener("127.0.0.1", 0) as listener:
            await server.serve(sockets=[listener])
    finally:
        sys.setswitchinterval(seconds)
        gc.unfreeze()
    assert 0 < seen[0] <= 0.001 < seconds


def test_every_reason_has_a_metric() -> None:
    text = Metrics().text().decode()
    for reason in set(DecisionReason) - {DecisionReason.NAMESPACE_NOT_ALLOWED}:
        assert f'larder_webhook_decisions_total{{reason="{reason}"}} 0.0' in text
