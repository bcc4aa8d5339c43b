"""What can be set on the worker as a process."""

from pathlib import Path

from pydantic import PositiveFloat

from worker.section import Section, variable

__all__ = ["RuntimeSettings"]


class RuntimeSettings(Section):
    """Where the worker keeps its files, and how long it may take to stop."""

    logdir: Path = variable("DARKROOM_LOGDIR", Path("logs"))
    """Checkpoints, TensorBoard logs and the ledger of jobs; workers may share it."""
    stop_timeout_s: PositiveFloat = variable("DARKROOM_STOP_TIMEOUT_S", 10.0)
    """Seconds from SIGTERM to the end of the process."""
