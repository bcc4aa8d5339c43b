"""A job's record: what is to be done, and how far it has come."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Job", "JobKind", "JobState"]

JobKind = Literal["training", "evaluation"]


class JobState(StrEnum):
    """Where a job stands; the lock, not the state, says whether a process works on it."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job will never be worked on again."""
        return self in {JobState.FINISHED, JobState.FAILED, JobState.CANCELLED}


class Job(BaseModel):
    """All that is known about a job, as `job.json` holds it.

    Attributes:
        name: The name of the job and of its folder: the id of the command that asked for it.
        kind: What to do.
        params: The trainer's params, complete: the worker's defaults and the command's on top.
        deploy: Whether the best checkpoint is served when the training has finished.
        processes: How many processes train together.
        split: The images that an evaluation measures on.
        checkpoint: The checkpoint to evaluate, or the best one of a training; a path relative to
            the log directory.
        published_state: The last state that the broker has confirmed on the events topic.
        attempts: Starts in a row that brought no new checkpoint.
        crashes: Processes in a row that died without a new checkpoint while their worker lived on.
        reason: Why the job failed, or why its last process died.
        images: Number of images that an evaluation was made on.
        per_class: Metrics of an evaluation by class name.
        worker: The worker that took the job last.
        accepted_at: Seconds since the epoch; so is `ended_at`.
    """

    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)

    name: str
    kind: JobKind = "training"
    params: dict[str, Any] = {}
    deploy: Literal["best", "never"] = "best"
    processes: int = 1
    split: Literal["train", "test"] = "test"
    checkpoint: str | None = None
    state: JobState = JobState.ACCEPTED
    published_state: JobState | None = Field(default=None, alias="told")
    attempts: int = 0
    crashes: int = 0
    reason: str | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    metrics: dict[str, float | None] = {}
    images: int | None = None
    per_class: dict[str, dict[str, float | None]] = {}
    worker: str | None = None
    accepted_at: float | None = None
    ended_at: float | None = None

    @property
    def needs_work(self) -> bool:
        """Whether the job has not ended, or its end has not been published."""
        return not self.state.is_final or self.published_state is not self.state

    def replaced(self, **changes: Any) -> "Job":
        """Return the job with some fields changed."""
        return self.model_copy(update=changes)
