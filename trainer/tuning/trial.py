"""Training steps that leave nothing behind, to try learning rates and batch sizes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from trainer.data.batches import Batch, new_batches
from trainer.data.splits import Split, held_out, open_split
from trainer.machine.distributed import Group
from trainer.machine.seeds import deterministic_algorithms, set_seeds
from trainer.metrics.meters import ConfusionMeter
from trainer.net.classifier import Logits, new_classifier
from trainer.params.params import Params
from trainer.run.learner import Learner, prepared_learner
from trainer.run.preflight import check_compiler
from trainer.run.steps import ClassifierSteps

__all__ = ["Trial", "open_trial"]


@dataclass(frozen=True)
class Trial:
    """A new classifier that takes the steps that `fit` would take, on the same images.

    There are no schedules, evaluations, averaged weights or checkpoints.
    """

    params: Params
    split: Split
    learner: Learner
    steps: ClassifierSteps

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the batches that a run of this batch size gets, epoch after epoch without end."""
        params = self.params.model_copy(update={"batch_size": batch_size})
        batches = new_batches(params, self.split, training=True)
        for epoch in count():
            yield from batches.training_batches(epoch)

    def step(self, batch: Batch) -> float | None:
        """Take a step; return its loss, or None when the loss or a gradient is not finite."""
        meter = ConfusionMeter(self.params.n_classes)
        loss, _ = self.steps.train_step(
            batch.x, batch.y, self.learner.net, self.learner.optim, train_torchmetrics=meter
        )
        return loss if self.learner.guard.accept_step(loss) else None


@contextmanager
def open_trial(params: Params, datadir: str | Path) -> Iterator[Trial]:
    """Yield a trial of a new classifier, seeded as for a run.

    Raises:
        ParamsError: The net is to be compiled, and there is no compiler.
        DataError: The training images are bad.
    """
    check_compiler(params)
    split = _training_split(params, datadir)
    set_seeds(params.manual_seed)
    model = new_classifier(params)
    net = Logits(model).train()
    with (
        deterministic_algorithms(on=params.deterministic),
        prepared_learner(params, model, net, Group()) as learner,
    ):
        yield Trial(params, split, learner, ClassifierSteps(params, split.labels))


def _training_split(params: Params, datadir: str | Path) -> Split:
    """Open the images that a run would train on; the test folder is not needed."""
    split = open_split(params, "train", datadir)
    return held_out(split, params)[0] if params.validation_split else split
