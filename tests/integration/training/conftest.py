"""A log directory with real data, whose runners start real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.job_room import Room
from worker.testing.digits import write_digits


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_digits(folder, 500, 100)
    return folder


@pytest.fixture
def room(tmp_path: Path, data: Path) -> Room:
    return Room(tmp_path / "logs", data)
