"""Checks before a run: what the machine, the processes, the disk or the metrics forbid.

What params alone decide is in `trainer.params.checks`. The checks here depend on where the run
starts, so that params that cannot be trained on one machine can still be served from it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from trainer.errors import ParamsError, TrainerError
from trainer.machine.distributed import is_launched
from trainer.metrics.meters import ScoreMeter
from trainer.params.params import Params
from trainer.run.best_value import unknown_metric

__all__ = ["check_compiler", "check_logdir", "check_run"]


def check_run(params: Params, logdir: str | Path, *, own_steps: bool = False) -> Path:
    """Check that a run can start here, and return its folder; nothing is made or read.

    Args:
        params: Params that are right by themselves.
        logdir: The folder of the run.
        own_steps: Whether the steps are the user's own instead of the built-in ones.

    Raises:
        ParamsError: With everything in the params that cannot be done here.
        TrainerError: The folder cannot be written.
    """
    step_findings = _own_steps_findings(params) if own_steps else _built_in_steps_findings(params)
    _refuse([*step_findings, *_compiler_findings(params)])
    return check_logdir(logdir)


def check_compiler(params: Params) -> None:
    """Check that the net can be compiled, where it is to be.

    Raises:
        ParamsError: torch.compile needs a C++ compiler on the CPU, and there is none.
    """
    _refuse(list(_compiler_findings(params)))


def check_logdir(logdir: str | Path) -> Path:
    """Check that the folder of a run can be written, and return it; it is not made yet.

    Raises:
        TrainerError: The folder cannot be written.
    """
    logdir = Path(logdir)
    nearest = next(folder for folder in (logdir, *logdir.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return logdir
    except OSError as error:
        text = f"logdir {logdir} cannot be written ({error.strerror}); choose another folder"
        raise TrainerError(text) from error


def _refuse(findings: list[str]) -> None:
    if findings:
        raise ParamsError("wrong params", findings)


def _own_steps_findings(params: Params) -> Iterator[str]:
    if params.precision == "float16":
        yield (
            "precision: float16 needs gradient scaling, which only the built-in steps do; "
            "use bfloat16 or float32"
        )


def _built_in_steps_findings(params: Params) -> Iterator[str]:
    if is_launched() and params.gradient_accumulation > 1:
        yield "gradient_accumulation: several processes share each batch already; set it to 1"
    yield from _metrics_findings(params)


def _metrics_findings(params: Params) -> Iterator[str]:
    """Yield each key that names a metric which an evaluation with the built-in steps lacks."""
    names = ScoreMeter(params.n_classes, params.metrics).names
    known = [*names, *(f"raw_{name}" for name in names if params.ema_decay)]
    watched = {
        "best_metric": params.best_metric,
        "early_stopping_metric": params.early_stopping_metric,
    }
    for index, schedule in enumerate(params.learning_rate_schedule):
        watched[f"learning_rate_schedule[{index}].metric"] = schedule.metric
    for key, metric in watched.items():
        if metric not in known:
            yield unknown_metric(key, metric, known)


def _compiler_findings(params: Params) -> Iterator[str]:
    """Look for the compiler where torch will, so that its absence shows before the first step."""
    if not params.compile or torch.device(params.device).type != "cpu":
        return
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415 - takes seconds
    from torch._inductor.exc import InvalidCxxCompiler  # noqa: PLC0415

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError):
        yield (
            "compile: torch.compile needs a C++ compiler on the CPU and finds none; install g++ or "
            "clang++ (or name one in the environment variable CXX), or set compile to false"
        )
