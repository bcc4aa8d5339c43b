"""The ledger of jobs: one folder a job in the log directory, with `job.json` and a lock file.

It promises that a job which was written is there after a crash of the process or the machine,
and that a job is worked on by one process at a time, whichever workers share the directory.
"""

import fcntl
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

import trainer
from worker.errors import WorkerError

__all__ = ["Job", "JobDamaged", "JobState", "Ledger", "Lock"]

logger = logging.getLogger(__name__)


class JobState(StrEnum):
    """Where a job stands; whether a process works on it is told by the lock, not by the state."""

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
    """All that is known of a job, as `job.json` holds it.

    Attributes:
        name: The job's name and its folder's, the id of the command that asked for it.
        kind: What to do.
        params: The trainer's params, complete: the worker's defaults and the command's on top.
        checkpoint: To be evaluated; of a training the best one. Relative to the log directory.
        told: The last state that the broker confirmed on the events topic.
        images: That an evaluation was made on; `per_class` has its metrics by class name.
        attempts: Starts in a row that brought no new checkpoint.
        crashes: Processes in a row that died without a new checkpoint while their worker lived on.
        worker: The worker that took it last.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["training", "evaluation"] = "training"
    params: dict[str, Any] = {}
    deploy: Literal["best", "never"] = "best"
    processes: int = 1
    split: Literal["train", "test"] = "test"
    checkpoint: str | None = None
    state: JobState = JobState.ACCEPTED
    told: JobState | None = None
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

    def replaced(self, **changes: Any) -> "Job":
        """The job with some fields changed."""
        return self.model_copy(update=changes)


class JobDamaged(WorkerError):  # noqa: N818 - the job is damaged, the ledger is fine
    """A `job.json` cannot be read."""


class Lock:
    """A held lock on a job; `close` lets it go, and so does the death of every process that has it.

    The lock belongs to the open file, not to the process: handing the descriptor to a child makes
    both hold it, and only when both have closed it, or died, is it free. So it is never unlocked
    explicitly, which would free it under the other.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor, to be handed to the process that does the work."""
        return self._descriptor

    def close(self) -> None:
        """Let go of it here."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Ledger:
    """The jobs of a log directory.

    Every method blocks on the disk; call them from a thread when an event loop runs.

    Args:
        logdir: The log directory; workers may share it. It is made when it is not there.
        clock: Seconds since the epoch.
    """

    def __init__(self, logdir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.logdir = logdir
        self.clock = clock
        self._complained: set[str] = set()
        self._told: dict[Path, tuple[int, Job]] = {}

    def folder(self, name: str) -> Path:
        """The job's folder, which is also the trainer's log directory for it."""
        return self.logdir / name

    def lock(self, name: str) -> Lock | None:
        """Take the job's lock without waiting; None when another process holds it."""
        folder = self.folder(name)
        trainer.make_folder_durably(folder)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return Lock(descriptor)

    def read(self, name: str) -> Job | None:
        """The job, or None when there is none of that name.

        Raises:
            JobDamaged: When its file is there and cannot be understood.
        """
        path = self.folder(name) / "job.json"
        try:
            return Job.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError as error:
            where = path.relative_to(self.logdir)
            raise JobDamaged(
                f"{where} is damaged ({error.errors()[0]['msg']}); repair it, or delete the folder"
            ) from None

    def write(self, job: Job) -> Job:
        """Keep the job, so that it survives whatever happens next. The caller holds its lock."""
        content = job.model_dump_json(indent=2).encode()
        trainer.write_durably(self.folder(job.name) / "job.json", content)
        return job

    def jobs(self) -> list[Job]:
        """Every job, the oldest first; a damaged one is logged and left out."""
        found = [self._look_at(path) for path in self.logdir.glob("*/job.json")]
        jobs = [job for job in found if job is not None]
        return sorted(jobs, key=lambda job: (job.accepted_at or 0.0, job.name))

    def count_by_state(self) -> dict[str, float]:
        """How many jobs are in each state."""
        return dict(Counter(job.state for job in self.jobs()))

    def _look_at(self, path: Path) -> Job | None:
        """The job of a file; what is over and told is not read again every few seconds."""
        name = path.parent.name
        try:
            written_at = path.stat().st_mtime_ns
            known = self._told.get(path)
            if known is not None and known[0] == written_at:
                return known[1]
            job = self.read(name)
        except FileNotFoundError:
            return None
        except JobDamaged as error:
            self._complain(name, error)
            return None
        if job is not None and job.state.is_final and job.told is job.state:
            self._told[path] = (written_at, job)
        return job

    def _complain(self, name: str, error: JobDamaged) -> None:
        """Say it once; the ledger is read every few seconds."""
        if name not in self._complained:
            self._complained.add(name)
            logger.warning("A job is passed over: %s", error)

    def is_foreign(self, name: str) -> bool:
        """Whether the folder of that name is in use for something that is no job."""
        folder = self.folder(name)
        if folder.exists() and not folder.is_dir():
            return True
        return folder.is_dir() and any(
            path.name != "lock" and not path.name.startswith(".") for path in folder.iterdir()
        )

    def ask_to_stop(self, name: str, command_id: str) -> None:
        """Note that a job shall be cancelled. Needs no lock; who works on the job finds it."""
        content = json.dumps({"id": command_id}).encode()
        trainer.write_durably(self.folder(name) / "stop.json", content)

    def asked_to_stop(self, name: str) -> str | None:
        """The id of the command that cancels the job, if there was one."""
        try:
            request: Mapping[str, str] = json.loads((self.folder(name) / "stop.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return request["id"]
