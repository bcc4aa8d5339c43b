"""K-fold cross-validation: a new model for each fold, trained on the others and tested on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from trainer.checkpoints.folder import CheckpointFolder, writable
from trainer.data.decoding import Told
from trainer.data.splits import Split, folds, open_split
from trainer.errors import CheckpointError, ParamsError
from trainer.machine.distributed import Group, is_restarted, process_group
from trainer.machine.durable import write_durably
from trainer.machine.signals import stop_requests
from trainer.observers import Observer
from trainer.params.params import Params
from trainer.run.fit import check_together, open_together, run_default
from trainer.run.plan import RunPlan

logger = logging.getLogger(__name__)

NAME = "folds.json"
Pairs = Sequence[tuple[Split, Split]]


@dataclass(frozen=True)
class Fold:
    """A fold that is done.

    Attributes:
        number: From 1 on.
        epoch: How many epochs were trained.
        images: How many were tested on.
        metrics: Of the last evaluation, with `loss` among them.
    """

    number: int
    epoch: int
    images: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class CrossValidation:
    """What the folds gave.

    Attributes:
        status: "finished", or "stopped" when it was asked to stop (and saved before it did).
        folds: Those that are done.
        mean: Of each metric over the folds.
        std: The standard deviation of a sample (n - 1); empty when fewer than two folds are done.
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

    Every fold is a run as `fit` makes it, in `logdir/fold-1` and so on; `logdir/folds.json` has the
    figures of those that are done. Each image is tested on once, the folds are stratified and drawn
    by `manual_seed`. The test folder and `validation_split` are not used.

    Args:
        params: The published dict or validated params.
        datadir: The folder that holds `train`.
        logdir: Where the folds' folders go.
        folds: How many, at least 2.
        observers: Told of every fold's run, one after the other.
        resume: Go on with the folds that are not done.
        should_stop: Asked before every batch; when true, a checkpoint is saved. When not given,
            Ctrl-C and SIGTERM stop.

    Raises:
        ParamsError: The params or the number of folds are wrong; nothing was read.
        DataError: The images are bad, or a class has fewer than there are folds.
        CheckpointError: What is to be resumed has other folds, or does not fit.
        TrainerError: `logdir` cannot be written; nothing was read.
    """
    params = Params.validate_all(params)
    if folds < 2:
        raise ParamsError("wrong params", [f"folds: {folds} are too few; 2 at least"])
    logdir = writable(logdir)
    with process_group(params.device) as group, stop_requests(should_stop) as stop:
        check_together(params, group)
        pairs = open_together(partial(_open_folds, params, datadir, folds), group, observers, stop)
        if pairs is None:
            return _summary("stopped", [])
        done = FoldsFile(logdir / NAME, params.manual_seed, pairs)
        done.start(group, resume=resume or is_restarted())
        for number, pair in enumerate(pairs, 1):
            if number in done.done:
                continue
            logger.info("fold %d of %d", number, folds)
            result = run_default(
                RunPlan(params, group, fold_folder(logdir, number), *pair),
                observers=observers,
                resume=resume,
                should_stop=stop,
            )
            if result.status == "stopped":
                return _summary("stopped", done.folds)
            fold = Fold(number, result.epoch, len(pair[1]), result.metrics)
            done.add(fold, writes=group.is_first)
        return _summary("finished", done.folds)


def fold_folder(logdir: Path, number: int) -> Path:
    """Return the log directory of a fold."""
    return logdir / f"fold-{number}"


class FoldsFile:
    """`folds.json`: which folds are done, with their figures.

    Args:
        path: The file.
        seed: What the folds were drawn by.
        pairs: The folds.
    """

    def __init__(self, path: Path, seed: int, pairs: Pairs) -> None:
        self._path = path
        self._drawn = {
            "folds": len(pairs),
            "manual_seed": seed,
            "images": sum(len(tested) for _, tested in pairs),
        }
        self.done: dict[int, Fold] = {}

    @property
    def folds(self) -> list[Fold]:
        """Those that are done, by number."""
        return [self.done[number] for number in sorted(self.done)]

    def start(self, group: Group, *, resume: bool) -> None:
        """Take over what is done, or begin anew and put an earlier one's checkpoints aside.

        Raises:
            CheckpointError: What is to be resumed has other folds, or cannot be read.
        """
        if resume and self._path.exists():
            self.done = {fold.number: fold for fold in self._read()}
            return
        if resume and group.is_first:
            logger.warning("%s is not there: all folds are trained from scratch", self._path)
        group.gather(None)  # nobody looks for the file after it is written
        if group.is_first:
            for folder in self._path.parent.glob("fold-*"):
                with closing(CheckpointFolder(folder)) as checkpoints:
                    checkpoints.set_aside()
            self._write()
        group.gather(None)

    def add(self, fold: Fold, *, writes: bool) -> None:
        """Note that a fold is done; only one of several processes writes."""
        self.done[fold.number] = fold
        if writes:
            self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        found = asdict(_summary("finished", self.folds))
        del found["status"]
        text = json.dumps({**self._drawn, "done": found.pop("folds"), **found}, indent=2)
        write_durably(self._path, f"{text}\n".encode())

    def _read(self) -> list[Fold]:
        try:
            content = json.loads(self._path.read_text("utf-8"))
            drawn = {key: content[key] for key in self._drawn}
            done = [Fold(**one) for one in content["done"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self._path} cannot be read: {error!r}") from error
        for key, value in self._drawn.items():
            if drawn[key] != value:
                text = f"{self._path} has {key}={drawn[key]}, and now it is {value}"
                raise CheckpointError(f"{text}; go on with the same, or without resume")
        return done


def _open_folds(params: Params, datadir: str | Path, count: int, told: Told) -> Pairs:
    return folds(open_split(params, "train", datadir, told=told), count, params.manual_seed)


def _summary(status: Literal["finished", "stopped"], done: list[Fold]) -> CrossValidation:
    names = done[0].metrics if done else ()
    values = {name: [fold.metrics[name] for fold in done] for name in names}
    return CrossValidation(
        status=status,
        folds=done,
        mean={name: fmean(some) for name, some in values.items()},
        std={name: stdev(some) for name, some in values.items() if len(some) > 1},
    )
