"""The main function of a job's process.

The process never outlives its worker, takes its orders from nobody else (a Ctrl-C in the terminal
reaches the worker, which then asks the process to stop), and yields to serving in every respect.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
from pathlib import Path

from worker.training.channel import Channel
from worker.training.process_messages import Task
from worker.training.work import perform

__all__ = ["main"]

NICENESS = 10
OOM_SCORE = 800  # of 1000: the kernel ends the training before the worker that serves
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(end: socket.socket, task: Task) -> None:
    """Do a task and send its outcome.

    Args:
        end: This process's end of the connection to the worker.
        task: What to do.
    """
    _settle(task.threads)
    channel = Channel(end)
    channel.receive_lock()
    channel.listen()
    channel.send(perform(task, channel))
    channel.close_sending()


def _settle(threads: int) -> None:
    """Prepare the process before torch is imported, which reads the environment.

    Args:
        threads: Threads for the computation.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    die_with_parent()
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends in any way (Linux).

    On other systems the end of the stream from the parent does it, once the task has begun.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it died before the kernel was asked
