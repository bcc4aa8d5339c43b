"""What can be set on training in the worker."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt

from worker.section import Section, variable

__all__ = ["TrainingSettings"]


class TrainingSettings(Section):
    """The images to train on, and a training's share of the machine."""

    datadir: Path = variable("DARKROOM_DATADIR", Path("data"))
    """The folder of `train/info.csv` and `test/info.csv`, with their images."""
    threads: PositiveInt = variable(
        "DARKROOM_TRAINING_THREADS", factory=lambda: max(1, (os.cpu_count() or 2) // 2)
    )
    """Threads of the processor for a job."""
    hang_s: PositiveFloat = variable("DARKROOM_TRAINING_HANG_S", 600.0)
    """A training process that reports nothing for so long is ended."""
    params: Mapping[str, Any] = Field(default_factory=dict)
    """The trainer's params for the jobs of this worker; a command's own come on top."""
