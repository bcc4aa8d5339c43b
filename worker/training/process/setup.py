"""What a job's process does to itself before it begins."""

import atexit
import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
from pathlib import Path

__all__ = ["die_with_parent", "set_up"]

NICENESS = 10
OOM_SCORE = 800  # of 1000: the kernel ends the training before the worker that serves
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def set_up(threads: int) -> None:
    """Prepare the process before torch is imported, which reads the environment.

    Processes that it starts inherit all of it except that they die with their parent.

    Args:
        threads: Threads for the computation of each process.
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
    atexit.register(gc.freeze)  # torch's objects: no search for garbage in them at the end


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends in any way (Linux).

    On other systems the end of the stream from the parent does it, once the task has begun.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it died before the kernel was asked
