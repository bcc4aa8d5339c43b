"""Which checkpoint is served, and the one before: `deployed.json` in the log directory.

Every worker that shares the directory does the same commands in the same order, each at its own
pace. So each command carries its place in that order, and one that is not ahead of the record never
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
        self._order: Order | None = None
        """The record's place in the order when this worker last did what it says, or tried."""
        self.current: Deployed | None = None
        self.state: State = "restoring"
        """"waiting": nothing was ever deployed; "failed": what is deployed could not be served."""

    async def follow(self) -> Deployed | None:
        """Serve what the record says where this worker does not yet, and return it.

        A worker does so at its start, and now and then: a command may be too early for it to hear
        and too late for the record that it read.

        Raises:
            WorkerError: the record or its checkpoint is damaged, and how.
        """
        async with self._one_at_a_time:
            if self.state == "restoring":
                self.state = "failed"
            record = await asyncio.to_thread(self._read)
            if record is None:
                self.state = "waiting"
                return None
            if self._order is not None and record.order <= self._order:
                return None
            return await self._serve_record(record)

    async def reload(
        self, checkpoint: str, *, job: str | None, order: Order, force: bool = False
    ) -> Deployed:
        """Serve a checkpoint, given by its path in the log directory.

        Args:
            checkpoint: its path.
            job: the job that wrote it; by default the first part of the path.
            order: the command's place among all commands.
            force: also one with other classes or another input than what is served.

        Raises:
            BadCommand: it cannot be served, and why; the old model goes on.
        """
        async with self._one_at_a_time:
            record = await asyncio.to_thread(self._read)
            if record is not None and record.order >= order:  # another worker was faster
                return await self._serve_record(record)
            job = job or Path(checkpoint).parts[0]
            return await self._deploy(checkpoint, job, order, in_any_form=force)

    async def rollback(self, *, order: Order) -> Deployed:
        """Serve the checkpoint that was served before the current one.

        Raises:
            BadCommand: there is none, or it cannot be served any more; the old model goes on.
        """
        async with self._one_at_a_time:
            record = await asyncio.to_thread(self._read)
            if record is not None and record.order >= order:  # another worker was faster
                return await self._serve_record(record)
            if record is None or record.previous is None:
                raise BadCommand(
                    "there is no earlier model to go back to; deploy one with reload-checkpoint"
                )
            previous = record.previous
            return await self._deploy(previous.checkpoint, previous.job, order, in_any_form=True)

    def as_metric(self) -> dict[str, float]:
        """Return 1 under the sha256 of what is served."""
        return {self.current.sha256: 1.0} if self.current else {}

    async def _serve_record(self, record: Record) -> Deployed:
        if self.current == record.current:
            self._order = record.order
            return record.current
        self._order = record.order  # also when it fails: it is not tried again every few seconds
        return await self._serve(record.current.checkpoint, record.current.job, in_any_form=True)

    async def _deploy(
        self, checkpoint: str, job: str, order: Order, *, in_any_form: bool
    ) -> Deployed:
        deployed = await self._serve(checkpoint, job, in_any_form=in_any_form)
        await asyncio.to_thread(self._record, deployed, order)
        self._order = order
        return deployed

    async def _serve(self, checkpoint: str, job: str, *, in_any_form: bool) -> Deployed:
        path = self._inside(checkpoint)
        try:
            model = await asyncio.to_thread(self._load, path, job)
        except trainer.CheckpointError as error:
            raise BadCommand(str(error)) from error
        if not in_any_form:
            self._check_form(checkpoint, model)
        self._predictor.swap(model)
        self.state = "serving"
        name = model.name
        self.current = Deployed(
            job=name.job, checkpoint=checkpoint, epoch=name.epoch, sha256=name.sha256
        )
        return self.current

    def _check_form(self, checkpoint: str, model: "Model") -> None:
        """Refuse a model whose predictions mean something else to those who read them."""
        if self.current is None or model.form == (served := self._predictor.model.form):
            return
        raise BadCommand(
            f"checkpoint {checkpoint!r} is for {model.form}, and what is served is for {served}; "
            'to serve it all the same, send reload-checkpoint with "force": true'
        )

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
