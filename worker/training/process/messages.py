"""Messages between a worker and a job's process: one JSON object per line, in both directions.

The process gets its `Task` when it is started. Afterwards it sends pulses, reports and at last its
outcome; the worker sends at most one `Stop`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from worker.training.jobs.job import Job

__all__ = [
    "JobCheckpoint",
    "JobEpoch",
    "JobReport",
    "JobStarted",
    "Outcome",
    "ProcessMessage",
    "Pulse",
    "Stop",
    "Task",
    "from_line",
    "to_line",
]

Metrics = dict[str, float | None]
"""Figures by name; NaN and infinity, which JSON does not have, become None."""


@dataclass(frozen=True)
class Task:
    """What a process is asked to do.

    Attributes:
        logdir: The worker's log directory, which contains the job's folder.
        threads: Threads for the computation, of all the job's processes together.
    """

    job: Job
    logdir: Path
    datadir: Path
    threads: int

    @property
    def threads_per_process(self) -> int:
        """Each process's share of the threads, at least 1."""
        return max(1, self.threads // self.job.processes)


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class Stop(_Message):
    """The worker asks the process to save a checkpoint and end."""

    message: Literal["stop"] = "stop"


class Pulse(_Message):
    """The process makes progress; sent about once per second while a training runs."""

    message: Literal["pulse"] = "pulse"


class JobStarted(_Message):
    """The data is open and the first batch comes next; `first_epoch` epochs are done."""

    message: Literal["started"] = "started"
    num_epochs: int
    first_epoch: int
    n_train: int
    n_test: int
    resumed: bool


class JobEpoch(_Message):
    """An epoch is done. `test_loss` is None and `test_metrics` empty when it was not tested."""

    message: Literal["epoch"] = "epoch"
    epoch: int
    num_epochs: int
    train_loss: float | None
    test_loss: float | None
    train_metrics: Metrics
    test_metrics: Metrics
    learning_rate: float | None
    images_per_s: float


class JobCheckpoint(_Message):
    """A checkpoint is on disk; `checkpoint` is its path relative to the log directory."""

    message: Literal["checkpoint"] = "checkpoint"
    checkpoint: str
    epoch: int
    is_best: bool
    metrics: Metrics


class Outcome(_Message):
    """How the task ended; the last message of a process.

    Attributes:
        status: "finished"; "stopped" when it was asked to stop and has saved; "failed" when another
            attempt would fail too; "died" when one of several processes died.
        reason: Why it failed or died, for people.
        trace: The traceback of an error that its reason does not explain.
        epoch: Number of epochs that are done.
        best: The best checkpoint of a training, relative to the log directory.
        images: Number of images that an evaluation was made on.
        per_class: Metrics of an evaluation by class name.
    """

    message: Literal["outcome"] = "outcome"
    status: Literal["finished", "stopped", "failed", "died"]
    reason: str | None = None
    trace: str | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    best: str | None = None
    metrics: Metrics = {}
    images: int | None = None
    per_class: dict[str, Metrics] = {}


JobReport = JobStarted | JobEpoch | JobCheckpoint
"""What a process says about its progress."""

ProcessMessage = Stop | Pulse | JobReport | Outcome

_message: TypeAdapter[ProcessMessage] = TypeAdapter(
    Annotated[ProcessMessage, Field(discriminator="message")]
)


def to_line(message: ProcessMessage) -> bytes:
    """Return a message as a line of JSON."""
    return message.model_dump_json().encode() + b"\n"


def from_line(line: bytes) -> ProcessMessage:
    """Return the message of a line.

    Raises:
        ValidationError: The line is not a message; both ends run the same program, so it is a bug.
    """
    return _message.validate_json(line)
