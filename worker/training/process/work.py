"""What a job's process does with its task: it trains or evaluates, and returns an outcome."""

import os
import traceback

import trainer
from worker.errors import WorkerError
from worker.training.process.channel import Channel
from worker.training.process.messages import Outcome, Task

__all__ = ["failure", "perform"]


def perform(task: Task, channel: Channel) -> Outcome:
    """Do the task; every error becomes an outcome.

    Args:
        task: What to do, with `threads` for this process alone.
        channel: Receives the reports of a training.
    """
    try:
        if task.job.kind == "training":
            return _train(task, channel)
        return _evaluate(task, channel)
    except BaseException as error:
        return failure(error)


def _train(task: Task, channel: Channel) -> Outcome:
    import torch  # noqa: PLC0415 - not before the process has its environment

    from worker.training.process.observer import ChildObserver  # noqa: PLC0415 - imports torch

    torch.set_num_threads(task.threads)
    result = trainer.fit(
        trainer.Params.validate_all(task.job.params),
        task.datadir,
        task.logdir / task.job.name,
        observers=[ChildObserver(channel.send, task.logdir)],
        resume=True,
        should_stop=channel.should_stop,
    )
    return Outcome(
        status=result.status,
        epoch=result.epoch,
        num_epochs=result.num_epochs,
        best=str(result.best.relative_to(task.logdir)) if result.best else None,
        metrics=dict(result.metrics),
    )


def _evaluate(task: Task, channel: Channel) -> Outcome:
    import torch  # noqa: PLC0415 - not before the process has its environment

    torch.set_num_threads(task.threads)
    channel.should_stop()
    path = task.logdir / str(task.job.checkpoint)
    found = trainer.evaluate(path, task.datadir, kind=task.job.split)
    return Outcome(
        status="finished",
        metrics=dict(found.metrics),
        per_class={name: dict(metrics) for name, metrics in found.per_class.items()},
        images=found.images,
    )


def failure(error: BaseException) -> Outcome:
    """Return the outcome of a task that ended in an error."""
    if isinstance(error, trainer.TrainerError | WorkerError):
        return Outcome(status="failed", reason=str(error))
    if _is_about_memory(error):
        reason = "there was not enough memory; take a smaller batch_size, net_arch or image size"
        return Outcome(status="failed", reason=f"{reason} ({_one_line(error)})")
    if _is_about_a_peer(error):
        return Outcome(status="died", reason=_one_line(error))
    trace = "".join(traceback.format_exception(error))
    return Outcome(status="failed", reason=_one_line(error), trace=trace)


def _is_about_memory(error: BaseException) -> bool:
    # torch raises RuntimeError for it on the CPU and a subclass of RuntimeError on a GPU
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("can't allocate memory" in words or "out of memory" in words)
    )


def _is_about_a_peer(error: BaseException) -> bool:
    """Whether another process of the same training has gone; gloo has no class for that error."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    from torch.distributed import DistError  # noqa: PLC0415 - as above

    return isinstance(error, DistError) or "/gloo/" in str(error)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
