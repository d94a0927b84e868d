"""Rules of every test: slow machines are fine, skips can be forbidden, clients are given back.

`LARDER_NO_SKIPS=1` turns a skip into a failure: a machine that says it has what the tests need
must run all of them.
"""

import os
import sys
from collections.abc import Generator

import hypothesis
import pytest

hypothesis.settings.register_profile("larder", deadline=None)  # two cores may be busy
hypothesis.settings.load_profile("larder")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report


def pytest_runtest_teardown() -> None:
    """Give the hub's library its own HTTP client again: a source sets one for its whole process."""
    if http := sys.modules.get("huggingface_hub.utils._http"):
        http.set_client_factory(http.default_client_factory)


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("LARDER_NO_SKIPS", "") not in {"", "0"}:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, which is forbidden here: {report.longrepr}"
