"""`python -m trainer cross-validate`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli.group import data_option, logdir_option, params_options
from trainer.machine.signals import StopSignals
from trainer.params.files import read_params

if TYPE_CHECKING:
    from trainer.tuning.cross_validation import CrossValidation

__all__ = ["cross_validate"]


@click.command("cross-validate", short_help="Train and test a model for each fold of the images.")
@data_option
@logdir_option("The folder for fold-1, fold-2, ... and folds.json.")
@click.option("--folds", default=5, show_default=True, help="Number of folds, at least 2.")
@click.option("--resume", is_flag=True, help="Go on with the folds that are not done.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@params_options
def cross_validate(
    *,
    datadir: Path,
    logdir: Path,
    folds: int,
    resume: bool,
    as_json: bool,
    file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Train and test a new model for each fold of the training images.

    Each image is tested on once, by a model that was not trained on it. The folds are stratified
    and drawn by manual_seed; the test folder is not used. Ctrl-C saves a checkpoint, and --resume
    goes on from it.

    \b
    Examples:
      python -m trainer cross-validate --folds 5 --set num_epochs=5
      python -m trainer cross-validate --folds 5 --set num_epochs=5 --resume
    """  # noqa: D301 - click needs the control character
    given, _ = read_params(file, settings)
    with StopSignals() as signals:  # already during the imports, which take seconds
        result = _run(given, datadir, logdir, folds, signals, resume=resume)
    if int(os.environ.get("RANK", "0")) == 0:  # only one of torchrun's processes prints
        lines = (
            [json.dumps(asdict(result))]
            if as_json
            else [*_table(result), _last_line(result, folds)]
        )
        click.echo("\n".join(lines))
    if result.status == "stopped":
        raise SystemExit(128 + (signals.number or 0))


def _run(
    given: dict[str, Any],
    datadir: Path,
    logdir: Path,
    folds: int,
    signals: StopSignals,
    *,
    resume: bool,
) -> CrossValidation:
    from trainer.params.params import Params  # noqa: PLC0415 - importing torch takes seconds
    from trainer.reporting.progress import ProgressBar  # noqa: PLC0415
    from trainer.tuning.cross_validation import cross_validate as run  # noqa: PLC0415

    params = Params.validate_all(given)
    return run(
        params, datadir, logdir, folds,
        observers=[ProgressBar(params.mode)], resume=resume, should_stop=signals.should_stop,
    )  # fmt: skip


def _table(result: CrossValidation) -> Iterator[str]:
    """Yield one line per metric: the value of each fold, and mean and standard deviation."""
    width = max(len("metric"), *map(len, result.mean), 0)
    heads = [f"fold {fold.number}" for fold in result.folds]
    yield "  ".join([f"{'metric':<{width}}", *(f"{head:>8}" for head in heads), "mean ± std"])
    for name, mean in result.mean.items():
        values = [f"{fold.metrics[name]:8.4f}" for fold in result.folds]
        spread = f" ± {result.std[name]:.4f}" if name in result.std else ""
        yield "  ".join([f"{name:<{width}}", *values, f"{mean:.4f}{spread}"])


def _last_line(result: CrossValidation, folds: int) -> str:
    text = f"{result.status} after {len(result.folds)} of {folds} folds"
    if result.status == "stopped":
        return f"{text}\nGo on with the same command and --resume."
    return text
