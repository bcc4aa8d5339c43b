"""Lightning with a DataLoader over the same images in memory, transforms per sample.

With TensorBoard and one evaluation per epoch; without progress bar and checkpoints, which only slow
it down.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torchmetrics
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.training.job import Job, a_sample, your_turn
from trainer import Params, build_classifier, set_seeds
from trainer.net.classifier import Logits

PRECISIONS: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed"}


class Images(Dataset[tuple[Tensor, int]]):
    """Images in memory, transformed one by one."""

    def __init__(self, job: Job, params: Params, kind: str) -> None:
        split = job.split(kind)
        self.images = split.images.array.copy()
        self.labels = split.labels.tolist()
        self.transform = a_sample(params, training=kind == "train")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


class Module(pl.LightningModule):  # type: ignore[misc] # it is skipped
    """The published net; loss and accuracy are logged."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.model = Logits(build_classifier(params))
        self.learning_rate = params.learning_rate
        said: dict[str, Any] = {"num_classes": params.n_classes}
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(**said)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.log("loss/train", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        logits = self.model(x)
        self.accuracy(logits, y)
        self.log("loss/test", nn.functional.cross_entropy(logits, y))
        self.log("accuracy/test", self.accuracy)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


class Turns(pl.Callback):  # type: ignore[misc]
    """Holds the training between epochs until it is its turn again."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        trainer.should_stop = not your_turn()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        trainer.should_stop = not your_turn()


def main() -> None:
    job = Job.from_arguments()
    params = Params.validate_all(job.params)
    set_seeds(params.manual_seed)
    how: dict[str, Any] = {"num_workers": job.workers, "persistent_workers": job.workers > 0}
    train = DataLoader(Images(job, params, "train"), params.batch_size, shuffle=True, **how)
    test = DataLoader(Images(job, params, "test"), params.eval_batch_size, **how)
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=PRECISIONS[params.precision],
        max_epochs=-1,
        logger=TensorBoardLogger(job.logdir),
        callbacks=[Turns()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Module(params), train, test)


if __name__ == "__main__":
    main()
