"""`deployed.json` in the log directory: which checkpoint is deployed, and the one before.

Workers that share the directory write it in the order of the commands, whichever is faster.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import trainer
from worker.errors import WorkerError
from worker.images.model_id import ModelId

__all__ = ["DeployedModel", "DeploymentRecord", "Order", "RecordFile"]

Order = tuple[int, int]
"""A command's place among all commands: its record's timestamp in ms, then its offset."""


class DeployedModel(BaseModel):
    """A checkpoint that is deployed."""

    model_config = ConfigDict(frozen=True)

    job: str
    checkpoint: str
    """Its path in the log directory."""
    epoch: int
    sha256: str

    @classmethod
    def of(cls, model: ModelId, checkpoint: str) -> "DeployedModel":
        """Return what is deployed when a model is served from a checkpoint."""
        return cls(job=model.job, checkpoint=checkpoint, epoch=model.epoch, sha256=model.sha256)

    def as_event(self) -> dict[str, Any]:
        """Return the fields of an event that tells of it."""
        model = {"job": self.job, "epoch": self.epoch, "sha256": self.sha256}
        return {"model": model, "checkpoint": self.checkpoint}


class DeploymentRecord(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(frozen=True)

    current: DeployedModel
    previous: DeployedModel | None = None
    order: Order
    """Place of the command that deployed it."""

    @property
    def sha256s(self) -> set[str]:
        """The checkpoints that a worker may have to serve by this record."""
        return {one.sha256 for one in (self.current, self.previous) if one}


class RecordFile:
    """The record of a log directory."""

    def __init__(self, logdir: Path) -> None:
        self._path = logdir / "deployed.json"
        self._lock_path = logdir / "deployed.lock"

    def read(self) -> DeploymentRecord | None:
        """Return the record, None when nothing was ever deployed.

        Raises:
            WorkerError: the file is damaged.
        """
        try:
            return DeploymentRecord.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise WorkerError(
                f"{self._path} is damaged ({error.error_count()} errors); "
                "delete it and deploy a checkpoint with reload-checkpoint"
            ) from error

    def write(self, deployed: DeployedModel, order: Order) -> DeploymentRecord:
        """Record what is deployed, unless a later command has been recorded; call it `locked`.

        Returns:
            What the file holds now: another worker's record where that one is ahead.
        """
        record = self.read()
        if record is not None and record.order >= order:
            return record
        previous = record.current if record else None
        new = DeploymentRecord(current=deployed, previous=previous, order=order)
        trainer.write_durably(self._path, new.model_dump_json(indent=1).encode())
        return new

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other workers from recording meanwhile."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
