"""`python -m trainer train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from trainer.cli.class_table import LastEvaluation
from trainer.cli.group import data_option, params_options
from trainer.machine.signals import StopSignals
from trainer.observers import FitResult, Observer, RunStarted
from trainer.params.files import read_params


@click.command()
@data_option
@click.option(
    "--logdir", "--logs", "logdir",
    default="logs", show_default=True, type=click.Path(path_type=Path),
    help="Where TensorBoard's files and checkpoints/ go.",
)  # fmt: skip
@click.option(
    "--resume", is_flag=True,
    help="Go on from the newest good checkpoint in --logdir; warns when there is none.",
)  # fmt: skip
@params_options
def train(
    *, datadir: Path, logdir: Path, resume: bool, file: Path | None, settings: tuple[str, ...]
) -> None:
    """Train a classifier on a folder of labelled images.

    All params and data are checked before the first step. Ctrl-C saves a checkpoint and says how to
    go on; a second Ctrl-C ends at once. `python -m trainer params` lists what can be set.

    \b
    Examples:
      python -m trainer train --set num_epochs=5 --set batch_size=128
      python -m trainer train --params params.toml --logdir logs/second
      python -m trainer train --resume
    """  # noqa: D301 - click wants the character, not a backslash
    given, _ = read_params(file, settings)
    evaluation = LastEvaluation()
    with StopSignals() as signals:  # from before the imports, which take seconds, on
        result = _run(given, datadir, logdir, signals, evaluation, resume=resume)
    if result is None or (result.status == "stopped" and result.last is None):
        click.echo("stopped before the first step; nothing to save", err=True)
    elif int(os.environ.get("RANK", "0")) == 0:  # of torchrun's processes one speaks
        evaluation.print_table()
        _say(result, logdir)
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
    from trainer.params.params import Params  # noqa: PLC0415 - the help must not wait for torch
    from trainer.reporting.progress import ProgressBar  # noqa: PLC0415
    from trainer.run.fit import fit  # noqa: PLC0415

    params = Params.validate_all(given)
    if signals.should_stop():
        return None
    observers: list[Observer] = [ProgressBar(params.mode), evaluation]
    if resume:
        observers.append(_FromScratch(logdir))
    return fit(
        params, datadir, logdir,
        observers=observers, resume=resume, should_stop=signals.should_stop,
    )  # fmt: skip


class _FromScratch(Observer):
    """Warns when there was nothing to resume from."""

    def __init__(self, logdir: Path) -> None:
        self._logdir = logdir

    def on_start(self, started: RunStarted) -> None:
        if not started.resumed:
            text = f"no good checkpoint in {self._logdir}/checkpoints: training starts from scratch"
            click.echo(f"WARNING: --resume: {text}", err=True)


def _say(result: FitResult, logdir: Path) -> None:
    figures = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
    after = f"{result.status} after epoch {result.epoch} of {result.num_epochs}"
    click.echo(f"{after}; {figures}" if figures else after)
    if result.status == "stopped":
        click.echo("Go on with the same command and --resume.")
    click.echo(f"best: {result.best or 'none yet'}; last: {result.last}")
    click.echo(f"curves: tensorboard --logdir {logdir}")
