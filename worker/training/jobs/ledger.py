"""The ledger of jobs: one folder per job in the log directory, with `job.json` and a lock file.

It promises that a written job is still there after a crash of the process or the machine, and that
one worker at a time works on a job, whichever workers share the directory.
"""

import fcntl
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from pydantic import ValidationError

import trainer
from worker.errors import WorkerError
from worker.training.jobs.job import Job

__all__ = ["JobDamaged", "Ledger", "Lock"]

logger = logging.getLogger(__name__)


class JobDamaged(WorkerError):  # noqa: N818 - the job is damaged, the ledger is fine
    """A `job.json` cannot be read."""


class Lock:
    """A held lock on a job, until every process that has its descriptor has closed it or died.

    The lock belongs to the open file, not to the process: a child that gets the descriptor holds
    the lock too. Therefore the lock is never unlocked explicitly, which would free it for both.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor, for the process that does the work."""
        return self._descriptor

    def close(self) -> None:
        """Close this process's descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Ledger:
    """The jobs of a log directory.

    Every method blocks on the disk; call them from a thread when an event loop runs.

    Args:
        logdir: The log directory; workers may share it. It is created when it does not exist.
        clock: Seconds since the epoch.
    """

    def __init__(self, logdir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.logdir = logdir
        self.clock = clock
        self._reported: set[str] = set()
        self._ended: dict[Path, tuple[int, Job]] = {}

    def folder(self, name: str) -> Path:
        """Return the job's folder, which is also the trainer's log directory for it."""
        return self.logdir / name

    def lock(self, name: str) -> Lock | None:
        """Take the job's lock without waiting, or return None when another process holds it."""
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
        """Return the job, or None when there is no job of that name.

        Raises:
            JobDamaged: The job's file exists and cannot be understood.
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
        """Write the job durably. The caller holds its lock."""
        content = job.model_dump_json(indent=2).encode()
        trainer.write_durably(self.folder(job.name) / "job.json", content)
        return job

    def jobs(self) -> list[Job]:
        """Return every job, the oldest first; a damaged one is logged and left out."""
        found = [self._job_at(path) for path in self.logdir.glob("*/job.json")]
        jobs = [job for job in found if job is not None]
        return sorted(jobs, key=lambda job: (job.accepted_at or 0.0, job.name))

    def count_by_state(self) -> dict[str, float]:
        """Return the number of jobs in each state."""
        return dict(Counter(job.state for job in self.jobs()))

    def _job_at(self, path: Path) -> Job | None:
        """Return a file's job; the file of a job that needs no work is read again only when new."""
        name = path.parent.name
        try:
            written_at = path.stat().st_mtime_ns
            known = self._ended.get(path)
            if known is not None and known[0] == written_at:
                return known[1]
            job = self.read(name)
        except FileNotFoundError:
            return None
        except JobDamaged as error:
            self._report(name, error)
            return None
        if job is not None and not job.needs_work:
            self._ended[path] = (written_at, job)
        return job

    def _report(self, name: str, error: JobDamaged) -> None:
        """Log a damaged job once; the ledger is read every few seconds."""
        if name not in self._reported:
            self._reported.add(name)
            logger.warning("job=%s: left out: %s", name, error)

    def is_foreign(self, name: str) -> bool:
        """Whether the folder of that name holds something that is not a job."""
        folder = self.folder(name)
        if folder.exists() and not folder.is_dir():
            return True
        return folder.is_dir() and any(
            path.name != "lock" and not path.name.startswith(".") for path in folder.iterdir()
        )

    def request_stop(self, name: str, command_id: str) -> None:
        """Note beside a job that it is to be cancelled; the worker that holds the lock reads it."""
        content = json.dumps({"id": command_id}).encode()
        trainer.write_durably(self.folder(name) / "stop.json", content)

    def stop_request(self, name: str) -> str | None:
        """Return the id of the command that cancels the job, or None."""
        try:
            request: Mapping[str, str] = json.loads((self.folder(name) / "stop.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return request["id"]
