"""Which checkpoint is served, and the one before: `deployed.json` in the log directory.

Every worker that shares the directory does the same commands in the same order, each at its own
pace. So each command carries its place in that order, and one that is not ahead of the record never
overwrites it: that worker goes straight to what the record says. What is recorded is kept as a
copy, which stays what it is when the job writes a better checkpoint over it.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import trainer
from worker.errors import BadCommand, WorkerError
from worker.images.deployment_record import DeployedModel, DeploymentRecord, Order, RecordFile
from worker.images.kept_checkpoints import KeptCheckpoints
from worker.images.predictor import Predictor

if TYPE_CHECKING:
    from worker.images.model import Model

__all__ = ["Deployment", "ServingState"]

ServingState = Literal["restoring", "waiting", "serving", "failed"]


class Deployment:
    """Puts checkpoints into the predictor and remembers which."""

    def __init__(
        self, logdir: Path, predictor: Predictor, load: "Callable[[Path, str], Model]"
    ) -> None:
        """Prepare to deploy.

        Args:
            logdir: the log directory that the workers share.
            predictor: gets the models.
            load: makes a model of a checkpoint's path and its job's name.
        """
        self._logdir = logdir.resolve()
        self._predictor = predictor
        self._load = load
        self._file = RecordFile(self._logdir)
        self._kept = KeptCheckpoints(self._logdir)
        self._one_at_a_time = asyncio.Lock()
        self._order: Order | None = None
        """The record's place in the order when this worker last did what it says, or tried."""
        self.current: DeployedModel | None = None
        self.state: ServingState = "restoring"
        """"waiting": nothing was ever deployed; "failed": what is deployed could not be served."""

    async def catch_up(self) -> DeployedModel | None:
        """Serve what the record says where this worker does not yet, and return it.

        A worker does so at its start, and now and then: a command may be too early for it to hear
        and too late for the record that it read.

        Raises:
            WorkerError: the record or its checkpoint is damaged, and how.
        """
        async with self._one_at_a_time:
            try:
                return await self._serve_newer_record()
            except WorkerError:
                if self.state == "restoring":
                    self.state = "failed"
                raise

    async def _serve_newer_record(self) -> DeployedModel | None:
        record = await asyncio.to_thread(self._file.read)
        if record is None:
            self.state = "waiting"
            return None
        if self._order is not None and record.order <= self._order:
            return None
        return await self._serve_record(record)

    async def reload(
        self, checkpoint: str, *, job: str | None, order: Order, force: bool = False
    ) -> DeployedModel:
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
            record = await asyncio.to_thread(self._file.read)
            if record is not None and record.order >= order:  # another worker was faster
                return await self._serve_record(record)
            path = self._inside(checkpoint)
            model = await self._load_model(path, job or Path(checkpoint).parts[0])
            if not force:
                self._check_form(checkpoint, model)
            await asyncio.to_thread(self._kept.keep, path, model.id.sha256)
            return await self._deploy(model, checkpoint, order)

    async def rollback(self, *, order: Order) -> DeployedModel:
        """Serve the checkpoint that was served before the current one.

        Raises:
            BadCommand: there is none, or it cannot be served any more; the old model goes on.
        """
        async with self._one_at_a_time:
            record = await asyncio.to_thread(self._file.read)
            if record is not None and record.order >= order:  # another worker was faster
                return await self._serve_record(record)
            if record is None or record.previous is None:
                raise BadCommand(
                    "there is no earlier model to go back to; deploy one with reload-checkpoint"
                )
            model = await self._load_deployed(record.previous)
            return await self._deploy(model, record.previous.checkpoint, order)

    def problem(self) -> str | None:
        """Say why nothing is served that should be; waiting for a first model is not a problem."""
        if self.state in ("serving", "waiting"):
            return None
        return f"what is deployed is not served: {self.state}"

    def as_metric(self) -> dict[str, float]:
        """Return 1 under the sha256 of what is served."""
        return {self.current.sha256: 1.0} if self.current else {}

    async def _serve_record(self, record: DeploymentRecord) -> DeployedModel:
        if self.current == record.current:
            self._order = record.order
            return record.current
        self._order = record.order  # also when it fails: it is not tried again every few seconds
        return self._serve(await self._load_deployed(record.current), record.current.checkpoint)

    async def _deploy(self, model: "Model", checkpoint: str, order: Order) -> DeployedModel:
        deployed = DeployedModel.of(model.id, checkpoint)
        record = await asyncio.to_thread(self._record, deployed, order)
        if record.current != deployed:
            return await self._serve_record(record)
        self._order = order
        return self._serve(model, checkpoint)

    async def _load_deployed(self, deployed: DeployedModel) -> "Model":
        """Return the model that was deployed, also when its checkpoint was written over since."""
        original = self._inside(deployed.checkpoint)
        path = await asyncio.to_thread(self._kept.find, deployed.sha256, original)
        return await self._load_model(path, deployed.job)

    async def _load_model(self, path: Path, job: str) -> "Model":
        try:
            return await asyncio.to_thread(self._load, path, job)
        except trainer.CheckpointError as error:
            raise BadCommand(str(error)) from error

    def _serve(self, model: "Model", checkpoint: str) -> DeployedModel:
        self._predictor.swap(model)
        self.state = "serving"
        self.current = DeployedModel.of(model.id, checkpoint)
        return self.current

    def _check_form(self, checkpoint: str, model: "Model") -> None:
        """Refuse a model whose predictions mean something else to those who read them."""
        if self.current is None:
            return
        served = self._predictor.model.form
        if model.form == served:
            return
        raise BadCommand(
            f"checkpoint {checkpoint!r} is for {model.form}, and what is served is for {served}; "
            'to serve it all the same, send reload-checkpoint with "force": true'
        )

    def _record(self, deployed: DeployedModel, order: Order) -> DeploymentRecord:
        with self._file.locked():
            record = self._file.write(deployed, order)
            self._kept.drop_all_but(record.sha256s)
            return record

    def _inside(self, checkpoint: str) -> Path:
        path = (self._logdir / checkpoint).resolve()
        if not path.is_relative_to(self._logdir):
            raise BadCommand(
                f"checkpoint {checkpoint!r} lies outside the log directory; "
                "give a path in it, such as JOB/checkpoints/best.pt"
            )
        return path
