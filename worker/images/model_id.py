"""Which model made a prediction."""

from dataclasses import dataclass

__all__ = ["ModelId"]


@dataclass(frozen=True, slots=True)
class ModelId:
    """Identifies a served model in predictions, events and metrics.

    Attributes:
        job: the job that trained it.
        epoch: epochs that were done when its checkpoint was written.
        sha256: hash of its checkpoint's file, in hex.
    """

    job: str
    epoch: int
    sha256: str
