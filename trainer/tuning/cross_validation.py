"""K-fold cross-validation: a new model for each fold, trained on the others and tested on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from trainer.checkpoints.folder import CheckpointFolder
from trainer.data.decoding_pool import OnProgress
from trainer.data.splits import Split, open_split
from trainer.data.splits import folds as make_folds
from trainer.errors import CheckpointError, ParamsError
from trainer.machine.distributed import Group, is_restarted
from trainer.machine.durable import write_durably
from trainer.observers import Observer
from trainer.params.params import Params
from trainer.run.context import RunContext, run_context
from trainer.run.fit import run_default
from trainer.run.plan import RunPlan
from trainer.run.preflight import check_run

__all__ = ["CrossValidation", "Fold", "FoldsFile", "cross_validate", "fold_folder"]

logger = logging.getLogger(__name__)

FILE_NAME = "folds.json"
FoldSplits = Sequence[tuple[Split, Split]]
"""For each fold the images to train on and those to test on."""


@dataclass(frozen=True)
class Fold:
    """The result of one fold.

    Attributes:
        number: The number of the fold, from 1 on.
        epoch: Number of epochs that were trained.
        images: Number of images that were tested on.
        metrics: Loss and metrics of the last evaluation, by name.
    """

    number: int
    epoch: int
    images: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class CrossValidation:
    """The results of all folds.

    Attributes:
        status: "finished", or "stopped" when it was asked to stop (and saved before it did).
        folds: The folds that are done.
        mean: The mean of each metric over the folds.
        std: The sample standard deviation (n - 1) of each metric; empty when fewer than two folds
            are done.
    """

    status: Literal["finished", "stopped"]
    folds: list[Fold]
    mean: dict[str, float]
    std: dict[str, float]


def cross_validate(
    params: Mapping[str, Any] | Params,
    datadir: str | Path,
    logdir: str | Path,
    folds: int = 5,
    *,
    observers: Sequence[Observer] = (),
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> CrossValidation:
    """Train and test a new classifier for each fold of the training images.

    Each fold is a run as by `fit`, in `logdir/fold-1` and so on; `logdir/folds.json` has the
    results so far. Each image is tested on once. The folds are stratified and drawn by
    `manual_seed`; the test folder and `validation_split` are not used. Errors are those of `fit`.

    Args:
        params: The published dict or validated params.
        datadir: The folder that holds `train`.
        logdir: The folder for the folds' folders.
        folds: Number of folds, at least 2, at most the number of images of the smallest class.
        observers: Observers of every fold's run.
        resume: Go on with the folds that are not done.
        should_stop: As for `fit`.
    """
    params = Params.validate_all(params)
    if folds < 2:
        raise ParamsError("wrong params", [f"folds: {folds} are too few; use 2 or more"])
    logdir = check_run(params, logdir)
    with run_context(params, logdir, observers, should_stop, resume=resume) as context:
        splits = context.open_together(partial(_open_folds, params, datadir, folds))
        return _train_folds(context, splits) if splits else _summary("stopped", [])


def fold_folder(logdir: Path, number: int) -> Path:
    """Return the log directory of a fold."""
    return logdir / f"fold-{number}"


class FoldsFile:
    """`folds.json`: the results of the folds that are done.

    Args:
        path: The file.
        seed: The seed that the folds are drawn by.
        splits: The folds.

    Attributes:
        done: The folds that are done, by number.
    """

    def __init__(self, path: Path, seed: int, splits: FoldSplits) -> None:
        self._path = path
        self._identity = {
            "folds": len(splits),
            "manual_seed": seed,
            "images": sum(len(test) for _, test in splits),
        }
        self.done: dict[int, Fold] = {}

    @property
    def folds(self) -> list[Fold]:
        """The folds that are done, in the order of their numbers."""
        return [self.done[number] for number in sorted(self.done)]

    def start(self, group: Group, *, resume: bool) -> None:
        """Read the folds that are done, or begin anew and set earlier checkpoints aside.

        Raises:
            CheckpointError: The file has other folds, or cannot be read.
        """
        if resume and self._path.exists():
            self.done = {fold.number: fold for fold in self._read()}
            return
        if resume and group.is_first:
            logger.warning("%s is not there: all folds are trained from scratch", self._path)
        group.gather(None)  # so that all have looked for the file before one writes it
        if group.is_first:
            for folder in self._path.parent.glob("fold-*"):
                with closing(CheckpointFolder(folder)) as checkpoints:
                    checkpoints.set_aside()
            self._write()
        group.gather(None)

    def add(self, fold: Fold, *, write: bool) -> None:
        """Add a fold that is done; only one of several processes writes the file."""
        self.done[fold.number] = fold
        if write:
            self._write()

    def _write(self) -> None:
        summary = asdict(_summary("finished", self.folds))
        content = {**self._identity, "done": summary["folds"]}
        content |= {key: summary[key] for key in ("mean", "std")}
        text = json.dumps(content, indent=2)
        write_durably(self._path, f"{text}\n".encode())

    def _read(self) -> list[Fold]:
        try:
            content = json.loads(self._path.read_text("utf-8"))
            identity = {key: content[key] for key in self._identity}
            done = [Fold(**one) for one in content["done"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self._path} cannot be read: {error!r}") from error
        for key, value in self._identity.items():
            if identity[key] != value:
                text = f"{self._path} has {key}={identity[key]}, but now it is {value}"
                raise CheckpointError(f"{text}; set it as it was, or begin anew without resume")
        return done


def _open_folds(
    params: Params, datadir: str | Path, count: int, on_progress: OnProgress
) -> FoldSplits:
    split = open_split(params, "train", datadir, on_progress=on_progress)
    return make_folds(split, count, params.manual_seed)


def _train_folds(context: RunContext, splits: FoldSplits) -> CrossValidation:
    """Train the folds that are not done, one after the other."""
    file = FoldsFile(context.logdir / FILE_NAME, context.params.manual_seed, splits)
    file.start(context.group, resume=context.resume or is_restarted())
    for number, (train, test) in enumerate(splits, 1):
        if number in file.done:
            continue
        logger.info("fold %d of %d", number, len(splits))
        fold_context = replace(context, logdir=fold_folder(context.logdir, number))
        result = run_default(RunPlan(fold_context, train, test))
        if result.status == "stopped":
            return _summary("stopped", file.folds)
        fold = Fold(number, result.epoch, len(test), result.metrics)
        file.add(fold, write=context.group.is_first)
    return _summary("finished", file.folds)


def _summary(status: Literal["finished", "stopped"], done: list[Fold]) -> CrossValidation:
    names = done[0].metrics if done else ()
    values = {name: [fold.metrics[name] for fold in done] for name in names}
    return CrossValidation(
        status=status,
        folds=done,
        mean={name: fmean(some) for name, some in values.items()},
        std={name: stdev(some) for name, some in values.items() if len(some) > 1},
    )
