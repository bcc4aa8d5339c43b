"""`python -m trainer train`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from trainer.cli.group import data_option, params_options
from trainer.observers import FitResult
from trainer.params_file import read_params


@click.command()
@data_option
@click.option(
    "--logdir", "--logs", "logdir",
    default="logs", show_default=True, type=click.Path(path_type=Path),
    help="Where TensorBoard's files and checkpoints/ go.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on from the newest good checkpoint in --logdir.")
@params_options
def train(
    *, datadir: Path, logdir: Path, resume: bool, file: Path | None, settings: tuple[str, ...]
) -> None:
    r"""Train a classifier on a folder of labelled images.

    All params and data are checked before the first step. Ctrl-C saves a checkpoint and says how to
    go on; a second Ctrl-C ends at once. `python -m trainer params` lists what can be set.

    \b
    Examples:
      python -m trainer train --set num_epochs=5 --set batch_size=128
      python -m trainer train --params params.toml --logdir logs/second
      python -m trainer train --resume
    """
    given, _ = read_params(file, settings)
    from trainer.params import Params  # noqa: PLC0415 - the help must not wait for torch
    from trainer.progress import ProgressBar  # noqa: PLC0415
    from trainer.runs import fit  # noqa: PLC0415
    from trainer.signals import StopSignals  # noqa: PLC0415

    params = Params.validate_all(given)
    with StopSignals() as signals:
        bar = ProgressBar(params.mode)
        result = fit(
            params, datadir, logdir,
            observers=[bar], resume=resume, should_stop=signals.have_come,
        )  # fmt: skip
    if int(os.environ.get("RANK", "0")) == 0:  # of torchrun's processes one speaks
        _say(result, logdir)
    if result.status == "stopped":
        raise SystemExit(128 + (signals.number or 0))


def _say(result: FitResult, logdir: Path) -> None:
    figures = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
    click.echo(f"{result.status} after epoch {result.epoch} of {result.num_epochs}; {figures}")
    if result.status == "stopped":
        click.echo("Go on with the same command and --resume.")
    click.echo(f"best: {result.best or 'none yet'}; last: {result.last}")
    click.echo(f"curves: tensorboard --logdir {logdir}")
