"""`python -m trainer train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from trainer.cli.class_table import LastEvaluation
from trainer.cli.group import data_option, logdir_option, params_options
from trainer.machine.signals import StopSignals
from trainer.observers import FitResult, Observer, RunStarted
from trainer.params.files import read_params

__all__ = ["train"]


@click.command()
@data_option
@logdir_option("The folder for TensorBoard's files and checkpoints/.")
@click.option(
    "--resume", is_flag=True,
    help="Go on from the newest good checkpoint in --logdir; without one, warn and begin anew.",
)  # fmt: skip
@params_options
def train(
    *, datadir: Path, logdir: Path, resume: bool, file: Path | None, settings: tuple[str, ...]
) -> None:
    """Train a classifier on a folder of labelled images.

    All params and data are checked before the first step. Ctrl-C saves a checkpoint and prints how
    to go on; a second Ctrl-C ends at once. `python -m trainer params` lists all params.

    \b
    Examples:
      python -m trainer train --set num_epochs=5 --set batch_size=128
      python -m trainer train --params params.toml --logdir logs/second
      python -m trainer train --resume
    """  # noqa: D301 - click needs the control character
    given, _ = read_params(file, settings)
    evaluation = LastEvaluation()
    with StopSignals() as signals:  # already during the imports, which take seconds
        result = _run(given, datadir, logdir, signals, evaluation, resume=resume)
    if result is None or (result.status == "stopped" and result.last is None):
        click.echo("stopped before the first step; nothing to save", err=True)
    elif int(os.environ.get("RANK", "0")) == 0:  # only one of torchrun's processes prints
        evaluation.print_table()
        _print_result(result, logdir)
    if result is None or result.status == "stopped":
        raise SystemExit(128 + (signals.number or 0))


def _run(
    given: dict[str, Any],
    datadir: Path,
    logdir: Path,
    signals: StopSignals,
    evaluation: LastEvaluation,
    *,
    resume: bool,
) -> FitResult | None:
    from trainer.params.params import Params  # noqa: PLC0415 - importing torch takes seconds
    from trainer.reporting.progress import ProgressBar  # noqa: PLC0415
    from trainer.run.fit import fit  # noqa: PLC0415

    params = Params.validate_all(given)
    if signals.should_stop():
        return None
    observers: list[Observer] = [ProgressBar(params.mode), evaluation]
    if resume:
        observers.append(_WarnFromScratch(logdir))
    return fit(
        params, datadir, logdir,
        observers=observers, resume=resume, should_stop=signals.should_stop,
    )  # fmt: skip


class _WarnFromScratch(Observer):
    """Warns when there is no checkpoint to resume from."""

    def __init__(self, logdir: Path) -> None:
        self._logdir = logdir

    def on_start(self, started: RunStarted) -> None:
        if not started.resumed:
            text = f"no good checkpoint in {self._logdir}/checkpoints: training starts from scratch"
            click.echo(f"WARNING: --resume: {text}", err=True)


def _print_result(result: FitResult, logdir: Path) -> None:
    figures = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
    after = f"{result.status} after epoch {result.epoch} of {result.num_epochs}"
    click.echo(f"{after}; {figures}" if figures else after)
    if result.status == "stopped":
        click.echo("Go on with the same command and --resume.")
    click.echo(f"best: {result.best or 'none yet'}; last: {result.last}")
    click.echo(f"curves: tensorboard --logdir {logdir}")
