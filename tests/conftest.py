"""Rules of every test: machines may be slow, and a skip can be forbidden.

`LARDER_NO_SKIPS=1` turns a skip into a failure: a machine that says it has what the tests need
must run all of them.
"""

import os
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


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("LARDER_NO_SKIPS", "") not in {"", "0"}:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, which is forbidden here: {report.longrepr}"
