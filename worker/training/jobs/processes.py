"""How many processes can train together on this machine."""

import os

import trainer
from worker.errors import WorkerError

__all__ = ["TooManyProcesses", "check_processes"]


class TooManyProcesses(WorkerError):  # noqa: N818 - says what is wrong
    """More processes are asked for than can train together."""


def check_processes(processes: int, params: trainer.Params) -> None:
    """Check that a training with these params can have so many processes on this machine.

    On the CPU each process needs a core of its own: with more of them than cores they only wait for
    each other, and every one takes its own memory. On GPUs nccl allows one process per GPU.

    Raises:
        TooManyProcesses: With the number that is possible.
    """
    if processes == 1:
        return
    if params.gradient_accumulation > 1:
        raise TooManyProcesses(
            f"processes: {processes} together with params: gradient_accumulation: "
            f"{params.gradient_accumulation} is not possible, since several processes share a "
            "batch already; set one of them to 1"
        )
    unit, most = ("GPU", _gpus()) if params.device.startswith("cuda") else ("core", _cores())
    if processes > most:
        remedy = f"at most {most}" if most > 1 else "1"
        raise TooManyProcesses(
            f"processes: {processes} is too many; each needs a {unit} of its own and this machine "
            f"has {most}; set processes to {remedy}"
        )


def _cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> int:
    import torch  # noqa: PLC0415 - imported only where params are checked, which needs it too

    return torch.cuda.device_count()
