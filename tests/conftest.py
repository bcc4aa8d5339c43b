"""What holds for every test, and what several tiers share."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.leaks import Leftovers
from tests.turns import folder_of_the_run, in_parallel, in_turn, is_alone, order
from worker import testing

pytest.register_assert_rewrite("tests.main_job")

GRACE_S = float(os.environ.get("LEAK_GRACE_S", "5"))
NO_SKIPS = os.environ.get("CI", "").lower() in {"1", "true"}

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


# -- every test --------------------------------------------------------------------------------


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


# -- several processes -------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if in_parallel():
        items[:] = order(items)


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported stays: collecting garbage need not look at it again and again


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the clock of pytest-timeout starts
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if not in_parallel():
        return (yield)
    with in_turn(folder_of_the_run(item.config._tmp_path_factory), alone=is_alone(item)):
        return (yield)


# -- what is made once per test run ------------------------------------------------------------


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 1,000 real digits to train on and 200 to test with."""
    folder = tmp_path_factory.mktemp("digits")
    testing.write_digits(folder, 1000, 200)
    return folder


@pytest.fixture(scope="session")
def images(data: Path) -> testing.LabelledImages:
    """The digits to test with."""
    return testing.LabelledImages.read(data / "test")


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """`logs` with the trained jobs "first", which is deployed, and "second"; and their `data`.

    The processes of a run share it: tests work on copies.
    """
    folder = folder_of_the_run(tmp_path_factory) / "trained"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            shutil.copytree(data, folder / "data")
            testing.train_models(folder, ("first", "second"))
            (folder / "complete").touch()
    return folder


@pytest.fixture
def fresh(tmp_path: Path, kafka_host: str, data: Path) -> Iterator[testing.LocalDeployment]:
    """A deployment with data and without a model."""
    shutil.copytree(data, tmp_path / "data")
    with testing.LocalDeployment(tmp_path, kafka_host) as deployment:
        yield deployment


@pytest.fixture
def served(
    tmp_path: Path, kafka_host: str, trained_folder: Path
) -> Iterator[testing.LocalDeployment]:
    """A deployment whose log folder has a deployed classifier, and topics without anything."""
    shutil.copytree(trained_folder, tmp_path, dirs_exist_ok=True)
    with testing.LocalDeployment(tmp_path, kafka_host) as deployment:
        yield deployment
