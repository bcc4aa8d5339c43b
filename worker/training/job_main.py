"""What runs in a job's own process: the trainer, with the worker listening at the other end.

The process never outlives its worker, takes its orders from nobody else (a Ctrl-C in the terminal
reaches the worker, which then tells it), and gives way to the serving in every respect.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

import trainer
from worker.training.jobs import Job

__all__ = ["Channel", "Outcome", "Task", "prepare", "run"]

NICENESS = 10
OOM_SCORE = 800  # of 1000: the kernel ends the training before the worker that serves
PULSE_S = 1.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_channel: ContextVar["Channel"] = ContextVar("channel")


@dataclass(frozen=True)
class Task:
    """What the process is asked to do.

    Attributes:
        logdir: The worker's log directory; the job's folder is in it.
        threads: For the computation.
    """

    job: Job
    logdir: Path
    datadir: Path
    threads: int


@dataclass(frozen=True)
class Outcome:
    """How it went.

    Attributes:
        status: "finished", "stopped" (asked to, and saved before it did), or "failed".
        reason: For people, when it failed.
        trace: The traceback, when the failure is not one that its reason explains.
        best: The best checkpoint of a training, relative to the log directory.
        images: That an evaluation was made on, and `per_class` its metrics by class name.
    """

    status: Literal["finished", "stopped", "failed"]
    reason: str | None = None
    trace: str | None = None
    epoch: int | None = None
    num_epochs: int | None = None
    best: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    images: int | None = None
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)


class Channel:
    """The child's end of the line to its worker: JSON lines up, the order to stop down.

    An end of file from the worker means that it is dead, and then this process dies too.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._stop = threading.Event()
        self._pulsed_at = 0.0

    def receive_lock(self) -> int:
        """Take over the job's lock, which from now on lives as long as this process."""
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            os._exit(1)  # the worker died before it could send it
        return descriptors[0]

    def listen(self) -> None:
        """Hear the worker from now on, in a thread of its own."""
        threading.Thread(target=self._listen, name="worker", daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(64):
                self._stop.set()
        os._exit(1)  # without clean-up: the job goes on from its last checkpoint elsewhere

    def send(self, message: str, **fields: Any) -> None:
        """Tell the worker something; waits when it does not keep up."""
        line = orjson.dumps({"message": message, **fields}, option=orjson.OPT_SERIALIZE_NUMPY)
        self._socket.sendall(line + b"\n")

    def should_stop(self) -> bool:
        """Whether the worker wants an end; being asked is also the sign of life it waits for."""
        now = time.monotonic()
        if now - self._pulsed_at >= PULSE_S:
            self._pulsed_at = now
            self.send("pulse")
        return self._stop.is_set()

    def close_sending(self) -> None:
        """Say that nothing more comes; the worker's death is still noticed."""
        self._socket.shutdown(socket.SHUT_WR)


def prepare(end: socket.socket, threads: int) -> None:
    """Settle the new process before anything is imported that looks at its surroundings.

    Args:
        end: This process's end of the line to the worker.
        threads: For the computation; read from the environment when torch is imported.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    _die_with_parent()
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    _channel.set(Channel(end))


def _die_with_parent() -> None:
    """Have the kernel end this process with the worker, however that ends (Linux).

    Elsewhere the end of file on the channel does it, once there is work.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it died before the kernel was asked, and would be waited for forever


def run(task: Task) -> Outcome:
    """Do the task and say how it went; whatever goes wrong is an outcome, not an exception."""
    channel = _channel.get()
    channel.receive_lock()
    channel.listen()
    work: Callable[[Task, Channel], Outcome]
    work = _train if task.job.kind == "training" else _evaluate
    try:
        return work(task, channel)
    except BaseException as error:
        return _failure(error)
    finally:
        channel.close_sending()


def _train(task: Task, channel: Channel) -> Outcome:
    import torch  # noqa: PLC0415 - not before the surroundings are settled

    from worker.training.reporter import Reporter  # noqa: PLC0415 - imports torch

    torch.set_num_threads(task.threads)
    result = trainer.fit(
        trainer.Params.validate_all(task.job.params),
        task.datadir,
        task.logdir / task.job.name,
        observers=[Reporter(channel.send, task.logdir)],
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
    import torch  # noqa: PLC0415 - not before the surroundings are settled

    torch.set_num_threads(task.threads)
    channel.should_stop()
    path = task.logdir / str(task.job.checkpoint)
    found = trainer.evaluate(path, task.datadir, kind=task.job.split)
    return Outcome(
        status="finished", metrics=found.metrics, per_class=found.per_class, images=found.images
    )


def _failure(error: BaseException) -> Outcome:
    if isinstance(error, trainer.TrainerError):
        return Outcome("failed", reason=str(error))
    if _is_about_memory(error):
        reason = "there was not enough memory; take a smaller batch_size, net_arch or image size"
        return Outcome("failed", reason=f"{reason} ({_one_line(error)})")
    trace = "".join(traceback.format_exception(error))
    return Outcome("failed", reason=_one_line(error), trace=trace)


def _is_about_memory(error: BaseException) -> bool:
    # torch raises RuntimeError for it on the CPU and a subclass of RuntimeError on a GPU
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("can't allocate memory" in words or "out of memory" in words)
    )


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
