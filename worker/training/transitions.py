"""How a job's record changes with what happens to its process."""

from worker.training.jobs.job import Job, JobState
from worker.training.process.messages import JobCheckpoint, JobEpoch, Outcome

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_CRASHES",
    "after_checkpoint",
    "after_crash",
    "after_epoch",
    "after_outcome",
    "begin_attempt",
    "fail",
]

MAX_CRASHES = 3
MAX_ATTEMPTS = 10  # higher: it also counts workers that were killed, which is no fault of the job


def begin_attempt(job: Job, worker: str) -> Job:
    """Return the job as a worker begins to work on it, failed if it was begun too often."""
    if job.attempts >= MAX_ATTEMPTS:
        return fail(job, f"it was started {job.attempts} times and never got to a checkpoint")
    return job.replaced(state=JobState.RUNNING, attempts=job.attempts + 1, worker=worker)


def after_epoch(job: Job, report: JobEpoch) -> Job:
    """Return the job with one more epoch done."""
    return job.replaced(epoch=report.epoch, num_epochs=report.num_epochs)


def after_checkpoint(job: Job, report: JobCheckpoint) -> Job:
    """Return the job with a new checkpoint, from which an attempt that fails later goes on."""
    best = report.checkpoint if report.is_best else job.checkpoint
    return job.replaced(attempts=1, crashes=0, reason=None, epoch=report.epoch, checkpoint=best)


def after_outcome(job: Job, outcome: Outcome) -> Job:
    """Return the job as its process has left it; a stopped one waits to be taken up again."""
    match outcome.status:
        case "finished":
            return job.replaced(
                state=JobState.FINISHED,
                reason=None,
                epoch=outcome.epoch,
                num_epochs=outcome.num_epochs,
                checkpoint=outcome.best or job.checkpoint,
                metrics=outcome.metrics,
                images=outcome.images,
                per_class=outcome.per_class,
            )
        case "stopped":
            return job.replaced(state=JobState.ACCEPTED, attempts=0, epoch=outcome.epoch)
        case _:
            return fail(job, outcome.reason)


def after_crash(job: Job, reason: str) -> Job:
    """Return the job after its process died: to be tried again, or failed after the third time."""
    crashes = job.crashes + 1
    if crashes < MAX_CRASHES:
        return job.replaced(crashes=crashes, reason=reason)
    reason = f"{reason}; that was {crashes} times without a new checkpoint"
    return fail(job.replaced(crashes=crashes), reason)


def fail(job: Job, reason: str | None) -> Job:
    """Return the job as failed."""
    return job.replaced(state=JobState.FAILED, reason=reason)
