from __future__ import annotations

from pathlib import Path

import pytest

from tests.job_room import Room
from tests.unit.worker.training.scripted_process import Scripts, trains


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "logs", tmp_path / "data", Scripts(trains).start)
