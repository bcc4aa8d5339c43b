"""Which checkpoint is served, and the one before: `deployed.json` in the log directory.

Every worker that shares the directory does the same commands in the same order, each at its own
pace. So each command carries its place in that order, and one that is not ahead of the record never
overwrites it: that worker goes straight to what the record says. What is recorded is kept as a
copy, which stays what it is when the job writes a better checkpoint over it.
"""

import asyncio
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

import trainer
from worker.errors import BadCommand, WorkerError
from worker.images.kept_checkpoints import KeptCheckpoints
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
        self._kept = KeptCheckpoints(self._logdir)
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
            path = self._inside(checkpoint)
            model = await self._load_model(path, job or Path(checkpoint).parts[0])
            if not force:
                self._check_form(checkpoint, model)
            await asyncio.to_thread(self._kept.keep, path, model.name.sha256)
            return await self._deploy(model, checkpoint, order)

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
            model = await self._loaded(record.previous)
            return await self._deploy(model, record.previous.checkpoint, order)

    def problem(self) -> str | None:
        """Say why nothing is served that should be; waiting for a first model is not a problem."""
        if self.state in ("serving", "waiting"):
            return None
        return f"what is deployed is not served: {self.state}"

    def as_metric(self) -> dict[str, float]:
        """Return 1 under the sha256 of what is served."""
        return {self.current.sha256: 1.0} if self.current else {}

    async def _serve_record(self, record: Record) -> Deployed:
        if self.current == record.current:
            self._order = record.order
            return record.current
        self._order = record.order  # also when it fails: it is not tried again every few seconds
        return self._serve(await self._loaded(record.current), record.current.checkpoint)

    async def _deploy(self, model: "Model", checkpoint: str, order: Order) -> Deployed:
        deployed = _deployed(model, checkpoint)
        record = await asyncio.to_thread(self._record, deployed, order)
        if record.current != deployed:
            return await self._serve_record(record)
        self._order = order
        return self._serve(model, checkpoint)

    async def _loaded(self, deployed: Deployed) -> "Model":
        """Return the model that was deployed, also when its checkpoint was written over since."""
        original = self._inside(deployed.checkpoint)
        path = await asyncio.to_thread(self._kept.find, deployed.sha256, original)
        return await self._load_model(path, deployed.job)

    async def _load_model(self, path: Path, job: str) -> "Model":
        try:
            return await asyncio.to_thread(self._load, path, job)
        except trainer.CheckpointError as error:
            raise BadCommand(str(error)) from error

    def _serve(self, model: "Model", checkpoint: str) -> Deployed:
        self._predictor.swap(model)
        self.state = "serving"
        self.current = _deployed(model, checkpoint)
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

    def _record(self, deployed: Deployed, order: Order) -> Record:
        """Write what is deployed, unless another worker was faster; return what holds."""
        with self._locked():
            record = self._read()
            if record is not None and record.order >= order:
                return record
            previous = record.current if record else None
            new = Record(current=deployed, previous=previous, order=order)
            trainer.write_durably(self._path, new.model_dump_json(indent=1).encode())
            in_use = {one.sha256 for one in (new.current, new.previous) if one}
            self._kept.drop_all_but(in_use)
            return new

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._logdir.mkdir(parents=True, exist_ok=True)
        with (self._logdir / "deployed.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _deployed(model: "Model", checkpoint: str) -> Deployed:
    name = model.name
    return Deployed(job=name.job, checkpoint=checkpoint, epoch=name.epoch, sha256=name.sha256)
