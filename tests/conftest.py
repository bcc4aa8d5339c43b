"""What holds for every test: nothing skipped in CI, nothing left running."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator

import pytest

from tests.leaks import Leftovers

pytest.register_assert_rewrite("tests.main_job", "tests.worker_life")

GRACE_S = float(os.environ.get("LEAK_GRACE_S", "5"))
NO_SKIPS = os.environ.get("CI", "").lower() in {"1", "true"}

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def fail_instead_of_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure: CI has to have everything."""
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI=true allows no skip, and this was one: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_instead_of_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_instead_of_skip(report)
    return report


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fail a test that leaves a thread, a process or a socket behind."""
    before = Leftovers.now()
    yield
    left = before.since(GRACE_S)
    assert not left, "left running by this test: " + ", ".join(left)
