"""Which checkpoint is served, and the one before: `deployed.json` in the log directory.

Every worker that shares the directory does the same commands in the same order, each at its own
pace. So each command carries its place in that order, and one that is behind the record never
overwrites it: that worker goes straight to what the record says.
"""

import asyncio
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

import trainer
from worker.durable import write_durably
from worker.errors import BadCommand, WorkerError
from worker.images.predictor import Predictor

if TYPE_CHECKING:
    from worker.images.model import Model

__all__ = ["Deployed", "Deployment", "Order"]

State = Literal["restoring", "waiting", "serving", "failed"]
Order = tuple[int, int]
"""A command's place among all commands: its record's timestamp in ms, then its offset."""


class Deployed(BaseModel):
    """A checkpoint that is served; `checkpoint` is its path in the log directory."""

    model_config = ConfigDict(frozen=True)

    job: str
    checkpoint: str
    epoch: int
    sha256: str


class Record(BaseModel):
    """What `deployed.json` holds."""

    model_config = ConfigDict(frozen=True)

    current: Deployed
    previous: Deployed | None = None
    order: Order


class Deployment:
    """Puts checkpoints into the predictor and remembers which."""

    def __init__(
        self, logdir: Path, predictor: Predictor, load: "Callable[[Path, str], Model]"
    ) -> None:
        """Take the log directory, the predictor to feed, and how a checkpoint becomes a model."""
        self._logdir = logdir.resolve()
        self._predictor = predictor
        self._load = load
        self._one_at_a_time = asyncio.Lock()
        self.current: Deployed | None = None
        self.state: State = "restoring"
        """"waiting": nothing was ever deployed; "failed": what is deployed could not be served."""

    async def restore(self) -> Deployed | None:
        """Serve what the record says, when there is one.

        Raises:
            WorkerError: the record or its checkpoint is damaged, and how.
        """
        async with self._one_at_a_time:
            self.state = "failed"
            record = await asyncio.to_thread(self._read)
            if record is None:
                self.state = "waiting"
            else:
                await self._serve(record.current.checkpoint, record.current.job)
        return self.current

    async def reload(self, checkpoint: str, *, job: str | None, order: Order) -> Deployed:
        """Serve a checkpoint, given by its path in the log directory.

        Raises:
            BadCommand: it cannot be served, and why; the old model goes on.
        """
        async with self._one_at_a_time:
            record = await asyncio.to_thread(self._read)
            if record is not None and record.order > order:
                return await self._serve(record.current.checkpoint, record.current.job)
            deployed = await self._serve(checkpoint, job or Path(checkpoint).parts[0])
            await asyncio.to_thread(self._record, deployed, order)
            return deployed

    async def rollback(self, *, order: Order) -> Deployed:
        """Serve the checkpoint that was served before the current one.

        Raises:
            BadCommand: there is none, or it cannot be served any more; the old model goes on.
        """
        async with self._one_at_a_time:
            record = await asyncio.to_thread(self._read)
            if record is not None and record.order >= order:  # another worker was faster
                return await self._serve(record.current.checkpoint, record.current.job)
            if record is None or record.previous is None:
                raise BadCommand(
                    "there is no earlier model to go back to; deploy one with reload-checkpoint"
                )
            deployed = await self._serve(record.previous.checkpoint, record.previous.job)
            await asyncio.to_thread(self._record, deployed, order)
            return deployed

    def as_metric(self) -> dict[str, float]:
        """Return 1 under the sha256 of what is served."""
        return {self.current.sha256: 1.0} if self.current else {}

    async def _serve(self, checkpoint: str, job: str) -> Deployed:
        path = self._inside(checkpoint)
        try:
            model = await asyncio.to_thread(self._load, path, job)
        except trainer.CheckpointError as error:
            raise BadCommand(str(error)) from error
        self._predictor.swap(model)
        self.state = "serving"
        name = model.name
        self.current = Deployed(
            job=name.job, checkpoint=checkpoint, epoch=name.epoch, sha256=name.sha256
        )
        return self.current

    def _inside(self, checkpoint: str) -> Path:
        path = (self._logdir / checkpoint).resolve()
        if not path.is_relative_to(self._logdir):
            raise BadCommand(
                f"checkpoint {checkpoint!r} lies outside the log directory; "
                "give a path in it, such as JOB/checkpoints/best.pt"
            )
        return path

    @property
    def _path(self) -> Path:
        return self._logdir / "deployed.json"

    def _read(self) -> Record | None:
        try:
            return Record.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise WorkerError(
                f"{self._path}: is damaged ({error.error_count()} errors); "
                "delete it and deploy a checkpoint with reload-checkpoint"
            ) from error

    def _record(self, deployed: Deployed, order: Order) -> None:
        with self._locked():
            record = self._read()
            if record is not None and record.order >= order:
                return
            previous = record.current if record else None
            new = Record(current=deployed, previous=previous, order=order)
            write_durably(self._path, new.model_dump_json(indent=1).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._logdir.mkdir(parents=True, exist_ok=True)
        with (self._logdir / "deployed.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
